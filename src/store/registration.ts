import type { Pool } from 'pg'

import type { Fen } from '../domain/money.js'
import type { OrderId, OrderStatus, PayWay } from '../domain/order.js'
import type { Order as OrderRow, PrismaClient } from '../generated/prisma/client.js'
import { databaseTime } from './client.js'

/** An order as it is handed to us. Times that were not given are ours to choose and do not count as a difference. */
export type NewOrder = Readonly<{
  id: OrderId
  businessNo: string
  title: string | null
  channel: string | null
  payWay: PayWay
  amountFen: Fen
  currency: string
  status: OrderStatus
  outTradeNo: string
  gatewayOrderNo: string | null
  createdAt: Date | null
  expiresAt: Date | null
  payTime: Date | null
  notifyUrl: string | null
  attach: string | null
}>

export type Registration = Readonly<{ kind: 'created' | 'same'; row: OrderRow }> | Conflict

/** 30 minutes: what both gateways give an order whose expiry is not named. */
const EXPIRES_AFTER_MS = 30 * 60_000

/** Facts that never change once registered; what a sync changes (status, gateway number, pay time) is not compared. */
const COMPARED = [
  'id',
  'businessNo',
  'title',
  'channel',
  'payWay',
  'amountFen',
  'currency',
  'outTradeNo',
  'notifyUrl',
  'attach',
] as const

export type ComparedFact = (typeof COMPARED)[number] | 'createdAt' | 'expiresAt'

/** What is compared of an order that is registered already. */
export type Registered = Pick<OrderRow, ComparedFact>

/** What no two orders have in common, the first that counts first; `outTradeNo` within its channel. */
const UNIQUE = ['id', 'businessNo', 'outTradeNo'] as const

/** Another order, `by`, has the id or a number of this one, and is not the same. */
export type Conflict = Readonly<{
  kind: 'conflict'
  taken: (typeof UNIQUE)[number]
  by: bigint
  differs: ComparedFact
}>

/** When an order is first asked about; null: never by itself. */
export type FirstSyncAt = (order: NewOrder, createdAt: Date, expiresAt: Date, now: Date) => Date | null

/** The times of an order that are ours to say, or were left to us. */
export function registeredTimes(order: NewOrder, firstSyncAt: FirstSyncAt, now: Date) {
  const createdAt = order.createdAt ?? now
  const expiresAt = order.expiresAt ?? new Date(createdAt.getTime() + EXPIRES_AFTER_MS)
  const closeTime = order.status === 'close' ? now : null
  return { createdAt, expiresAt, closeTime, nextSyncAt: firstSyncAt(order, createdAt, expiresAt, now) }
}

/**
 * Registering orders. The same one again is no error; another one under the same id or number is refused. Times that were
 * left to us are the database's: by those of a node whose clock is slow, a new order would look old enough to be closed.
 */
export function createRegistration(pool: Pool, prisma: PrismaClient, options: Readonly<{ firstSyncAt: FirstSyncAt }>) {
  return async function register(order: NewOrder): Promise<Registration> {
    const now = await databaseTime(pool)
    const inserted = await prisma.order.createManyAndReturn({
      data: [{ ...order, ...registeredTimes(order, options.firstSyncAt, now) }],
      skipDuplicates: true,
    })
    if (inserted[0] !== undefined) return { kind: 'created', row: inserted[0] }
    // Each finds one at most. Without a channel nobody has a number for the gateway, and it may be that of many orders.
    const { id, businessNo, channel, outTradeNo } = order
    const byNumber = channel === null ? [] : [{ channel, outTradeNo }]
    return compared(order, await prisma.order.findMany({ where: { OR: [{ id }, { businessNo }, ...byNumber] } }))
  }
}

export type Register = ReturnType<typeof createRegistration>

/** Why an order did not go in, since one of these was there before: it is the same, or a different one. */
export function compared<Row extends Registered>(
  order: NewOrder,
  registered: readonly Row[],
): Readonly<{ kind: 'same'; row: Row }> | Conflict {
  for (const taken of UNIQUE) {
    if (taken === 'outTradeNo' && order.channel === null) continue
    const row = registered.find(
      (one) => one[taken] === order[taken] && (taken !== 'outTradeNo' || one.channel === order.channel),
    )
    if (row === undefined) continue
    const differs = differenceOf(order, row)
    return differs === undefined ? { kind: 'same', row } : { kind: 'conflict', taken, by: row.id, differs }
  }
  throw new Error('an order was refused as a duplicate and cannot be found')
}

/** The first fact in which this order differs from the registered one. */
function differenceOf(order: NewOrder, row: Registered): ComparedFact | undefined {
  const field = COMPARED.find((name) => order[name] !== row[name])
  if (field !== undefined) return field
  if (order.createdAt !== null && order.createdAt.getTime() !== row.createdAt.getTime()) return 'createdAt'
  if (order.expiresAt !== null && order.expiresAt.getTime() !== row.expiresAt.getTime()) return 'expiresAt'
  return undefined
}
