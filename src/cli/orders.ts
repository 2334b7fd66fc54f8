import type { Core } from '../compose.js'
import { type OrderId, orderIdFrom } from '../domain/order.js'
import { historyView } from '../http/ops/record-schema.js'
import { nothingChanged, syncedView } from '../http/ops/sync-view.js'
import type { SyncOutcome } from '../sync/sync-order.js'
import { newTraceId } from '../trace-id.js'
import { type Acting, actorName, CommandFailed, type Output, show, table, yuan } from './output.js'
import { withService } from './run.js'

async function findHistory(core: Core, order: string) {
  const { records } = core.operations
  const id = /^\d{1,19}$/.test(order) ? orderIdFrom(BigInt(order)) : undefined
  const history =
    (id === undefined ? null : await records.findHistory({ id })) ?? (await records.findHistory({ businessNo: order }))
  if (history === null) throw new CommandFailed(`No order has the id or number ${order}.`)
  return history
}

export async function showOrder(order: string, output: Output): Promise<void> {
  await withService(async (core) => {
    const history = historyView(await findHistory(core, order))
    show(output, history, () => historyText(history))
  })
}

function historyText(history: ReturnType<typeof historyView>): string {
  const { order, syncs, repairs, notices, exceptions } = history
  const parts = [
    table(
      ['order', 'number', 'channel', 'yuan', 'status', 'created', 'expires', 'next sync'],
      [
        [
          order.paymentId,
          order.businessNo,
          order.channel,
          yuan(order.amount),
          order.status,
          order.createTime,
          order.expiredTime,
          order.nextSyncTime,
        ],
      ],
    ),
  ]
  if (syncs.length > 0)
    parts.push(
      table(
        ['sync at', 'trace', 'by', 'outcome', 'there', 'decision', 'repair', 'ms', 'why not'],
        syncs.map((sync) => [
          sync.createTime,
          sync.traceId,
          sync.actor ?? sync.source,
          sync.outcome,
          sync.tradeState,
          sync.decision,
          sync.repairOrderNo,
          sync.durationMs,
          sync.errorMsg,
        ]),
      ),
    )
  if (repairs.length > 0)
    parts.push(
      table(
        ['repair', 'way', 'from', 'to', 'yuan', 'by', 'at'],
        repairs.map((repair) => [
          repair.repairOrderNo,
          repair.way,
          repair.statusBefore,
          repair.statusAfter,
          yuan(repair.amount),
          repair.actor,
          repair.createTime,
        ]),
      ),
    )
  if (notices.length > 0)
    parts.push(
      table(
        ['notice', 'state', 'sends', 'last answer', 'next', 'url'],
        notices.map((notice) => [
          notice.id,
          notice.state,
          notice.attempts,
          notice.history[0]?.outcome,
          notice.nextAttemptTime,
          notice.url,
        ]),
      ),
    )
  if (exceptions.length > 0)
    parts.push(
      table(
        ['exception', 'kind', 'state', 'at risk, yuan', 'seen', 'resolved by', 'note'],
        exceptions.map((found) => [
          found.id,
          found.kind,
          found.state,
          yuan(found.atRisk),
          found.seenCount,
          found.resolvedBy,
          found.note,
        ]),
      ),
    )
  return parts.join('\n')
}

export async function syncOne(order: string, options: Output & Acting & Readonly<{ dryRun?: boolean }>): Promise<void> {
  const actor = actorName(options)
  await withService(async (core) => {
    const { id } = await findHistory(core, order)
    const dryRun = options.dryRun === true
    const traceId = newTraceId()
    const outcome = await core.syncOrder({
      key: { id: id as OrderId },
      traceId,
      traceparent: null,
      source: 'operator',
      actor,
      clientIp: null,
      dryRun,
    })
    if (outcome.kind !== 'synced' && outcome.kind !== 'mismatch')
      throw new CommandFailed(`${nothingChanged(outcome)} ${whyNot(outcome)} (trace ${traceId})`)
    const view = syncedView(outcome, { traceId, dryRun })
    const verb = dryRun ? 'would be repaired' : 'repaired'
    show(options, view, () =>
      [
        table(
          ['order', 'here', 'there', 'decision', verb, 'becomes', 'trace'],
          [
            [
              view.here.paymentId,
              view.here.status,
              view.evidence.gatewayState,
              view.decision.action,
              view.repair ? 'yes' : 'no',
              view.here.statusAfter,
              traceId,
            ],
          ],
        ),
        view.decision.why,
      ].join('\n'),
    )
  })
}

function whyNot(outcome: Exclude<SyncOutcome, { kind: 'synced' | 'mismatch' }>): string {
  switch (outcome.kind) {
    case 'gateway_unknown':
      return `${outcome.reason}: ${outcome.message}`
    case 'busy':
      return 'The order is being synced right now; look again in a moment.'
    case 'no_channel':
      return 'The order has no asynchronous channel: nobody to ask.'
    case 'channel_not_configured':
      return `The channel ${outcome.order.channel ?? ''} is not configured here.`
    case 'not_found':
      return 'The order is gone.'
  }
}
