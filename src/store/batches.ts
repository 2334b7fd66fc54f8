import { randomUUID } from 'node:crypto'

import type pg from 'pg'

import type { OrderId, OrderStatus } from '../domain/order.js'

export const BATCH_RESULTS = [
  'settled',
  'closed_local',
  'closed_gateway',
  'reopened',
  'waiting',
  'unchanged',
  'mismatch',
  'unknown',
  'busy',
  'gone',
  'failed',
] as const
export type BatchResult = (typeof BATCH_RESULTS)[number]

/** Nothing is known of these orders: who resumes a finished batch asks about them again. */
export const UNTOLD_RESULTS = ['unknown', 'busy', 'failed'] as const satisfies readonly BatchResult[]

/** Which orders a batch takes, the oldest number first, at most `limit`. Null: any. */
export type BatchFilter = Readonly<{
  channel: string | null
  status: OrderStatus | null
  createdFrom: string | null
  createdTo: string | null
  limit: number
}>

export type NewBatch = Readonly<{
  filter: BatchFilter
  dryRun: boolean
  ratePerS: number
  actor: string
  traceId: string
  /** Of the request that asked for it; goes on to the notices. */
  traceparent: string | null
}>

export const BATCH_STATES = ['running', 'paused', 'cancelled', 'done'] as const
export type BatchState = (typeof BATCH_STATES)[number]

export type Batch = Readonly<{
  id: bigint
  state: BatchState
  actor: string
  traceId: string
  traceparent: string | null
  filter: BatchFilter
  dryRun: boolean
  ratePerS: number
  total: number
  createdAt: Date
  finishedAt: Date | null
  /** Who paused or cancelled it. */
  cancelledBy: string | null
}>

export type BatchProgress = Readonly<{
  batch: Batch
  /** Of every result that occurred: how many orders, and their money in fen. */
  results: Readonly<Partial<Record<BatchResult, Readonly<{ count: number; fen: bigint }>>>>
  done: number
}>

/** The right to run one batch, until it is not renewed. */
export type BatchClaim = Readonly<{ batch: Batch; token: string }>

export type BatchItem = Readonly<{ orderId: OrderId; channel: string; traceId: string; tries: number }>
/** `decision` is an action where the outcome is `synced`. */
export type CommittedItem = Readonly<{ outcome: 'synced' | 'mismatch' | 'unknown'; decision: string }>
export type FinishedItem = Readonly<{ orderId: OrderId; result: BatchResult }>

/** A runner renews its claim about every second; past this it is taken to be dead. Seconds. */
const CLAIM_S = 15

const BATCH_COLUMNS = `id, state, actor, trace_id, traceparent, filter, dry_run, rate_per_s, total, created_at, finished_at, cancelled_by`

const CREATE = `
WITH made AS (
  INSERT INTO batches (actor, trace_id, filter, dry_run, rate_per_s, traceparent) VALUES ($1, $2, $3, $4, $5, $12)
  ON CONFLICT (trace_id) DO NOTHING RETURNING id
), chosen AS (
  SELECT id, channel, amount_fen FROM orders
  WHERE channel = ANY($6::text[]) AND ($7::text IS NULL OR channel = $7) AND ($8::text IS NULL OR status = $8)
    AND ($9::timestamptz IS NULL OR created_at >= $9) AND ($10::timestamptz IS NULL OR created_at < $10)
  ORDER BY id LIMIT $11
), items AS (
  INSERT INTO batch_items (batch_id, order_id, channel, amount_fen, trace_id)
  SELECT made.id, chosen.id, chosen.channel, chosen.amount_fen,
    substr(replace(gen_random_uuid()::text, '-', ''), 1, 12) FROM made, chosen
  RETURNING order_id
)
SELECT made.id, (SELECT count(*)::int FROM items) AS total FROM made`

const CLAIM = {
  name: 'claim_batch',
  text: `
WITH free AS (
  SELECT id AS free_id, claim_token IS NOT NULL AS was_left FROM batches
  WHERE state = 'running' AND (claim_expires_at IS NULL OR claim_expires_at <= now())
  ORDER BY id <= $2, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE batches SET claim_token = $1, claim_expires_at = clock_timestamp() + ${CLAIM_S} * interval '1 second'
FROM free WHERE id = free_id
RETURNING ${BATCH_COLUMNS}, was_left`,
}

/** Results and the claim's renewal in one statement: who lost the claim writes nothing. */
const RENEW = {
  name: 'renew_batch',
  text: `
WITH renewed AS (
  UPDATE batches SET claim_expires_at = clock_timestamp() + ${CLAIM_S} * interval '1 second'
  WHERE id = $1 AND claim_token = $2 RETURNING id, state
), finished AS (
  UPDATE batch_items i SET result = f.result
  FROM unnest($3::bigint[], $4::text[]) AS f(order_id, result), renewed
  WHERE i.batch_id = renewed.id AND i.order_id = f.order_id AND i.result IS NULL
), postponed AS (
  UPDATE batch_items i SET due_at = clock_timestamp() + $6::float8 * interval '1 second'
  FROM unnest($5::bigint[]) AS p(order_id), renewed WHERE i.batch_id = renewed.id AND i.order_id = p.order_id
)
SELECT state FROM renewed`,
}

/** Taken items are not due again while they run. */
const TAKE = {
  name: 'take_batch_items',
  text: `
WITH due AS (
  SELECT i.order_id FROM batch_items i, batches b
  WHERE b.id = $1 AND b.claim_token = $2 AND b.state = 'running' AND i.batch_id = b.id AND i.result IS NULL
    AND i.due_at <= now() AND i.channel = ANY($3::text[])
  ORDER BY i.order_id LIMIT $4
)
UPDATE batch_items i SET tries = tries + 1, due_at = clock_timestamp() + $5::int * interval '1 millisecond'
FROM due WHERE i.batch_id = $1 AND i.order_id = due.order_id
RETURNING i.order_id, i.channel, i.trace_id, i.tries`,
}

type BatchRow = {
  id: string
  state: BatchState
  actor: string
  trace_id: string
  traceparent: string | null
  filter: BatchFilter
  dry_run: boolean
  rate_per_s: number
  total: number
  created_at: Date
  finished_at: Date | null
  cancelled_by: string | null
}

/** Operators' runs over many orders: made, claimed by one runner at a time, and told about. */
export function createBatches(pool: pg.Pool, options: Readonly<{ channels: readonly string[]; takenMs: number }>) {
  /** Asked for twice under one trace id, as a form that is sent twice does, it is made once. */
  async function create(batch: NewBatch): Promise<Batch> {
    const { filter } = batch
    const { rows } = await pool.query<{ id: string; total: number }>(CREATE, [
      batch.actor,
      batch.traceId,
      JSON.stringify(filter),
      batch.dryRun,
      batch.ratePerS,
      options.channels,
      filter.channel,
      filter.status,
      filter.createdFrom,
      filter.createdTo,
      filter.limit,
      batch.traceparent,
    ])
    const id = rows[0]?.id
    if (id === undefined) {
      const known = await pool.query<BatchRow>(`SELECT ${BATCH_COLUMNS} FROM batches WHERE trace_id = $1`, [
        batch.traceId,
      ])
      return onlyOf(known.rows)
    }
    // A statement does not see what its own parts inserted: the total is set by a second one. Killed between the two, the
    // runner corrects it when it claims the batch.
    const made = await pool.query<BatchRow>(`UPDATE batches SET total = $2 WHERE id = $1 RETURNING ${BATCH_COLUMNS}`, [
      id,
      rows[0]?.total ?? 0,
    ])
    return onlyOf(made.rows)
  }

  /** One page, newest first: batches below `beforeId`, at most `limit`. Their results are `find`'s to tell. */
  async function list(beforeId: bigint | null, limit: number): Promise<readonly Batch[]> {
    const { rows } = await pool.query<BatchRow>(
      `SELECT ${BATCH_COLUMNS} FROM batches WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2`,
      [beforeId?.toString() ?? null, limit],
    )
    return rows.map(batchOf)
  }

  async function find(id: bigint): Promise<BatchProgress | null> {
    const { rows } = await pool.query<BatchRow>(`SELECT ${BATCH_COLUMNS} FROM batches WHERE id = $1`, [id.toString()])
    return rows.length === 0 ? null : await progressOf(onlyOf(rows))
  }

  async function progressOf(batch: Batch): Promise<BatchProgress> {
    const { rows } = await pool.query<{ result: BatchResult; count: number; fen: string }>(
      `SELECT result, count(*)::int, sum(amount_fen)::text AS fen FROM batch_items
       WHERE batch_id = $1 AND result IS NOT NULL GROUP BY result ORDER BY result`,
      [batch.id.toString()],
    )
    const results = Object.fromEntries(rows.map(({ result, count, fen }) => [result, { count, fen: BigInt(fen) }]))
    return { batch, results, done: rows.reduce((sum, { count }) => sum + count, 0) }
  }

  /** Stops a batch: nothing new is started; what is under way ends and counts. Null where it is not in such a state. */
  async function stop(id: bigint, to: 'paused' | 'cancelled', from: readonly BatchState[], stoppedBy: string) {
    const { rows } = await pool.query<BatchRow>(
      `UPDATE batches SET state = $2, cancelled_by = $3 WHERE id = $1 AND state = ANY($4) RETURNING ${BATCH_COLUMNS}`,
      [id.toString(), to, stoppedBy, from],
    )
    return rows.length === 0 ? null : await progressOf(onlyOf(rows))
  }

  /** For a while: whoever did it means to go on. */
  const pause = async (id: bigint, pausedBy: string) => await stop(id, 'paused', ['running'], pausedBy)
  /** For good, unless somebody resumes it after all. */
  const cancel = async (id: bigint, cancelledBy: string) =>
    await stop(id, 'cancelled', ['running', 'paused'], cancelledBy)

  /**
   * Runs a paused or cancelled batch on, and asks again about the orders of a finished one whose gateway could not tell.
   * Null where there is no such batch.
   */
  async function resume(id: bigint): Promise<BatchProgress | null> {
    const { rows } = await pool.query<BatchRow>(
      `WITH again AS (
         UPDATE batch_items SET result = NULL, tries = 0, due_at = now(),
           trace_id = substr(replace(gen_random_uuid()::text, '-', ''), 1, 12)
         WHERE batch_id = $1 AND result = ANY($2)
           AND EXISTS (SELECT 1 FROM batches WHERE id = $1 AND state <> 'running')
       )
       UPDATE batches SET state = 'running', cancelled_by = NULL, finished_at = NULL WHERE id = $1
       RETURNING ${BATCH_COLUMNS}`,
      [id.toString(), UNTOLD_RESULTS],
    )
    return rows.length === 0 ? null : await progressOf(onlyOf(rows))
  }

  /**
   * Takes a batch that nobody runs: the next one after `afterId`, from the first one again where there is none. What a
   * runner that died left under way is due at once.
   */
  async function claim(afterId: bigint): Promise<BatchClaim | null> {
    const token = randomUUID()
    const { rows } = await pool.query<BatchRow & { was_left: boolean }>({
      ...CLAIM,
      values: [token, afterId.toString()],
    })
    const [row] = rows
    if (row === undefined) return null
    const batch = batchOf(row)
    // Given back in good order it is whole, and what was put off stays so.
    if (!row.was_left && batch.total > 0) return { batch, token }
    await pool.query(
      `WITH whole AS (
         UPDATE batches SET total = (SELECT count(*) FROM batch_items WHERE batch_id = $1) WHERE id = $1 AND claim_token = $2
         RETURNING id
       )
       UPDATE batch_items SET due_at = now() FROM whole WHERE batch_id = whole.id AND result IS NULL AND tries > 0`,
      [batch.id.toString(), token],
    )
    return { batch, token }
  }

  /**
   * Keeps the claim, writes what was finished, puts off what is to be tried again. Null where the claim was lost: nothing is
   * written.
   */
  async function renew(
    { batch, token }: BatchClaim,
    finished: readonly FinishedItem[],
    postponed: readonly OrderId[],
    delayS: number,
  ): Promise<BatchState | null> {
    const values = [
      batch.id.toString(),
      token,
      finished.map(({ orderId }) => orderId.toString()),
      finished.map(({ result }) => result),
      postponed.map((orderId) => orderId.toString()),
      delayS,
    ]
    const { rows } = await pool.query<{ state: BatchState }>({ ...RENEW, values })
    return rows[0]?.state ?? null
  }

  async function take({ batch, token }: BatchClaim, channels: readonly string[], countMax: number) {
    const { rows } = await pool.query<{ order_id: string; channel: string; trace_id: string; tries: number }>({
      ...TAKE,
      values: [batch.id.toString(), token, channels, countMax, options.takenMs],
    })
    return rows.map(
      (row): BatchItem => ({
        orderId: BigInt(row.order_id) as OrderId,
        channel: row.channel,
        traceId: row.trace_id,
        tries: row.tries,
      }),
    )
  }

  /** Ends the batch where nothing is left to do; true then. */
  async function finishIfDone({ batch, token }: BatchClaim): Promise<boolean> {
    const { rowCount } = await pool.query(
      `UPDATE batches SET state = 'done', finished_at = clock_timestamp(), claim_token = NULL, claim_expires_at = NULL
       WHERE id = $1 AND claim_token = $2 AND state = 'running'
         AND NOT EXISTS (SELECT 1 FROM batch_items WHERE batch_id = $1 AND result IS NULL)`,
      [batch.id.toString(), token],
    )
    return rowCount === 1
  }

  /** Gives the claim back, so that another runner need not wait for its end. */
  async function release({ batch, token }: BatchClaim): Promise<void> {
    await pool.query(
      'UPDATE batches SET claim_token = NULL, claim_expires_at = NULL WHERE id = $1 AND claim_token = $2',
      [batch.id.toString(), token],
    )
  }

  /** What an earlier try of this item committed; null where it committed nothing but the record of its failure. */
  async function findCommitted(item: BatchItem) {
    const { rows } = await pool.query<CommittedItem>(
      `SELECT outcome, decision FROM sync_records WHERE order_id = $1 AND trace_id = $2 AND outcome <> 'failed'
       ORDER BY id DESC LIMIT 1`,
      [item.orderId.toString(), item.traceId],
    )
    return rows[0] ?? null
  }

  return { create, list, find, pause, cancel, resume, claim, renew, take, finishIfDone, release, findCommitted }
}

export type Batches = ReturnType<typeof createBatches>

function onlyOf(rows: readonly BatchRow[]): Batch {
  const row = rows[0]
  if (row === undefined) throw new Error('a batch that was just written is not there')
  return batchOf(row)
}

function batchOf(row: BatchRow): Batch {
  return {
    id: BigInt(row.id),
    state: row.state,
    actor: row.actor,
    traceId: row.trace_id,
    traceparent: row.traceparent,
    filter: row.filter,
    dryRun: row.dry_run,
    ratePerS: row.rate_per_s,
    total: row.total,
    createdAt: row.created_at,
    finishedAt: row.finished_at,
    cancelledBy: row.cancelled_by,
  }
}
