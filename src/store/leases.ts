import { randomUUID } from 'node:crypto'

import type pg from 'pg'

import type { Fen } from '../domain/money.js'
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

const ORDER_COLUMNS = `id, business_no, title, channel, pay_way, amount_fen, currency, status, out_trade_no,
  gateway_order_no, created_at, expires_at, pay_time, close_time, notify_url, attach, version, sync_failures, reversed_at,
  reversal_begun_at`

/** Past a lease's end, in milliseconds: an order that was leased before it was due is free when it is due again. */
const CLAIM_MARGIN_MS = 2_000

/**
 * An order that is closed, at rest or due in a day, is due soon until a commit says otherwise: its sync may learn that it was
 * paid, and die before it has written that. A dry run ($5 is false) changes nothing.
 *
 * Nobody waits for the disk here: a lease that a crash of the database takes away is one that ran out early, and the token
 * guards whatever follows. Only the due time of a closed order must not be lost with it.
 */
const leaseSql = (key: 'id' | 'business_no') => `
WITH leased AS (
  UPDATE orders SET lease_token = $2, lease_expires_at = clock_timestamp() + $3::int * interval '1 millisecond',
    next_sync_at = CASE WHEN $5 AND status = 'close'
      THEN least(next_sync_at, clock_timestamp() + ($3::int + ${CLAIM_MARGIN_MS}) * interval '1 millisecond')
      ELSE next_sync_at END
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
  extract(epoch FROM t.now - greatest(reversed_at, reversal_begun_at))::float8 AS reversal_for_s,
  CASE WHEN acquired AND status <> 'close' THEN set_config('synchronous_commit', 'off', true) END AS synchronous_commit
FROM seen, (SELECT clock_timestamp() AS now) AS t`

const LEASE_BY_ID = { name: 'lease_by_id', text: leaseSql('id') }
const LEASE_BY_BUSINESS_NO = { name: 'lease_by_business_no', text: leaseSql('business_no') }

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

/** Who may sync which order: the first statement of every sync, and what is done to an order while its lease is held. */
export function createLeases(
  pool: Pick<pg.Pool, 'query'>,
  options: Readonly<{ leaseMs: number; channels: readonly Channel[] }>,
) {
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
  async function acquire(key: OrderKey, { dryRun }: Readonly<{ dryRun: boolean }>): Promise<LeaseOutcome> {
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
   * Remembers, before the gateway is asked to reverse the trade, that it was. False where the lease does not last for `callMs`
   * more, or is lost: then it must not be asked.
   */
  async function beginReversal(lease: Lease, callMs: number): Promise<boolean> {
    const values = [lease.order.id.toString(), lease.token, lease.order.version, callMs]
    const { rowCount } = await pool.query({ ...BEGIN_REVERSAL, values })
    return rowCount === 1
  }

  /** Gives a lease back without a trace, as a dry run does. A lease that was lost meanwhile is not touched. */
  async function release(lease: Lease): Promise<void> {
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

  /** Of a lease that the sync's commit has given back, or whose loss it has learned. */
  function forget({ token }: Lease): void {
    held.delete(token)
  }

  return { acquire, release, beginReversal, claimDue, releaseHeld, forget }
}

export type Leases = ReturnType<typeof createLeases>

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
