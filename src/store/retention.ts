import type pg from 'pg'

/** How far one table has been looked through: where to go on, and what has gone. */
export type Pruned = Readonly<{ lastId: bigint; looked: number; deleted: number; isOver: boolean }>

/** Of `order_id` of a row named `old`: nothing about its order is open, and no sync of it is due or under way. */
const ORDER_AT_REST = `
  EXISTS (SELECT 1 FROM orders o WHERE o.id = old.order_id AND o.status NOT IN ('progress', 'fail')
    AND o.next_sync_at IS NULL AND o.lease_token IS NULL)
  AND NOT EXISTS (SELECT 1 FROM sync_exceptions e WHERE e.order_id = old.order_id AND e.state = 'open')
  AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.order_id = old.order_id AND n.state = 'pending')`

const TOLD = `
SELECT coalesce(max(id), $1)::text AS last_id, count(*)::int AS looked, (SELECT count(*) FROM gone)::int AS deleted,
  count(*) < $3 OR bool_and(created_at >= $2) AS is_over FROM old`

/** A record that made a repair stays, and so does one that a finding rests on: they are the evidence of a state. */
const PRUNE_SYNCS = {
  name: 'prune_syncs',
  text: `
WITH old AS MATERIALIZED (
  SELECT id, order_id, created_at FROM sync_records WHERE repair_no IS NULL AND id > $1 ORDER BY id LIMIT $3
), gone AS (
  DELETE FROM sync_records WHERE id = ANY(ARRAY(SELECT old.id FROM old WHERE old.created_at < $2 AND ${ORDER_AT_REST}
    AND NOT EXISTS (SELECT 1 FROM sync_exceptions e WHERE e.sync_id = old.id))) RETURNING 1
)${TOLD}`,
}

/** The notice itself stays: what the merchant was told, and when it was taken; so do the sends of one that waits or was given up. */
const PRUNE_ATTEMPTS = {
  name: 'prune_attempts',
  text: `
WITH old AS MATERIALIZED (
  SELECT a.id, a.created_at, n.order_id, n.state FROM notice_attempts a JOIN notices n ON n.id = a.notice_id
  WHERE a.id > $1 ORDER BY a.id LIMIT $3
), gone AS (
  DELETE FROM notice_attempts WHERE id = ANY(ARRAY(SELECT old.id FROM old
    WHERE old.created_at < $2 AND old.state IN ('delivered', 'superseded') AND ${ORDER_AT_REST})) RETURNING 1
)${TOLD}`,
}

/**
 * By the database's clock, and never what a batch that still runs could look for: it finds the syncs by their records that
 * it began and does not know the outcome of. One that waits for a channel that never comes looks for nothing.
 */
const BOUNDARY = `
SELECT least(now() - $1::int * interval '1 day', (
  SELECT min(created_at) FROM batches WHERE state = 'running' AND EXISTS (
    SELECT 1 FROM batch_items WHERE batch_id = batches.id AND result IS NULL AND tries > 0)
)) AS before`

/** Deletes what is old and no longer rests on anything, in steps of their own: it may be stopped after any of them. */
export function createRetention(pool: pg.Pool) {
  async function boundary(days: number): Promise<Date> {
    const { rows } = await pool.query<{ before: Date }>(BOUNDARY, [days])
    if (rows[0] === undefined) throw new Error('no boundary')
    return rows[0].before
  }

  async function step(statement: pg.QueryConfig, afterId: bigint, before: Date, countMax: number): Promise<Pruned> {
    const values = [afterId.toString(), before, countMax]
    const { rows } = await pool.query<{ last_id: string; looked: number; deleted: number; is_over: boolean }>({
      ...statement,
      values,
    })
    const row = rows[0]
    if (row === undefined) throw new Error('nothing told')
    return { lastId: BigInt(row.last_id), looked: row.looked, deleted: row.deleted, isOver: row.is_over }
  }

  return {
    boundary,
    /** Looks at the next `countMax` records that repaired nothing, oldest first. */
    pruneSyncs: async (afterId: bigint, before: Date, countMax: number) =>
      await step(PRUNE_SYNCS, afterId, before, countMax),
    /** Looks at the next `countMax` sends of notices, oldest first. */
    pruneAttempts: async (afterId: bigint, before: Date, countMax: number) =>
      await step(PRUNE_ATTEMPTS, afterId, before, countMax),
  }
}

export type Retention = ReturnType<typeof createRetention>
