import pg from 'pg'

import type { ExceptionKind, GatewayStatus, RepairWay } from '../domain/decide.js'
import type { Fen } from '../domain/money.js'
import type { NoticePayload } from '../domain/notice.js'
import type { OrderStatus } from '../domain/order.js'
import type { Lease, Leases } from './leases.js'

export type SyncSource = 'merchant' | 'sweeper' | 'operator' | 'batch'

/**
 * What became of the reversal that a sync asked for. `none`: it asked for none. `accepted`: the gateway said so.
 * `not_done`: the gateway verifiably refused, or was not asked after all. `unclear`: nobody knows, it may be carried out yet.
 */
export type Reversal = 'none' | 'accepted' | 'not_done' | 'unclear'

/** Everything that one sync leaves behind; written as a whole or not at all. */
export type SyncCommit = Readonly<{
  lease: Lease
  record: Readonly<{
    traceId: string
    source: SyncSource
    actor: string | null
    clientIp: string | null
    outcome: 'synced' | 'mismatch' | 'unknown' | 'failed'
    gatewayStatus: GatewayStatus
    tradeState: string | null
    decision: string
    errorCode: number | null
    errorMsg: string | null
    exchanges: readonly unknown[]
    /** The slowest of the exchanges; null where nothing was asked. */
    gatewayMs: number | null
    durationMs: number
  }>
  /** The order as it becomes, and how; null where nothing changes. */
  repair: Readonly<{
    way: RepairWay
    status: OrderStatus
    gatewayOrderNo: string | null
    payTime: Date | null
    closeTime: Date | null
  }> | null
  notice: Readonly<{ url: string; host: string; payload: NoticePayload; traceparent: string | null }> | null
  exception: Readonly<{
    kind: ExceptionKind
    atRiskFen: Fen
    /** What makes it the same finding: it has one open row, and once resolved it is not opened again. */
    fingerprint: string
    evidence: Readonly<Record<string, unknown>>
  }> | null
  reversal: Reversal
  /** Until the next sync; null where the order is at rest. */
  nextSyncDelayS: number | null
  failures: number
}>

export type CommitOutcome =
  | Readonly<{ kind: 'committed'; syncId: string; repairNo: string | null; exceptionOpened: boolean }>
  | Readonly<{ kind: 'lease_lost' }>

/** A newer notice waits so long for an older one that is being sent: a send takes at most 5 s, and a margin. Seconds. */
export const SEND_OVER_S = 10

/** Only of who still has the lease, and of the row as it was leased. */
const HELD = 'id = $1 AND lease_token = $2 AND version = $3'
/** The lease is given back, and the order is due again or at rest. */
const GIVEN_BACK = `next_sync_at = clock_timestamp() + $4::float8 * interval '1 second', sync_failures = $5,
    lease_token = NULL, lease_expires_at = NULL`
const RECORD_COLUMNS = `order_id, trace_id, source, actor, client_ip, outcome, gateway_status, trade_state, decision,
    error_code, error_msg, exchanges, duration_ms, gateway_ms`
const RECORD_VALUES = `id, $6::text, $7, $8::text, $9, $10, $11::text, $12, $13, $14, $15, $16::jsonb, $17, $18`

/** Most syncs change nothing. Such a one cannot: this statement has neither a state nor money in it. */
const COMMIT_UNCHANGED = {
  name: 'commit_sync_unchanged',
  text: `
WITH guard AS (
  UPDATE orders SET ${GIVEN_BACK} WHERE ${HELD} RETURNING id, channel
)
INSERT INTO sync_records (${RECORD_COLUMNS}, channel) SELECT ${RECORD_VALUES}, channel FROM guard
RETURNING id AS sync_id, repair_no, false AS exception_opened`,
}

/** A new notice takes the place of what was not delivered of its order: sent later, that would tell a state that is over. */
const COMMIT_CHANGE = {
  name: 'commit_sync',
  text: `
WITH guard AS (
  UPDATE orders SET ${GIVEN_BACK}, status = $19::text, gateway_order_no = $20, pay_time = $21, close_time = $22,
    version = version + CASE WHEN $23::text IS NULL THEN 0 ELSE 1 END,
    reversed_at = CASE WHEN $24::text = 'accepted' THEN clock_timestamp() ELSE reversed_at END,
    reversal_begun_at = CASE WHEN $24::text = 'not_done' THEN $25::timestamptz ELSE reversal_begun_at END
  WHERE ${HELD}
  RETURNING id, amount_fen, channel
), numbered AS MATERIALIZED (
  SELECT id, amount_fen, channel, CASE WHEN $23::text IS NOT NULL THEN next_repair_no() END AS repair_no FROM guard
), sync AS (
  INSERT INTO sync_records (${RECORD_COLUMNS}, channel, repair_no) SELECT ${RECORD_VALUES}, channel, repair_no FROM numbered
  RETURNING id, order_id, repair_no
), repair AS (
  INSERT INTO repair_records (repair_no, order_id, sync_id, way, gateway_status, status_before, status_after, amount_fen, actor)
  SELECT sync.repair_no, sync.order_id, sync.id, $23::text, $11::text, $26, $19::text, numbered.amount_fen, $8::text
  FROM sync, numbered WHERE sync.repair_no IS NOT NULL
  RETURNING repair_no, order_id
), older AS MATERIALIZED (
  -- Every older notice, locked: as it is now, whatever became of it since this statement began.
  SELECT id, state, claim_token IS NOT NULL AND next_attempt_at > clock_timestamp() AS is_being_sent
  FROM notices WHERE order_id = $1 AND $27::text IS NOT NULL AND EXISTS (SELECT 1 FROM repair) FOR UPDATE
), superseded AS (
  -- The claim stays with who has it, so that a send that is under way can still be recorded. delivered_at: of one that is
  -- redelivered at this moment PostgreSQL checks the constraints on the delivered row as well. By the order: as long as
  -- nobody has counted the rows of a new table, ids alone have the whole of it read, by every sync.
  UPDATE notices SET state = 'superseded', next_attempt_at = NULL, delivered_at = NULL
  WHERE order_id = $1 AND id = ANY(ARRAY(SELECT id FROM older WHERE state IN ('pending', 'dead')))
), notice AS (
  INSERT INTO notices (order_id, repair_no, trace_id, url, host, payload, traceparent, next_attempt_at)
  SELECT order_id, repair_no, $6::text, $27::text, $28, $29::jsonb, $30, clock_timestamp() + CASE
    WHEN EXISTS (SELECT 1 FROM older WHERE is_being_sent) THEN ${SEND_OVER_S} ELSE 0 END * interval '1 second'
  FROM repair WHERE $27::text IS NOT NULL
), opened AS (
  INSERT INTO sync_exceptions AS e (order_id, sync_id, kind, at_risk_fen, fingerprint, evidence)
  SELECT order_id, id, $31::text, $32, $33::text, $34::jsonb FROM sync
  WHERE $31::text IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sync_exceptions r
    WHERE r.order_id = $1 AND r.kind = $31::text AND r.fingerprint = $33::text AND r.state = 'resolved')
  ON CONFLICT (order_id, kind, fingerprint) WHERE state = 'open'
    DO UPDATE SET last_seen_at = clock_timestamp(), seen_count = e.seen_count + 1
  RETURNING seen_count
)
SELECT sync.id AS sync_id, sync.repair_no, coalesce((SELECT seen_count = 1 FROM opened), false) AS exception_opened FROM sync`,
}

/** A trace of a batch may hold the failures of earlier tries. */
const FIND_COMMITTED = {
  name: 'find_committed',
  text: `SELECT s.id AS sync_id, s.repair_no,
      EXISTS (SELECT 1 FROM sync_exceptions e WHERE e.order_id = $1 AND e.sync_id = s.id) AS exception_opened
    FROM sync_records s WHERE s.order_id = $1 AND s.trace_id = $2 AND s.outcome = $3 ORDER BY s.id DESC LIMIT 1`,
}

type CommitRow = { sync_id: string; repair_no: string | null; exception_opened: boolean }

/** What a sync has learned and done, in the one statement that ends it. */
export function createSyncCommit(pool: pg.Pool, leases: Pick<Leases, 'forget'>) {
  /**
   * Writes a sync's whole result and releases its lease, in one statement guarded by token and version: no row updated
   * means the lease was lost and nothing was written. Where the answer to the statement was lost with the connection, the
   * outcome is read again, never guessed; it throws where it cannot be learned.
   */
  async function commitSync(commit: SyncCommit): Promise<CommitOutcome> {
    const query = statementOf(commit)
    try {
      const { rows } = await pool.query<CommitRow>(query)
      leases.forget(commit.lease)
      return rows[0] === undefined ? { kind: 'lease_lost' } : committed(rows[0])
    } catch (cause) {
      if (!isConnectionLoss(cause)) throw cause
      // One more try on another connection. If the first one did commit, its lease is gone and the guard lets nothing in.
      const { rows } = await pool.query<CommitRow>(query)
      leases.forget(commit.lease)
      const row = rows[0] ?? (await findCommitted(commit))
      return row === undefined ? { kind: 'lease_lost' } : committed(row)
    }
  }

  async function findCommitted(commit: SyncCommit): Promise<CommitRow | undefined> {
    const values = [commit.lease.order.id.toString(), commit.record.traceId, commit.record.outcome]
    const { rows } = await pool.query<CommitRow>({ ...FIND_COMMITTED, values })
    return rows[0]
  }

  return commitSync
}

export type CommitSync = ReturnType<typeof createSyncCommit>

/** notices.host, in characters. */
const HOST_LENGTH_MAX = 260

function statementOf(commit: SyncCommit): pg.QueryConfig {
  const { repair, exception, reversal } = commit
  const values = recordValues(commit)
  // What was begun stays begun where nobody knows what became of it.
  const isReversalTold = reversal === 'accepted' || reversal === 'not_done'
  if (repair === null && exception === null && !isReversalTold)
    return { name: COMMIT_UNCHANGED.name, text: COMMIT_UNCHANGED.text, values }
  return { name: COMMIT_CHANGE.name, text: COMMIT_CHANGE.text, values: [...values, ...changeValues(commit)] }
}

/** $1 to $18, of either statement. */
function recordValues({ lease, record, nextSyncDelayS, failures }: SyncCommit): unknown[] {
  return [
    lease.order.id.toString(),
    lease.token,
    lease.order.version,
    nextSyncDelayS,
    failures,
    record.traceId,
    record.source,
    record.actor,
    record.clientIp,
    record.outcome,
    record.gatewayStatus,
    record.tradeState,
    record.decision,
    record.errorCode,
    record.errorMsg === null ? null : storableText(record.errorMsg).slice(0, 500),
    storableJson(record.exchanges),
    Math.round(record.durationMs),
    record.gatewayMs,
  ]
}

/** $19 to $34. */
function changeValues({ lease, repair, notice, exception, reversal }: SyncCommit): unknown[] {
  const { order } = lease
  // Times not as ISO text: PostgreSQL reads no year 0, which a time of the year 1 in Beijing is in UTC.
  const { status, gatewayOrderNo, payTime, closeTime } = repair ?? order
  return [
    status,
    gatewayOrderNo,
    payTime,
    closeTime,
    repair?.way ?? null,
    reversal,
    lease.reversalBegunAt,
    order.status,
    notice?.url ?? null,
    notice?.host.slice(0, HOST_LENGTH_MAX) ?? null,
    notice === null ? null : storableJson(notice.payload),
    notice?.traceparent ?? null,
    exception?.kind ?? null,
    exception?.atRiskFen.toString() ?? null,
    exception === null ? null : storableText(exception.fingerprint).slice(0, 200),
    exception === null ? null : storableJson(exception.evidence),
  ]
}

/** PostgreSQL stores no NUL and no half of a surrogate pair; what a gateway sends may hold either. */
function storableText(text: string): string {
  return text.replaceAll('\0', '\uFFFD').toWellFormed()
}

function storableJson(value: unknown): string {
  const text = JSON.stringify(value)
  // NUL and half a pair are written as escapes. Hardly any text has one, and to look at each string costs more than this.
  if (!/\\u(?:0000|d[89a-f])/.test(text)) return text
  return JSON.stringify(value, (_, part: unknown) => (typeof part === 'string' ? storableText(part) : part))
}

function committed(row: CommitRow): CommitOutcome {
  return { kind: 'committed', syncId: row.sync_id, repairNo: row.repair_no, exceptionOpened: row.exception_opened }
}

/**
 * True where the statement may or may not have run: the connection broke, or no answer came in time. What the database
 * itself answered did not commit, unless it says that the connection ended (PostgreSQL, Appendix A: class 08, 57P).
 */
function isConnectionLoss(error: unknown): boolean {
  return !(error instanceof pg.DatabaseError) || /^(?:08|57P)/.test(error.code ?? '08')
}
