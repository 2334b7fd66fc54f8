import { SingleBar } from 'cli-progress'

import type { Service } from '../compose.js'
import { batchView, newBatchOf, newBatchSchema } from '../http/ops/batch-routes.js'
import { newTraceId } from '../trace-id.js'
import { actorName, CommandFailed, Misused, type Output, show, table, withService, yuan } from './run.js'

export type BatchOptions = Output &
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

/** Makes a batch (or takes up, cancels or shows one) and works on it until it is over; a running service helps. */
export async function batch(options: BatchOptions): Promise<void> {
  const known = options.resume ?? options.cancel ?? options.show
  if (known !== undefined && !/^\d{1,18}$/.test(known)) throw new Misused(`${known} is not a batch's number.`)
  const asked = newBatchSchema.safeParse({
    channel: options.channel,
    status: options.status,
    createdFrom: options.from,
    createdTo: options.to,
    limit: options.limit === undefined ? undefined : Number(options.limit),
    ratePerS: options.rate === undefined ? undefined : Number(options.rate),
    dryRun: options.dryRun,
  })
  if (!asked.success) {
    const issue = asked.error.issues[0]
    throw new Misused(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is wrong'}`)
  }
  await withService(async (service) => {
    const { batches, batchRatePerSMax } = service.operations
    if (options.cancel !== undefined) await batches.cancel(BigInt(options.cancel), actorName())
    if (options.resume !== undefined) await batches.resume(BigInt(options.resume))
    const by = { actor: actorName(), traceId: newTraceId() }
    const id =
      known === undefined ? (await batches.create(newBatchOf(asked.data, by, batchRatePerSMax))).id : BigInt(known)
    if (options.cancel === undefined && options.show === undefined) await work(service, id, options)
    const progress = await batches.find(id)
    if (progress === null) throw new CommandFailed(`There is no batch ${id}.`)
    const view = batchView(progress)
    show(options, view, () => batchText(view))
    if (view.results.failed !== undefined || view.results.unknown !== undefined)
      throw new CommandFailed(`Some orders could not be told; ask again with: unipay batch --resume ${id}`)
  })
}

/** Runs batches here, beside whoever else does, until this one is over or the operator has had enough. */
async function work(service: Service, id: bigint, options: Output): Promise<void> {
  const bar = new SingleBar({ format: 'batch {bar} {value}/{total} | {results}', clearOnComplete: false })
  const isShown = options.json !== true && process.stderr.isTTY
  let isStopped = false
  const stop = () => {
    isStopped = true
  }
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  let isStarted = false
  for (;;) {
    await service.batchRunner.runOnce()
    const progress = await service.operations.batches.find(id)
    if (progress === null) break
    const results = Object.entries(progress.results)
      .map(([result, { count }]) => `${result} ${count}`)
      .join(', ')
    if (isShown && !isStarted) bar.start(progress.batch.total, progress.done, { results })
    else if (isShown) bar.update(progress.done, { results })
    isStarted = true
    if (progress.batch.state !== 'running' || isStopped) break
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  if (isShown && isStarted) bar.stop()
  process.off('SIGINT', stop)
  process.off('SIGTERM', stop)
}

function batchText(view: ReturnType<typeof batchView>): string {
  const rows = Object.entries(view.results).map(([result, { count, fen }]) => [result, count, fen, yuan(fen)])
  return [
    `batch ${view.id}${view.dryRun ? ' (dry run: nothing was changed)' : ''}: ${view.state}, ${view.done} of ${view.total}`,
    table(['result', 'orders', 'fen', 'yuan'], rows),
  ].join('\n')
}
