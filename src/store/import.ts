import type pg from 'pg'

import { databaseTime } from './client.js'
import {
  type Conflict,
  compared,
  type FirstSyncAt,
  type NewOrder,
  type Registered,
  registeredTimes,
} from './registration.js'

export type Imported = Readonly<{ kind: 'created' | 'same' }> | Conflict

/** Orders of one statement. 500 keep it far below its time limit, and the memory of an import at a few hundred KB. */
export const IMPORT_CHUNK = 500

/** One array per column: the statement's text, and so its plan, is the same whatever the number of orders. */
const INSERT = {
  name: 'import_orders',
  text: `
INSERT INTO orders (id, business_no, title, channel, pay_way, amount_fen, currency, status, out_trade_no,
  gateway_order_no, created_at, expires_at, pay_time, close_time, notify_url, attach, next_sync_at)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
  $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::text[],
  $16::text[], $17::timestamptz[])
ON CONFLICT DO NOTHING RETURNING id, business_no AS "businessNo", channel, out_trade_no AS "outTradeNo"`,
}
type InsertedRow = Pick<NewOrder, 'businessNo' | 'channel' | 'outTradeNo'> & Readonly<{ id: string }>

/**
 * Those in the way: for each order at most one with its id, one with its number and one in its channel. Joined by unique
 * keys, since the planner knows those even where a large import has left it no statistics yet.
 */
const FIND_TAKEN = {
  name: 'import_find_taken',
  text: `
SELECT id::text, business_no AS "businessNo", title, channel, pay_way AS "payWay", amount_fen::text AS "amountFen",
  currency, out_trade_no AS "outTradeNo", notify_url AS "notifyUrl", attach, created_at AS "createdAt",
  expires_at AS "expiresAt"
FROM (
  SELECT orders.id FROM orders JOIN unnest($1::bigint[]) AS imported (id) USING (id)
  UNION
  SELECT orders.id FROM orders JOIN unnest($2::text[]) AS imported (business_no) USING (business_no)
  UNION
  SELECT orders.id FROM orders
  JOIN unnest($3::text[], $4::text[]) AS imported (channel, out_trade_no) USING (channel, out_trade_no)
) AS taken JOIN orders USING (id)`,
}
type TakenRow = Omit<Registered, 'id' | 'amountFen'> & Readonly<{ id: string; amountFen: string }>

/** Registers many orders at once, by the rules that hold for one. */
export function createImport(pool: pg.Pool, options: Readonly<{ firstSyncAt: FirstSyncAt }>) {
  /** What became of each, in their order. At most `IMPORT_CHUNK` orders. */
  return async function registerMany(orders: readonly NewOrder[]): Promise<readonly Imported[]> {
    if (orders.length > IMPORT_CHUNK) throw new RangeError(`at most ${IMPORT_CHUNK} orders at once`)
    const now = await databaseTime(pool)
    // By id, so that two imports of the same orders wait for each other in one order and cannot deadlock.
    const rows = orders.toSorted((one, other) => (one.id < other.id ? -1 : 1))
    // Beside the orders, not merged with them: a copy of each took a kilobyte, more than all the rest of an import.
    const times = rows.map((order) => registeredTimes(order, options.firstSyncAt, now))
    const inserted = await pool.query<InsertedRow>({ ...INSERT, values: columnsOf(rows, times) })
    const created = new Map(inserted.rows.map((row) => [BigInt(row.id), row]))
    // Of several with one id that which went in, which may be a later one: the first one's number may be taken.
    const isCreated = orders.map((order) => isSame(order, created.get(order.id)) && created.delete(order.id))
    const others = orders.filter((_, index) => isCreated[index] !== true)
    const taken = others.length === 0 ? [] : await findTaken(others)
    return orders.map((order, index) => (isCreated[index] === true ? { kind: 'created' } : compared(order, taken)))
  }

  async function findTaken(orders: readonly NewOrder[]): Promise<readonly Registered[]> {
    const values = [
      orders.map(({ id }) => id.toString()),
      orders.map(({ businessNo }) => businessNo),
      orders.map(({ channel }) => channel),
      orders.map(({ outTradeNo }) => outTradeNo),
    ]
    const { rows } = await pool.query<TakenRow>({ ...FIND_TAKEN, values })
    return rows.map((row) => ({ ...row, id: BigInt(row.id), amountFen: BigInt(row.amountFen) }))
  }
}

export type RegisterMany = ReturnType<typeof createImport>

/** By all that is unique. Of several that agree in it, the first one went in. */
function isSame({ businessNo, channel, outTradeNo }: NewOrder, row: InsertedRow | undefined): boolean {
  return row?.businessNo === businessNo && row.channel === channel && row.outTradeNo === outTradeNo
}

function columnsOf(rows: readonly NewOrder[], times: readonly ReturnType<typeof registeredTimes>[]): unknown[] {
  const text = (value: bigint) => value.toString()
  return [
    rows.map(({ id }) => text(id)),
    rows.map(({ businessNo }) => businessNo),
    rows.map(({ title }) => title),
    rows.map(({ channel }) => channel),
    rows.map(({ payWay }) => payWay),
    rows.map(({ amountFen }) => text(amountFen)),
    rows.map(({ currency }) => currency),
    rows.map(({ status }) => status),
    rows.map(({ outTradeNo }) => outTradeNo),
    rows.map(({ gatewayOrderNo }) => gatewayOrderNo),
    times.map(({ createdAt }) => createdAt),
    times.map(({ expiresAt }) => expiresAt),
    rows.map(({ payTime }) => payTime),
    times.map(({ closeTime }) => closeTime),
    rows.map(({ notifyUrl }) => notifyUrl),
    rows.map(({ attach }) => attach),
    times.map(({ nextSyncAt }) => nextSyncAt),
  ]
}
