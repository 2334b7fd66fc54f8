import type { Pool } from 'pg'

/** Rounds of one sweeper or courier without its loop: as many as find work. */
export async function finishRounds(
  worker: Readonly<{ runOnce: () => Promise<boolean>; drain: () => Promise<void> }>,
): Promise<void> {
  do {
    while (await worker.runOnce());
    await worker.drain()
  } while (await worker.runOnce())
  await worker.drain()
}

/** Due now: the tests' way to let time pass. `ids`: none for all that have a due time. */
export async function makeOrdersDue(pool: Pool, ids?: readonly string[]): Promise<void> {
  await pool.query(
    `UPDATE orders SET next_sync_at = now() - interval '1 second'
     WHERE next_sync_at IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY($1))`,
    [ids ?? null],
  )
}

export async function makeNoticesDue(pool: Pool): Promise<void> {
  await pool.query("UPDATE notices SET next_attempt_at = now() - interval '1 second' WHERE state = 'pending'")
}
