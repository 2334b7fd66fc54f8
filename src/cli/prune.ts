import type { Pruned } from '../store/retention.js'
import { Misused, type Output, show } from './output.js'
import { withService } from './run.js'

/** What an incident is looked into with is kept for a week at least. */
const DAYS_MIN = 7
const DAYS_MAX = 9_999
/** Rows that one statement looks at: some ten milliseconds' work, which nobody waits for. */
const ROWS_PER_STEP = 1_000

/** Deletes the records of syncs that changed nothing and the sends of delivered notices, where their orders are at rest. */
export async function prune(options: Output & Readonly<{ olderThan: string }>): Promise<void> {
  const days = Number(/^(\d{1,4})d$/.exec(options.olderThan)?.[1] ?? 0)
  if (days < DAYS_MIN || days > DAYS_MAX)
    throw new Misused(`--older-than is a number of days from ${DAYS_MIN}d to ${DAYS_MAX}d, such as 90d.`)
  await withService(async ({ operations: { retention } }) => {
    const before = await retention.boundary(days)
    const syncRecords = await all(async (afterId) => await retention.pruneSyncs(afterId, before, ROWS_PER_STEP))
    const noticeSends = await all(async (afterId) => await retention.pruneAttempts(afterId, before, ROWS_PER_STEP))
    const done = { before: before.toISOString(), syncRecords, noticeSends }
    show(
      options,
      done,
      () => `Deleted from before ${done.before}: ${syncRecords} syncs, ${noticeSends} sends of notices.`,
    )
  })
}

/** Step by step to the first rows that are too young: each row is looked at once. */
async function all(step: (afterId: bigint) => Promise<Pruned>): Promise<number> {
  let deleted = 0
  let afterId = 0n
  for (;;) {
    const pruned = await step(afterId)
    deleted += pruned.deleted
    if (pruned.isOver) return deleted
    afterId = pruned.lastId
  }
}
