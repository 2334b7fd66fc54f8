import { EXCEPTION_KINDS } from '../domain/decide.js'
import { CHANNEL_LABELS, channelLabel } from '../domain/order.js'
import type { Backlog } from '../metrics.js'
import { AGE_SPANS, type Overview, type Unsettled } from './overview.js'

/** How long one asker waits for the database. Prometheus gives a whole scrape 10 s by default. Milliseconds. */
const WAIT_MS_MAX = 3_000
/** One reading serves every asker for so long, or for twenty times as long as it took: never more than 5 % of the time. */
const KEPT_MS = 10_000
const KEPT_TIMES = 20
const KEPT_MS_MAX = 60_000
/** After a database that did not answer. Milliseconds. */
const FAILED_KEPT_MS = 2_000

/**
 * What is open, for metrics: read by whoever asks first, one reading at a time. Null where the database does not tell in
 * time, or takes no writes.
 */
export function createBacklog(overview: Overview, monotonicMs: () => number): () => Promise<Backlog | null> {
  let last: Backlog | null = null
  let freshUntilMs = Number.NEGATIVE_INFINITY
  let running: Promise<Backlog | null> | null = null

  async function read(): Promise<Backlog | null> {
    const startedMs = monotonicMs()
    try {
      last = await readBacklog(overview)
    } catch {
      // Away, slow or not migrated: the caller shows that it is, and the log of those who need it says why.
      last = null
    }
    const endedMs = monotonicMs()
    const keptMs = Math.min(KEPT_MS_MAX, Math.max(KEPT_MS, (endedMs - startedMs) * KEPT_TIMES))
    freshUntilMs = endedMs + (last === null ? FAILED_KEPT_MS : keptMs)
    running = null
    return last
  }

  return async () => {
    if (monotonicMs() < freshUntilMs) return last
    running ??= read()
    return await within(running, WAIT_MS_MAX)
  }
}

/** One statement after the other: a scrape takes one connection at a time, or two, from those who serve merchants. */
async function readBacklog(overview: Overview): Promise<Backlog | null> {
  const unsettled = await overview.unsettled()
  const findings = await overview.openFindings()
  const lag = await overview.lag()
  const { isReadOnly, ...counts } = await overview.openWork()
  // A standby's figures, or those of a primary that was put aside, may be old, and look well while nothing can be done.
  if (isReadOnly) return null
  return {
    unsettled: byChannelAndAge(unsettled),
    exceptions: EXCEPTION_KINDS.map((kind) => {
      const found = findings.find((finding) => finding.kind === kind)
      return { kind, count: found?.count ?? 0, atRiskFen: Number(found?.atRiskFen ?? 0n) }
    }),
    sweeperLag: lag.channels.map(({ channel, lagS }) => ({ channel, seconds: lagS ?? 0 })),
    noticeLagS: lag.noticeS ?? 0,
    ...counts,
  }
}

/** Every combination, zeros included, so that a number that is gone from the table is gone from the metrics as well. */
function byChannelAndAge(rows: readonly Unsettled[]): Backlog['unsettled'] {
  return CHANNEL_LABELS.flatMap((channel) =>
    AGE_SPANS.map((age) => {
      const counted = rows.filter((row) => row.age === age && channelLabel(row.channel) === channel)
      const fen = counted.reduce((sum, { amountFen }) => sum + amountFen, 0n)
      return { channel, age, orders: counted.reduce((sum, { orders }) => sum + orders, 0), fen: Number(fen) }
    }),
  )
}

async function within<T>(work: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, ms, null)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
