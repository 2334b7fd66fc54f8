import { randomUUID } from 'node:crypto'

import pg from 'pg'

import type { ExceptionKind, GatewayStatus, RepairWay } from '../domain/decide.js'
import type { Fen } from '../domain/money.js'
import type { NoticePayload } from '../domain/notice.js'
import type { Channel, Order, OrderId, OrderStatus, PayWay } from '../domain/order.js'

/** Which order is meant: by its id or by the merchant's number. */
export type OrderKey = Readonly<{ id: OrderId } | { businessNo: string }>

/** The sole right to sync one order, until it expires by the database's clock. `token` fences every write. */
export type Lease = Readonly<{
  token: string
  order: Order
  /** The database's time when the lease was taken. */
  takenAt: Date
  /** Past its expiry, by the database's clock. */
  expired: boolean
  ageS: number
  expiresInS: number
  closedForS: number | null
  /** Since the gateway last accepted to reverse the trade; null where it never did. */
  reversedForS: number | null
  /** Since a reversal was last begun or accepted, if it may have been carried out; null where none may. */
  reversalForS: number | null
  /** When one was last begun, as it stood when the lease was taken. */
  reversalBegunAt: Date | null
  /** Failed syncs in a row before this one. */
  failures: number
}>

export type LeaseOutcome =
  | Readonly<{ kind: 'acquired'; lease: Lease }>
  | Readonly<{ kind: 'busy'; order: Order }>
  | Readonly<{ kind: 'not_askable'; order: Order }>
  | Readonly<{ kind: 'not_found' }>

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

const ORDER_COLUMNS = `id, business_no, title, channel, pay_way, amount_fen, currency, status, out_trade_no,
  gateway_order_no, created_at, expires_at, pay_time, close_time, notify_url, attach, version, sync_failures, reversed_at,
  reversal_begun_at`

/** Past a lease's end, in milliseconds: an order that was leased before it was due is free when it is due again. */
const CLAIM_MARGIN_MS = 2_000

/**
 * An order that is closed and at rest is due again until a commit says otherwise: its sync may learn that it was paid, and die
 * before it has written that. A dry run ($5 is false) changes nothing.
 */
const leaseSql = (key: 'id' | 'business_no') => `
WITH leased AS (
  UPDATE orders SET lease_token = $2, lease_expires_at = clock_timestamp() + $3::int * interval '1 millisecond',
    next_sync_at = CASE WHEN $5 AND status = 'close' AND next_sync_at IS NULL
      THEN clock_timestamp() + ($3::int + ${CLAIM_MARGIN_MS}) * interval '1 millisecond' ELSE next_sync_at END
  WHERE ${key} = $1 AND channel = ANY($4::text[])
    AND (lease_token IS NULL OR lease_expires_at <= clock_timestamp())
  RETURNING ${ORDER_COLUMNS}, lease_expires_at
), seen AS (
  -- The leased row is the current one; the plain read beside it may be older, so it serves only where there is no lease.
  SELECT ${ORDER_COLUMNS}, true AS acquired, true AS askable FROM leased
  UNION ALL
  SELECT ${ORDER_COLUMNS}, false, channel = ANY($4::text[]) FROM orders
  WHERE ${key} = $1 AND NOT EXISTS (SELECT 1 FROM leased)
)
SELECT seen.*, t.now AS taken_at, expires_at <= t.now AS expired,
  extract(epoch FROM t.now - created_at)::float8 AS age_s,
  extract(epoch FROM expires_at - t.now)::float8 AS expires_in_s,
  extract(epoch FROM t.now - close_time)::float8 AS closed_for_s,
  extract(epoch FROM t.now - reversed_at)::float8 AS reversed_for_s,
  extract(epoch FROM t.now - greatest(reversed_at, reversal_begun_at))::float8 AS reversal_for_s
FROM seen, (SELECT clock_timestamp() AS now) AS t`

const LEASE_BY_ID = { name: 'lease_by_id', text: leaseSql('id') }
const LEASE_BY_BUSINESS_NO = { name: 'lease_by_business_no', text: leaseSql('business_no') }

/** A newer notice waits so long for an older one that is being sent: a send takes at most 5 s, and a margin. Seconds. */
export const SEND_OVER_S = 10

/** A new notice takes the place of what was not delivered of its order: sent later, that would tell a state that is over. */
const COMMIT_SYNC = {
  name: 'commit_sync',
  text: `
WITH guard AS (
  UPDATE orders SET status = $4::text, gateway_order_no = $5, pay_time = $6, close_time = $7,
    version = version + CASE WHEN $8::text IS NULL THEN 0 ELSE 1 END,
    next_sync_at = clock_timestamp() + $9::float8 * interval '1 second', sync_failures = $10,
    reversed_at = CASE WHEN $33::text = 'accepted' THEN clock_timestamp() ELSE reversed_at END,
    reversal_begun_at = CASE WHEN $33::text = 'not_done' THEN $34::timestamptz ELSE reversal_begun_at END,
    lease_token = NULL, lease_expires_at = NULL
  WHERE id = $1 AND lease_token = $2 AND version = $3
  RETURNING id, amount_fen, channel
), numbered AS MATERIALIZED (
  SELECT id, amount_fen, channel, CASE WHEN $8::text IS NOT NULL THEN next_repair_no() END AS repair_no FROM guard
), sync AS (
  INSERT INTO sync_records (order_id, trace_id, source, actor, client_ip, outcome, gateway_status, trade_state, decision,
    repair_no, error_code, error_msg, exchanges, duration_ms, channel, gateway_ms)
  SELECT id, $11::text, $12, $13::text, $14, $15, $16::text, $17, $18, repair_no, $19, $20, $21::jsonb, $22, channel, $32
  FROM numbered
  RETURNING id, order_id, repair_no
), repair AS (
  INSERT INTO repair_records (repair_no, order_id, sync_id, way, gateway_status, status_before, status_after, amount_fen, actor)
  SELECT sync.repair_no, sync.order_id, sync.id, $8::text, $16::text, $23, $4::text, numbered.amount_fen, $13::text
  FROM sync, numbered WHERE sync.repair_no IS NOT NULL
  RETURNING repair_no, order_id
), older AS MATERIALIZED (
  -- Every older notice, locked: as it is now, whatever became of it since this statement began.
  SELECT id, state, claim_token IS NOT NULL AND next_attempt_at > clock_timestamp() AS is_being_sent
  FROM notices WHERE order_id = $1 AND $25::text IS NOT NULL AND EXISTS (SELECT 1 FROM repair) FOR UPDATE
), superseded AS (
  -- The claim stays with who has it, so that a send that is under way can still be recorded. delivered_at: of one that is
  -- redelivered at this moment PostgreSQL checks the constraints on the delivered row as well. By the order: as long as
  -- nobody has counted the rows of a new table, ids alone have the whole of it read, by every sync.
  UPDATE notices SET state = 'superseded', next_attempt_at = NULL, delivered_at = NULL
  WHERE order_id = $1 AND id = ANY(ARRAY(SELECT id FROM older WHERE state IN ('pending', 'dead')))
), notice AS (
  INSERT INTO notices (order_id, repair_no, trace_id, traceparent, url, payload, host, next_attempt_at)
  SELECT order_id, repair_no, $11::text, $24, $25::text, $26::jsonb, $31, clock_timestamp() + CASE
    WHEN EXISTS (SELECT 1 FROM older WHERE is_being_sent) THEN ${SEND_OVER_S} ELSE 0 END * interval '1 second'
  FROM repair WHERE $25::text IS NOT NULL
), opened AS (
  INSERT INTO sync_exceptions AS e (order_id, sync_id, kind, at_risk_fen, fingerprint, evidence)
  SELECT order_id, id, $27::text, $28, $29::text, $30::jsonb FROM sync
  WHERE $27::text IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sync_exceptions r
    WHERE r.order_id = $1 AND r.kind = $27::text AND r.fingerprint = $29::text AND r.state = 'resolved')
  ON CONFLICT (order_id, kind, fingerprint) WHERE state = 'open'
    DO UPDATE SET last_seen_at = clock_timestamp(), seen_count = e.seen_count + 1
  RETURNING seen_count
)
SELECT sync.id AS sync_id, sync.repair_no, coalesce((SELECT seen_count = 1 FROM opened), false) AS exception_opened FROM sync`,
}

/** Guarded as the commit is, and by the database's clock: who has lost the lease, or is about to, reverses nothing. */
const BEGIN_REVERSAL = {
  name: 'begin_reversal',
  text: `UPDATE orders SET reversal_begun_at = clock_timestamp() WHERE id = $1 AND lease_token = $2 AND version = $3
    AND lease_expires_at > clock_timestamp() + $4::int * interval '1 millisecond'`,
}

const RELEASE_LEASE = {
  name: 'release_lease',
  text: 'UPDATE orders SET lease_token = NULL, lease_expires_at = NULL WHERE id = $1 AND lease_token = $2',
}

/**
 * `now()` and not `clock_timestamp()`: only a stable time can bound the index scan. The ids go through an array: a join
 * would let the planner, which cannot know how many rows a parameter as LIMIT means, read the whole table.
 */
const CLAIM_DUE = {
  name: 'claim_due',
  text: `
WITH due AS MATERIALIZED (
  SELECT id, next_sync_at FROM orders WHERE channel = $1 AND next_sync_at <= now()
  ORDER BY next_sync_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE orders SET next_sync_at = clock_timestamp() + $3::int * interval '1 millisecond'
  WHERE id = ANY(ARRAY(SELECT id FROM due))
)
SELECT id FROM due ORDER BY next_sync_at, id`,
}

/** Those of a process that stops. An order that was to be asked for again is due at once: its sync was cut short. */
const RELEASE_HELD = {
  name: 'release_held',
  text: `
UPDATE orders SET lease_token = NULL, lease_expires_at = NULL,
  next_sync_at = CASE WHEN next_sync_at IS NOT NULL THEN least(next_sync_at, clock_timestamp()) END
FROM unnest($1::bigint[], $2::uuid[]) AS held (id, token) WHERE orders.id = held.id AND orders.lease_token = held.token`,
}

const FIND_COMMITTED = {
  name: 'find_committed',
  text: `SELECT s.id AS sync_id, s.repair_no,
      EXISTS (SELECT 1 FROM sync_exceptions e WHERE e.order_id = $1 AND e.sync_id = s.id) AS exception_opened
    FROM sync_records s WHERE s.order_id = $1 AND s.trace_id = $2 ORDER BY s.id DESC LIMIT 1`,
}

type OrderRow = {
  id: string
  business_no: string
  title: string | null
  channel: string | null
  pay_way: PayWay
  amount_fen: string
  currency: string
  status: OrderStatus
  out_trade_no: string
  gateway_order_no: string | null
  created_at: Date
  expires_at: Date
  pay_time: Date | null
  close_time: Date | null
  notify_url: string | null
  attach: string | null
  version: number
  sync_failures: number
}
type LeaseRow = OrderRow & {
  acquired: boolean
  askable: boolean
  taken_at: Date
  expired: boolean
  age_s: number
  expires_in_s: number
  closed_for_s: number | null
  reversed_for_s: number | null
  reversal_for_s: number | null
  reversal_begun_at: Date | null
}
type CommitRow = { sync_id: string; repair_no: string | null; exception_opened: boolean }

/** The order rows: the two statements of every sync. */
export function createOrders(pool: pg.Pool, options: Readonly<{ leaseMs: number; channels: readonly Channel[] }>) {
  const claimMs = options.leaseMs + CLAIM_MARGIN_MS
  // As an array's literal, which pg would write anew for each sync. No channel needs quotes in it.
  const channels = `{${options.channels.join(',')}}`
  /** The leases of this process by token, oldest first: the order of each, and when it is over by our own clock. */
  const held = new Map<string, Readonly<{ id: OrderId; overAtMs: number }>>()

  function hold(token: string, id: OrderId): void {
    const nowMs = performance.now()
    // Those that could not be given back, since the database was away, are over by themselves.
    for (const [old, { overAtMs }] of held) {
      if (overAtMs > nowMs) break
      held.delete(old)
    }
    held.set(token, { id, overAtMs: nowMs + options.leaseMs })
  }

  /**
   * Takes the order's lease and reads the row, in one statement. `busy`: someone else holds it. `not_askable`: the order
   * has no channel, or one that is not configured here; no lease is taken then. `dryRun`: nothing will be committed.
   */
  async function acquireLease(key: OrderKey, { dryRun }: Readonly<{ dryRun: boolean }>): Promise<LeaseOutcome> {
    // No order has such a number, and PostgreSQL takes no NUL in a parameter.
    if ('businessNo' in key && key.businessNo.includes('\0')) return { kind: 'not_found' }
    const token = randomUUID()
    const statement = 'id' in key ? LEASE_BY_ID : LEASE_BY_BUSINESS_NO
    const value = 'id' in key ? key.id.toString() : key.businessNo
    const { rows } = await pool.query<LeaseRow>({
      name: statement.name,
      text: statement.text,
      values: [value, token, options.leaseMs, channels, !dryRun],
    })
    const row = rows[0]
    if (row === undefined) return { kind: 'not_found' }
    const order = orderOf(row)
    if (!row.askable) return { kind: 'not_askable', order }
    if (!row.acquired) return { kind: 'busy', order }
    hold(token, order.id)
    return {
      kind: 'acquired',
      lease: {
        token,
        order,
        takenAt: row.taken_at,
        expired: row.expired,
        ageS: row.age_s,
        expiresInS: row.expires_in_s,
        closedForS: row.closed_for_s,
        reversedForS: row.reversed_for_s,
        reversalForS: row.reversal_for_s,
        reversalBegunAt: row.reversal_begun_at,
        failures: row.sync_failures,
      },
    }
  }

  /**
   * Writes a sync's whole result and releases its lease, in one statement guarded by token and version: no row updated
   * means the lease was lost and nothing was written. Where the answer to the statement was lost with the connection, the
   * outcome is read again, never guessed; it throws where it cannot be learned.
   */
  async function commitSync(commit: SyncCommit): Promise<CommitOutcome> {
    const query = { name: COMMIT_SYNC.name, text: COMMIT_SYNC.text, values: commitValues(commit) }
    try {
      const { rows } = await pool.query<CommitRow>(query)
      held.delete(commit.lease.token)
      return rows[0] === undefined ? { kind: 'lease_lost' } : committed(rows[0])
    } catch (cause) {
      if (!isConnectionLoss(cause)) throw cause
      // One more try on another connection. If the first one did commit, its lease is gone and the guard lets nothing in.
      const { rows } = await pool.query<CommitRow>(query)
      held.delete(commit.lease.token)
      const row = rows[0] ?? (await findCommitted(commit))
      return row === undefined ? { kind: 'lease_lost' } : committed(row)
    }
  }

  async function findCommitted(commit: SyncCommit): Promise<CommitRow | undefined> {
    const values = [commit.lease.order.id.toString(), commit.record.traceId]
    const { rows } = await pool.query<CommitRow>({ ...FIND_COMMITTED, values })
    return rows[0]
  }

  /**
   * Remembers, before the gateway is asked to reverse the trade, that it was. False where the lease does not last for `callMs`
   * more, or is lost: then it must not be asked.
   */
  async function beginReversal(lease: Lease, callMs: number): Promise<boolean> {
    const values = [lease.order.id.toString(), lease.token, lease.order.version, callMs]
    const { rowCount } = await pool.query({ ...BEGIN_REVERSAL, values })
    return rowCount === 1
  }

  /** Gives a lease back without a trace, as a dry run does. A lease that was lost meanwhile is not touched. */
  async function releaseLease(lease: Lease): Promise<void> {
    await pool.query({ ...RELEASE_LEASE, values: [lease.order.id.toString(), lease.token] })
    held.delete(lease.token)
  }

  /**
   * Takes up to `countMax` due orders of one channel, oldest first, each for one process only. Their next due time is
   * moved ahead past a lease's life, so that those of a process that dies come due again by themselves.
   */
  async function claimDue(channel: string, countMax: number): Promise<readonly OrderId[]> {
    const { rows } = await pool.query<{ id: string }>({ ...CLAIM_DUE, values: [channel, countMax, claimMs] })
    return rows.map(({ id }) => BigInt(id) as OrderId)
  }

  /**
   * Gives back every lease that this process still holds, for a process that ends in the next moment: its requests end
   * with it, so nobody else's can meet them at the gateway. Returns how many there were.
   */
  async function releaseHeld(): Promise<number> {
    const leases = [...held]
    if (leases.length === 0) return 0
    const values = [leases.map(([, { id }]) => id.toString()), leases.map(([token]) => token)]
    const { rowCount } = await pool.query({ ...RELEASE_HELD, values })
    return rowCount ?? 0
  }

  return { acquireLease, beginReversal, commitSync, releaseLease, claimDue, releaseHeld }
}

export type Orders = ReturnType<typeof createOrders>

/** notices.host, in characters. */
const HOST_LENGTH_MAX = 260

function commitValues(commit: SyncCommit): unknown[] {
  const { lease, record, repair, notice, exception } = commit
  const { order } = lease
  return [
    order.id.toString(),
    lease.token,
    order.version,
    repair?.status ?? order.status,
    repair === null ? order.gatewayOrderNo : repair.gatewayOrderNo,
    // Not as ISO text: PostgreSQL reads no year 0, which a time of the year 1 in Beijing is in UTC.
    repair === null ? order.payTime : repair.payTime,
    repair === null ? order.closeTime : repair.closeTime,
    repair?.way ?? null,
    commit.nextSyncDelayS,
    commit.failures,
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
    order.status,
    notice?.traceparent ?? null,
    notice?.url ?? null,
    notice === null ? null : storableJson(notice.payload),
    exception?.kind ?? null,
    exception?.atRiskFen.toString() ?? null,
    exception === null ? null : storableText(exception.fingerprint).slice(0, 200),
    exception === null ? null : storableJson(exception.evidence),
    notice?.host.slice(0, HOST_LENGTH_MAX) ?? null,
    record.gatewayMs,
    commit.reversal,
    commit.lease.reversalBegunAt,
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

function orderOf(row: OrderRow): Order {
  return {
    id: BigInt(row.id) as OrderId,
    businessNo: row.business_no,
    title: row.title,
    channel: row.channel,
    payWay: row.pay_way,
    amountFen: BigInt(row.amount_fen) as Fen,
    currency: row.currency,
    status: row.status,
    outTradeNo: row.out_trade_no,
    gatewayOrderNo: row.gateway_order_no,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    payTime: row.pay_time,
    closeTime: row.close_time,
    notifyUrl: row.notify_url,
    attach: row.attach,
    version: row.version,
  }
}

/**
 * True where the statement may or may not have run: the connection broke, or no answer came in time. What the database
 * itself answered did not commit, unless it says that the connection ended (PostgreSQL, Appendix A: class 08, 57P).
 */
function isConnectionLoss(error: unknown): boolean {
  return !(error instanceof pg.DatabaseError) || /^(?:08|57P)/.test(error.code ?? '08')
}
