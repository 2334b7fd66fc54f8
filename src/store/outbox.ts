import { randomUUID } from 'node:crypto'

import type pg from 'pg'

import type { NoticePayload } from '../domain/notice.js'
import type { NoticeState } from './notices.js'

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

/** How long a claim lasts: a send takes at most 5 s, its record 6 s more, and a margin. */
const CLAIM_S = 30

/**
 * The hosts with pending notices are found by one index probe each, and of each host at most as many notices are read as
 * it has places: however many wait for a merchant who does not answer, nobody else's claim grows by them.
 */
const CLAIM_NOTICES = {
  name: 'claim_notices',
  text: `
WITH RECURSIVE heads AS (
  (SELECT host, next_attempt_at FROM notices WHERE state = 'pending' ORDER BY host, next_attempt_at, id LIMIT 1)
  UNION ALL
  SELECT next_host.host, next_host.next_attempt_at FROM heads CROSS JOIN LATERAL (
    SELECT host, next_attempt_at FROM notices WHERE state = 'pending' AND host > heads.host
    ORDER BY host, next_attempt_at, id LIMIT 1
  ) AS next_host
), due AS MATERIALIZED (
  SELECT locked.id, locked.next_attempt_at AS due_at
  FROM heads LEFT JOIN unnest($3::text[], $4::int[]) AS busy (host, places) USING (host)
  CROSS JOIN LATERAL (
    SELECT id, next_attempt_at FROM notices
    WHERE state = 'pending' AND host = heads.host AND next_attempt_at <= now()
    ORDER BY next_attempt_at, id LIMIT coalesce(busy.places, $2) FOR UPDATE SKIP LOCKED
  ) AS locked
  WHERE heads.next_attempt_at <= now()
  ORDER BY locked.next_attempt_at, locked.id LIMIT $1
), claimed AS (
  UPDATE notices SET claim_token = $5, next_attempt_at = clock_timestamp() + ${CLAIM_S} * interval '1 second'
  WHERE id = ANY(ARRAY(SELECT id FROM due))
  RETURNING id, url, host, payload, trace_id, traceparent, attempts
)
SELECT claimed.*, extract(epoch FROM now() - due.due_at)::float8 AS lag_s
FROM due JOIN claimed USING (id) ORDER BY due.due_at, id`,
}

/**
 * A notice that was superseded while it was sent: taken by the merchant it is delivered, else it is never sent again. One
 * that was redelivered meanwhile has other attempts than it was claimed with (but for its first send, after which its new
 * schedule is its old one): not taken, it is due at once.
 */
const FINISH_ATTEMPT = {
  name: 'finish_attempt',
  text: `
WITH finished AS (
  UPDATE notices SET attempts = attempts + 1, claim_token = NULL,
    state = CASE WHEN $3 = 'delivered' THEN 'delivered' WHEN state = 'superseded' THEN state
      WHEN $7::float8 IS NULL AND attempts = $8 THEN 'dead' ELSE 'pending' END,
    delivered_at = CASE WHEN $3 = 'delivered' THEN clock_timestamp() END,
    next_attempt_at = CASE WHEN $3 <> 'delivered' AND state = 'pending'
      THEN clock_timestamp() + CASE WHEN attempts = $8 THEN $7::float8 ELSE 0 END * interval '1 second' END
  WHERE id = $1 AND claim_token = $2 AND state IN ('pending', 'superseded')
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
  /**
   * Up to `countMax` due notices, oldest first, each for one courier only: at most `perHostMax` of one host, and of the
   * hosts in `placesLeft` as many as it says.
   */
  async function claim(
    countMax: number,
    perHostMax: number,
    placesLeft: ReadonlyMap<string, number>,
  ): Promise<readonly ClaimedNotice[]> {
    const claimToken = randomUUID()
    const values = [countMax, perHostMax, [...placesLeft.keys()], [...placesLeft.values()], claimToken]
    const { rows } = await pool.query<ClaimRow>({ ...CLAIM_NOTICES, values })
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
  async function finish(notice: ClaimedNotice, attempt: NoticeAttempt): Promise<NoticeState | null> {
    const excerpt = attempt.excerpt.replaceAll('\0', '\uFFFD').slice(0, 200).toWellFormed()
    const values = [
      notice.id.toString(),
      notice.claimToken,
      attempt.outcome,
      attempt.httpStatus,
      excerpt,
      Math.round(attempt.durationMs),
      attempt.nextDelayS,
      notice.attempts,
    ]
    const { rows } = await pool.query<{ state: NoticeState }>({ ...FINISH_ATTEMPT, values })
    return rows[0]?.state ?? null
  }

  return { claim, finish }
}

export type Outbox = ReturnType<typeof createOutbox>
