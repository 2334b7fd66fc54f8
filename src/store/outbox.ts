import { randomUUID } from 'node:crypto'

import type pg from 'pg'

import type { NoticePayload } from '../domain/notice.js'

/** A notice that this process may send, until its claim ends. */
export type ClaimedNotice = Readonly<{
  id: bigint
  claimToken: string
  url: string
  host: string
  payload: NoticePayload
  traceId: string
  traceparent: string | null
  /** Sends before this one. */
  attempts: number
  /** How long it has been due, in seconds. */
  lagS: number
}>

export type AttemptOutcome = 'delivered' | 'refused' | 'timeout' | 'unreachable' | 'not_allowed'

export type NoticeAttempt = Readonly<{
  outcome: AttemptOutcome
  httpStatus: number | null
  /** The answer's first 200 characters, or what went wrong. */
  excerpt: string
  durationMs: number
  /** Seconds until the next send; null: this was the last one, or it was delivered. */
  nextDelayS: number | null
}>

/** How long a claim lasts: a send takes at most 5 s, its place in line at most as long again, and a margin. */
const CLAIM_S = 30

const CLAIM_NOTICES = {
  name: 'claim_notices',
  text: `
WITH due AS (
  SELECT id, next_attempt_at AS due_at FROM notices
  WHERE state = 'pending' AND next_attempt_at <= now() AND host <> ALL($2::text[])
  ORDER BY next_attempt_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE notices n SET claim_token = $3, next_attempt_at = clock_timestamp() + ${CLAIM_S} * interval '1 second'
FROM due WHERE n.id = due.id
RETURNING n.id, n.url, n.host, n.payload, n.trace_id, n.traceparent, n.attempts,
  extract(epoch FROM now() - due.due_at)::float8 AS lag_s`,
}

const FINISH_ATTEMPT = {
  name: 'finish_attempt',
  text: `
WITH finished AS (
  UPDATE notices SET attempts = attempts + 1, claim_token = NULL,
    state = CASE WHEN $3 = 'delivered' THEN 'delivered' WHEN $7::float8 IS NULL THEN 'dead' ELSE 'pending' END,
    delivered_at = CASE WHEN $3 = 'delivered' THEN clock_timestamp() END,
    next_attempt_at = CASE WHEN $3 = 'delivered' THEN NULL ELSE clock_timestamp() + $7::float8 * interval '1 second' END
  WHERE id = $1 AND claim_token = $2 AND state = 'pending'
  RETURNING id, attempts, state
), recorded AS (
  INSERT INTO notice_attempts (notice_id, attempt, outcome, http_status, excerpt, duration_ms)
  SELECT id, attempts, $3, $4, $5, $6 FROM finished
)
SELECT state FROM finished`,
}

type ClaimRow = {
  id: string
  url: string
  host: string
  payload: NoticePayload
  trace_id: string
  traceparent: string | null
  attempts: number
  lag_s: number
}

/** The merchants' notices that wait to be sent. Any number of couriers share them. */
export function createOutbox(pool: pg.Pool) {
  /** Up to `countMax` due notices, oldest first, each for one courier only; none for the hosts that are passed over. */
  async function claim(countMax: number, exceptHosts: readonly string[]): Promise<readonly ClaimedNotice[]> {
    const claimToken = randomUUID()
    const { rows } = await pool.query<ClaimRow>({ ...CLAIM_NOTICES, values: [countMax, exceptHosts, claimToken] })
    return rows.map((row) => ({
      id: BigInt(row.id),
      claimToken,
      url: row.url,
      host: row.host,
      payload: row.payload,
      traceId: row.trace_id,
      traceparent: row.traceparent,
      attempts: row.attempts,
      lagS: row.lag_s,
    }))
  }

  /** Records one send and what follows from it. Null where the claim was lost meanwhile: nothing is written then. */
  async function finish(
    notice: ClaimedNotice,
    attempt: NoticeAttempt,
  ): Promise<'pending' | 'delivered' | 'dead' | null> {
    const excerpt = attempt.excerpt.replaceAll('\0', '\uFFFD').toWellFormed().slice(0, 200)
    const values = [
      notice.id.toString(),
      notice.claimToken,
      attempt.outcome,
      attempt.httpStatus,
      excerpt,
      Math.round(attempt.durationMs),
      attempt.nextDelayS,
    ]
    const { rows } = await pool.query<{ state: 'pending' | 'delivered' | 'dead' }>({ ...FINISH_ATTEMPT, values })
    return rows[0]?.state ?? null
  }

  return { claim, finish }
}

export type Outbox = ReturnType<typeof createOutbox>
