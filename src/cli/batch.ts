import { setTimeout as pause } from 'node:timers/promises'

import type { Core } from '../compose.js'
import { CHANNELS, ORDER_STATUSES } from '../domain/order.js'
import { BATCH_ORDERS_MAX, batchLineView, batchView, newBatchOf, newBatchSchema } from '../http/ops/batch-routes.js'
import { pageOf } from '../http/ops/page.js'
import { type BatchProgress, UNTOLD_RESULTS } from '../store/batches.js'
import { newTraceId } from '../trace-id.js'
import { type Acting, actorName, CommandFailed, Misused, type Output, show, table, yuan } from './output.js'
import { createProgress } from './progress.js'
import { type PageOptions, pageAsked, withMore } from './queues.js'
import { withService } from './run.js'

export type BatchOptions = Output &
  Acting &
  Readonly<{
    channel?: string
    status?: string
    from?: string
    to?: string
    limit?: string
    rate?: string
    dryRun?: boolean
    resume?: string
    cancel?: string
    show?: string
  }>

/** Between two looks at a batch that is watched; who works on it looks at it about as often. Milliseconds. */
const LOOK_MS = 200
/** A database that fails over is back by then; a batch outlives it, here or elsewhere. Milliseconds. */
const AWAY_MS_MAX = 60_000

const MEANING = {
  channel: `--channel is one of ${CHANNELS.join(', ')}.`,
  status: `--status is one of ${ORDER_STATUSES.join(', ')}.`,
  createdFrom: '--from is a time such as 2026-11-24T03:00:00+08:00, or so long ago: 30m, 2h, 1d.',
  createdTo: '--to is a time such as 2026-11-24T03:00:00+08:00, or so long ago: 30m, 2h, 1d.',
  limit: `--limit is a whole number from 1 to ${BATCH_ORDERS_MAX}.`,
  ratePerS: '--rate is a whole number from 1 to 10000.',
  window: '--from is not before --to: no order was created in between.',
} as const

/** Makes a batch (or takes up, cancels or shows one) and works on it until it is over; a running service helps. */
export async function batch(options: BatchOptions): Promise<void> {
  const actor = actorName(options)
  const known = knownBatch(options)
  const asked = known === null ? askedOf(options) : null
  await withService(async (core) => {
    const { batches, batchRatePerSMax } = core.operations
    if (known !== null && (await batches.find(known)) === null) throw new CommandFailed(`There is no batch ${known}.`)
    if (options.cancel !== undefined) await cancel(core, BigInt(options.cancel), actor)
    if (options.resume !== undefined) await batches.resume(BigInt(options.resume))
    const id =
      asked === null
        ? (known ?? 0n)
        : (
            await batches.create(
              newBatchOf(asked, { actor, traceId: newTraceId(), traceparent: null }, batchRatePerSMax),
            )
          ).id
    const isWorkedOn = options.cancel === undefined && options.show === undefined
    if (isWorkedOn) await work(core, id, options)
    const progress = await batches.find(id)
    if (progress === null) throw new CommandFailed(`There is no batch ${id}.`)
    const view = batchView(progress)
    show(options, view, () => batchText(view))
    if (isWorkedOn) complainOf(view)
    // What a batch finds is counted in its report and recorded; a log between the lines of its progress would hide both.
  }, 'silent')
}

function knownBatch({ resume, cancel: cancelled, show: shown, ...rest }: BatchOptions): bigint | null {
  const given = [resume, cancelled, shown].filter((id) => id !== undefined)
  const [id] = given
  if (id === undefined) return null
  const { json: _, as: __, ...filters } = rest
  if (given.length > 1 || Object.keys(filters).length > 0)
    throw new Misused('--resume, --cancel and --show take a batch as it is: no filter, and one of them at a time.')
  if (!/^\d{1,18}$/.test(id)) throw new Misused(`${id} is not a batch's number; unipay batches lists them.`)
  return BigInt(id)
}

function askedOf(options: BatchOptions) {
  const number = (text: string | undefined) => (text === undefined ? undefined : Number(text))
  const asked = newBatchSchema.safeParse({
    channel: options.channel,
    status: options.status,
    createdFrom: timeOf(options.from),
    createdTo: timeOf(options.to),
    limit: number(options.limit),
    ratePerS: number(options.rate),
    dryRun: options.dryRun,
  })
  if (!asked.success) {
    const [issue] = asked.error.issues
    const name = issue?.code === 'custom' ? 'window' : String(issue?.path[0])
    throw new Misused(name in MEANING ? MEANING[name as keyof typeof MEANING] : asked.error.message)
  }
  return asked.data
}

const UNIT_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** `2h` is two hours ago; anything else stays as it is. */
function timeOf(text: string | undefined): string | undefined {
  const [, count, unit] = /^(\d{1,4})([mhd])$/.exec(text ?? '') ?? []
  if (count === undefined) return text
  return new Date(Date.now() - Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS]).toISOString()
}

async function cancel({ operations: { batches } }: Core, id: bigint, actor: string): Promise<void> {
  if ((await batches.cancel(id, actor)) !== null) return
  const found = await batches.find(id)
  throw new CommandFailed(`Batch ${id} is not running: ${found?.batch.state ?? 'gone'}.`)
}

/**
 * Works on the batch beside whoever else does, until it is over or the operator has had enough. Where another process has
 * its claim, this one only watches, and takes over should that one die.
 */
async function work(core: Core, id: bigint, options: Output): Promise<void> {
  let isStopped = false
  const stop = () => {
    isStopped = true
  }
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  let progress: ReturnType<typeof createProgress> | undefined
  let workedAtMs = performance.now()
  while (!isStopped) {
    try {
      if (!(await core.batchRunner.runOnce())) await pause(LOOK_MS)
      const found = await core.operations.batches.find(id)
      workedAtMs = performance.now()
      if (found === null) break
      progress ??= createProgress(options, `batch ${id}`, found.batch.total)
      progress.at(found.done, toldOf(found))
      if (found.batch.state !== 'running') break
    } catch (error) {
      if (performance.now() - workedAtMs > AWAY_MS_MAX)
        throw new CommandFailed(`${String(error)}\nThe batch is not lost: unipay batch --resume ${id}`)
      await pause(LOOK_MS)
    }
  }
  progress?.end()
  process.off('SIGINT', stop)
  process.off('SIGTERM', stop)
}

function toldOf({ batch: { total }, done, results }: BatchProgress): string {
  const counts = Object.entries(results).map(([result, { count }]) => `${result} ${count}`)
  return [`${done} of ${total}`, ...counts].join(', ')
}

function complainOf(view: ReturnType<typeof batchView>): void {
  if (view.state === 'running')
    throw new CommandFailed(
      `Stopped watching. A running service with the role sweeper goes on with it; here: unipay batch --resume ${view.id}`,
    )
  if (UNTOLD_RESULTS.some((result) => view.results[result] !== undefined))
    throw new CommandFailed(
      view.dryRun
        ? 'Some orders could not be told.'
        : `Some orders could not be told; ask again with: unipay batch --resume ${view.id}`,
    )
}

function batchText(view: ReturnType<typeof batchView>): string {
  const rows = Object.entries(view.results).map(([result, { count, fen }]) => [result, count, fen, yuan(fen)])
  const fen = Object.values(view.results).reduce((sum, result) => sum + result.fen, 0)
  const remark = view.dryRun ? ' (dry run: nothing was changed)' : ''
  return [
    `batch ${view.id}${remark}: ${view.state}, ${view.done} of ${view.total}; ${filterText(view)}`,
    ...(view.total === 0
      ? ['No order of a channel that is configured here matches.']
      : [table(['result', 'orders', 'fen', 'yuan'], [...rows, ['all', view.done, fen, yuan(fen)]])]),
    ...(view.dryRun && view.total > 0 ? ['To do it: the same command without --dry-run.'] : []),
  ].join('\n')
}

/** What a batch took, as it was asked for. */
function filterText({ filter, ratePerS }: Pick<ReturnType<typeof batchLineView>, 'filter' | 'ratePerS'>): string {
  const of = (name: string) => (typeof filter[name] === 'string' ? filter[name] : null)
  const parts = [
    of('channel') ?? 'any channel',
    of('status') ?? 'any status',
    ...(of('createdFrom') === null ? [] : [`from ${of('createdFrom')}`]),
    ...(of('createdTo') === null ? [] : [`to ${of('createdTo')}`]),
    `at most ${String(filter['limit'])}`,
    `${ratePerS}/s`,
  ]
  return parts.join(', ')
}

export async function listBatches(options: Output & PageOptions): Promise<void> {
  const { beforeId, limit } = pageAsked(options)
  await withService(async ({ operations }) => {
    const page = pageOf(await operations.batches.list(beforeId, limit + 1), limit, batchLineView)
    show(options, page, () =>
      withMore(
        page,
        table(
          ['id', 'state', 'by', 'dry run', 'orders', 'asked for', 'created', 'finished'],
          page.items.map((item) => [
            item.id,
            item.state,
            item.actor,
            item.dryRun ? 'yes' : 'no',
            item.total,
            filterText(item),
            item.createTime,
            item.finishTime,
          ]),
        ),
      ),
    )
  })
}
