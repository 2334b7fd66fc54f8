import type pg from 'pg'

import { type BatchFilter, UNTOLD_RESULTS } from './batches.js'

/** Money that is neither settled nor closed, of one channel and one span of age. */
export type Unsettled = Readonly<{ channel: string | null; age: AgeSpan; orders: number; amountFen: bigint }>

/** Ages of orders, as incidents are talked about. The last one is open-ended. */
export const AGE_SPANS = ['15m', '1h', '6h', '24h', 'older'] as const
export type AgeSpan = (typeof AGE_SPANS)[number]

export type OpenFindings = Readonly<{ kind: string; count: number; atRiskFen: bigint }>

/** How long the oldest due work has been due, in seconds; null where nothing is due. */
export type Lag = Readonly<{
  channels: readonly Readonly<{ channel: string; lagS: number | null }>[]
  noticeS: number | null
}>

/** Notices that are not delivered, and what running batches have yet to do. */
export type OpenWork = Readonly<{
  noticesPending: number
  noticesDead: number
  batchesRunning: number
  batchItemsLeft: number
  /** Nobody can do any of it now: the database takes no writes. */
  isReadOnly: boolean
}>

/**
 * One minute of one channel, from the sync records. Milliseconds are those of the gateway's answers, the slowest one of
 * each sync; null where it was not asked.
 */
export type Minute = Readonly<{
  minute: Date
  channel: string | null
  syncs: number
  repairs: number
  failures: number
  medianMs: number | null
  p95Ms: number | null
}>

/** By which of its numbers an order was found. */
export type FoundOrder = Readonly<{
  id: bigint
  businessNo: string
  title: string | null
  channel: string | null
  amountFen: bigint
  currency: string
  status: string
  createdAt: Date
}>

/** Orders that one search shows. Only a trace of a batch or a shared gateway number has more than one. */
export const FOUND_MAX = 50

const UNSETTLED = `
SELECT channel, CASE WHEN created_at > now() - interval '15 minutes' THEN '15m'
    WHEN created_at > now() - interval '1 hour' THEN '1h' WHEN created_at > now() - interval '6 hours' THEN '6h'
    WHEN created_at > now() - interval '24 hours' THEN '24h' ELSE 'older' END AS age,
  count(*)::int AS orders, sum(amount_fen)::bigint::text AS amount_fen
FROM orders WHERE status IN ('progress', 'fail') GROUP BY 1, 2`

// Payments add up. Answers that do not fit an order put the same money in question, however many of them differ.
const OPEN_FINDINGS = `
SELECT kind, sum(findings)::int AS count, sum(fen)::bigint::text AS at_risk_fen
FROM (
  SELECT kind, count(*) AS findings,
    CASE WHEN kind IN ('amount_mismatch', 'identity_mismatch') THEN max(at_risk_fen) ELSE sum(at_risk_fen) END AS fen
  FROM sync_exceptions WHERE state = 'open' GROUP BY kind, order_id
) AS of_order GROUP BY kind ORDER BY sum(fen) DESC`

// One index probe per channel: its first row is the one that is due for the longest.
const SWEEPER_LAG = `
SELECT channel, extract(epoch FROM now() - due.next_sync_at)::float8 AS lag_s
FROM unnest($1::text[]) AS channel LEFT JOIN LATERAL (
  SELECT next_sync_at FROM orders WHERE orders.channel = channel.channel AND next_sync_at <= now()
  ORDER BY next_sync_at, id LIMIT 1
) AS due ON true`

// One index probe per merchant's host, as the courier reads them.
const NOTICE_LAG = `
WITH RECURSIVE heads AS (
  (SELECT host, next_attempt_at FROM notices WHERE state = 'pending' ORDER BY host, next_attempt_at, id LIMIT 1)
  UNION ALL
  SELECT next_host.host, next_host.next_attempt_at FROM heads CROSS JOIN LATERAL (
    SELECT host, next_attempt_at FROM notices WHERE state = 'pending' AND host > heads.host
    ORDER BY host, next_attempt_at, id LIMIT 1
  ) AS next_host
)
SELECT extract(epoch FROM now() - min(next_attempt_at))::float8 AS lag_s FROM heads WHERE next_attempt_at <= now()`

// Each count reads an index of its own, as large as what it counts.
const OPEN_WORK = `
SELECT (SELECT count(*)::int FROM notices WHERE state = 'pending') AS pending,
  (SELECT count(*)::int FROM notices WHERE state = 'dead') AS dead, running, left_over,
  current_setting('transaction_read_only') = 'on' AS read_only
FROM (
  SELECT count(*)::int AS running, coalesce(sum(open.items), 0)::int AS left_over
  FROM batches LEFT JOIN LATERAL (
    SELECT count(*) AS items FROM batch_items WHERE batch_id = batches.id AND result IS NULL
  ) AS open ON true WHERE state = 'running'
) AS batches_running`

const MINUTES = `
SELECT date_trunc('minute', created_at) AS minute, channel, count(*)::int AS syncs, count(repair_no)::int AS repairs,
  (count(*) FILTER (WHERE outcome IN ('unknown', 'failed')))::int AS failures,
  percentile_disc(0.5) WITHIN GROUP (ORDER BY gateway_ms) AS median_ms,
  percentile_disc(0.95) WITHIN GROUP (ORDER BY gateway_ms) AS p95_ms
FROM sync_records WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2`

// Each number has its own index; a text that is no number is not compared with ids.
const FIND = `
WITH found AS (
  SELECT id FROM orders WHERE id = $2::bigint
  UNION SELECT id FROM orders WHERE business_no = $1
  UNION (SELECT id FROM orders WHERE gateway_order_no = $1 LIMIT ${FOUND_MAX})
  UNION (SELECT id FROM orders WHERE channel = ANY($3::text[]) AND out_trade_no = $1)
  UNION (SELECT order_id FROM sync_records WHERE trace_id = $1 LIMIT ${FOUND_MAX})
)
SELECT id::text, business_no, title, channel, amount_fen::text, currency, status, created_at
FROM orders JOIN found USING (id) ORDER BY created_at DESC LIMIT ${FOUND_MAX}`

/** What operators count, on their page and in metrics. Every query reads an index whose size is the work that is open, not all orders. */
export function createOverview(pool: pg.Pool, channels: readonly string[]) {
  async function unsettled(): Promise<readonly Unsettled[]> {
    type Row = { channel: string | null; age: AgeSpan; orders: number; amount_fen: string }
    const { rows } = await pool.query<Row>(UNSETTLED)
    return rows.map(({ channel, age, orders, amount_fen: fen }) => ({ channel, age, orders, amountFen: BigInt(fen) }))
  }

  async function openFindings(): Promise<readonly OpenFindings[]> {
    const { rows } = await pool.query<{ kind: string; count: number; at_risk_fen: string }>(OPEN_FINDINGS)
    return rows.map(({ kind, count, at_risk_fen: fen }) => ({ kind, count, atRiskFen: BigInt(fen) }))
  }

  async function lag(): Promise<Lag> {
    const [orders, notices] = await Promise.all([
      pool.query<{ channel: string; lag_s: number | null }>(SWEEPER_LAG, [channels]),
      pool.query<{ lag_s: number | null }>(NOTICE_LAG),
    ])
    return {
      channels: orders.rows.map(({ channel, lag_s: lagS }) => ({ channel, lagS })),
      noticeS: notices.rows[0]?.lag_s ?? null,
    }
  }

  async function openWork(): Promise<OpenWork> {
    type Row = { pending: number; dead: number; running: number; left_over: number; read_only: boolean }
    const { rows } = await pool.query<Row>(OPEN_WORK)
    const { pending = 0, dead = 0, running = 0, left_over: left = 0, read_only: isReadOnly = false } = rows[0] ?? {}
    return { noticesPending: pending, noticesDead: dead, batchesRunning: running, batchItemsLeft: left, isReadOnly }
  }

  /** The minutes with a sync in them, of a span that its reader keeps short. */
  async function minutes(from: Date, to: Date): Promise<readonly Minute[]> {
    type Row = Omit<Minute, 'medianMs' | 'p95Ms'> & { median_ms: number | null; p95_ms: number | null }
    const { rows } = await pool.query<Row>(MINUTES, [from, to])
    return rows.map(({ median_ms: medianMs, p95_ms: p95Ms, ...counts }) => ({ ...counts, medianMs, p95Ms }))
  }

  /** The orders that have this text as payment id, business, gateway or outgoing number, or in a sync's trace. */
  async function find(text: string): Promise<readonly FoundOrder[]> {
    // PostgreSQL takes no NUL in a parameter, and a BIGINT no more than 2^63-1.
    if (text === '' || text.length > 100 || text.includes('\0')) return []
    const id = /^\d{1,19}$/.test(text) && BigInt(text) < 2n ** 63n ? text : null
    type Row = {
      id: string
      business_no: string
      title: string | null
      channel: string | null
      amount_fen: string
      currency: string
      status: string
      created_at: Date
    }
    const { rows } = await pool.query<Row>(FIND, [text, id, channels])
    return rows.map((row) => ({
      id: BigInt(row.id),
      businessNo: row.business_no,
      title: row.title,
      channel: row.channel,
      amountFen: BigInt(row.amount_fen),
      currency: row.currency,
      status: row.status,
      createdAt: row.created_at,
    }))
  }

  return { unsettled, openFindings, lag, openWork, minutes, find }
}

export type Overview = ReturnType<typeof createOverview>

/** Orders that a batch covers or would cover, and their money. */
export type Covered = Readonly<{ orders: number; fen: bigint }>

// The same choice as a batch makes when it is created; orders that come or change in between make the difference.
const MATCHING = `
SELECT count(*)::int AS orders, coalesce(sum(amount_fen), 0)::text AS fen FROM (
  SELECT amount_fen FROM orders
  WHERE channel = ANY($1::text[]) AND ($2::text IS NULL OR channel = $2) AND ($3::text IS NULL OR status = $3)
    AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5::timestamptz IS NULL OR created_at < $5)
  ORDER BY id LIMIT $6
) AS chosen`

const LEFT = `
SELECT count(*)::int AS orders, coalesce(sum(amount_fen), 0)::text AS fen FROM batch_items
WHERE batch_id = $1 AND (result IS NULL OR result = ANY($2))`

/** What an operator is told before a batch begins or goes on. */
export function createBatchSelection(pool: pg.Pool, channels: readonly string[]) {
  async function covered(sql: string, values: readonly unknown[]): Promise<Covered> {
    const { rows } = await pool.query<{ orders: number; fen: string }>(sql, [...values])
    return { orders: rows[0]?.orders ?? 0, fen: BigInt(rows[0]?.fen ?? '0') }
  }
  return {
    matching: async (filter: BatchFilter) =>
      await covered(MATCHING, [
        channels,
        filter.channel,
        filter.status,
        filter.createdFrom,
        filter.createdTo,
        filter.limit,
      ]),
    left: async (batchId: bigint) => await covered(LEFT, [batchId.toString(), UNTOLD_RESULTS]),
  }
}

export type BatchSelection = ReturnType<typeof createBatchSelection>
