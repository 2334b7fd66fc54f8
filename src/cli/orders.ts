import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'

import { SingleBar } from 'cli-progress'

import type { Service } from '../compose.js'
import { loadConfig } from '../config.js'
import { type OrderId, orderIdFrom } from '../domain/order.js'
import { signatureOf, signText } from '../domain/sign.js'
import { readCsv, readNdjson } from '../http/ops/import-lines.js'
import { importOrders } from '../http/ops/import-orders.js'
import { historyView } from '../http/ops/record-schema.js'
import { syncedView } from '../http/ops/sync-view.js'
import { newTraceId } from '../trace-id.js'
import { actorName, CommandFailed, Misused, type Output, say, show, table, withService, yuan } from './run.js'

/** A ready-signed curl line for one order, by its id or, where it is no number, by the merchant's number. */
export function sign(order: string, options: Readonly<{ url?: string }>): void {
  const config = loadConfig(process.env)
  const secret = config.SIGN_SECRETS[0]
  if (secret === undefined) throw new CommandFailed('SIGN_SECRETS is not set: nothing to sign with.')
  const reqTime = Math.floor(Date.now() / 1000)
  const id = /^\d{1,19}$/.test(order) ? orderIdFrom(BigInt(order)) : undefined
  const fields = id === undefined ? { businessNo: order, reqTime } : { paymentId: id, reqTime }
  const signature = signatureOf(signText(fields), secret, config.SIGN_TYPE)
  const key = id === undefined ? `"businessNo":${JSON.stringify(order)}` : `"paymentId":${id}`
  const body = `{${key},"reqTime":${reqTime},"sign":"${signature}"}`.replaceAll("'", `'\\''`)
  const url = options.url ?? `http://127.0.0.1:${config.PORT}`
  say(`curl -s ${url}/unipay/syncPay -H 'Content-Type: application/json' -d '${body}'`)
}

async function findHistory(service: Service, order: string) {
  const { records } = service.operations
  const id = /^\d{1,19}$/.test(order) ? orderIdFrom(BigInt(order)) : undefined
  const history =
    (id === undefined ? null : await records.findHistory({ id })) ?? (await records.findHistory({ businessNo: order }))
  if (history === null) throw new CommandFailed(`No order has the id or number ${order}.`)
  return history
}

export async function showOrder(order: string, output: Output): Promise<void> {
  await withService(async (service) => {
    const history = historyView(await findHistory(service, order))
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

export async function syncOne(order: string, options: Output & Readonly<{ dryRun?: boolean }>): Promise<void> {
  await withService(async (service) => {
    const { id } = await findHistory(service, order)
    const dryRun = options.dryRun === true
    const traceId = newTraceId()
    const outcome = await service.syncOrder({
      key: { id: id as OrderId },
      traceId,
      traceparent: null,
      source: 'operator',
      actor: actorName(),
      clientIp: null,
      dryRun,
    })
    if (outcome.kind === 'gateway_unknown')
      throw new CommandFailed(`Nothing changed. ${outcome.reason}: ${outcome.message} (trace ${traceId})`)
    if (outcome.kind !== 'synced' && outcome.kind !== 'mismatch')
      throw new CommandFailed(`Nothing changed: ${outcome.kind} (trace ${traceId})`)
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

/** Imports a file of NDJSON or, by its name, CSV. Bad lines make the exit status 1; the good ones are in. */
export async function importFile(file: string, output: Output): Promise<void> {
  const size = await stat(file).catch(() => null)
  if (size === null || !size.isFile()) throw new Misused(`${file} is not a file that can be read.`)
  await withService(async (service) => {
    const stream = createReadStream(file)
    const bar = new SingleBar({
      format: 'import {bar} {percentage}% | {orders} orders, {bad} bad',
      clearOnComplete: false,
    })
    const isShown = output.json !== true && process.stderr.isTTY
    if (isShown) bar.start(size.size, 0, { orders: 0, bad: 0 })
    const report = await importOrders(
      file.toLowerCase().endsWith('.csv') ? readCsv(stream) : readNdjson(stream),
      service.operations.registerMany,
      {
        now: Date.now,
        onProgress: ({ created, same, conflict, invalid }) =>
          isShown && bar.update(stream.bytesRead, { orders: created + same, bad: conflict + invalid }),
      },
    )
    if (isShown) bar.stop()
    const { errors, ...counts } = report
    show(output, report, () =>
      [
        table(Object.keys(counts), [Object.values(counts)]),
        ...errors.slice(0, 20).map(({ line, reason }) => `line ${line}: ${reason}`),
        ...(errors.length > 20
          ? [`… and ${counts.conflict + counts.invalid - 20} more (--json tells the first 1000)`]
          : []),
      ].join('\n'),
    )
    if (counts.conflict + counts.invalid > 0)
      throw new CommandFailed(`${counts.conflict + counts.invalid} lines did not go in.`)
  })
}
