import { z } from 'zod'

import { fenFrom } from '../../domain/money.js'
import { ORDER_STATUSES, type OrderId, orderIdFrom, PAY_WAYS } from '../../domain/order.js'
import type { Order as OrderRow } from '../../generated/prisma/client.js'
import type { Conflict, NewOrder } from '../../store/registration.js'
import { onlyFields } from './known-fields.js'
import { fen, moment, storable, word, zonedTime } from './view-schema.js'

const text = (max: number) => storable(z.string().max(max))
const filled = (max: number) => text(max).min(1)
/** Far beyond any order, and well within what every reader of the database can tell. */
const EARLIEST = Date.parse('2000-01-01T00:00:00Z')
const LATEST = Date.parse('2100-01-01T00:00:00Z')
const time = zonedTime.refine((text) => {
  const ms = Date.parse(text)
  return ms >= EARLIEST && ms < LATEST
}, 'must be between the years 2000 and 2100')

/** An order id: a 64-bit integer above zero, as a string (a JSON number would lose digits). */
export const paymentIdSchema = z
  .string()
  .regex(/^\d{1,19}$/, { error: 'must be a string of up to 19 digits', abort: true })
  .refine((text) => orderIdFrom(BigInt(text)) !== undefined, 'must be from 1 to 2^63-1')

export const EXAMPLE_ORDER = {
  paymentId: '1753370980523384832',
  businessNo: 'P0001',
  channel: 'wechat_pay',
  amount: 1000,
  notifyUrl: 'https://merchant.example/notice',
}

/** `POST /ops/orders`, and one line of an import. Money in fen. */
export const newOrderSchema = onlyFields(
  {
    paymentId: paymentIdSchema,
    businessNo: filled(100),
    title: text(200).nullish(),
    channel: z
      .string()
      .regex(/^[a-z][a-z0-9_]{0,31}$/, 'must be a channel code such as wechat_pay, or null')
      .nullable(),
    payWay: z.enum(PAY_WAYS).default('normal'),
    amount: z
      .int()
      .min(0)
      .refine((amount) => fenFrom(amount) !== undefined, 'is more than any gateway takes')
      .describe('fen'),
    currency: z
      .string()
      .regex(/^[A-Z]{3}$/, 'must be an ISO 4217 code')
      .default('CNY'),
    status: z.enum(ORDER_STATUSES).default('progress'),
    createTime: time.nullish().describe('default: now'),
    expiredTime: time.nullish().describe('default: 30 min after createTime'),
    outTradeNo: filled(64).nullish().describe('default: paymentId'),
    gatewayOrderNo: filled(64).nullish(),
    payTime: time.nullish(),
    notifyUrl: text(500)
      .refine((url) => URL.canParse(url) && /^https?:\/\//i.test(url), 'must be an http or https URL')
      .nullish(),
    attach: text(500).nullish(),
  },
  'field',
  'order',
).meta({ examples: [EXAMPLE_ORDER] })

export function newOrderOf(given: z.output<typeof newOrderSchema>): NewOrder {
  const date = (text: string | null | undefined) => (text === null || text === undefined ? null : new Date(text))
  const amountFen = fenFrom(given.amount)
  if (amountFen === undefined) throw new RangeError('the schema lets no such amount through')
  return {
    id: BigInt(given.paymentId) as OrderId,
    businessNo: given.businessNo,
    title: given.title ?? null,
    channel: given.channel,
    payWay: given.payWay,
    amountFen,
    currency: given.currency,
    status: given.status,
    outTradeNo: given.outTradeNo ?? given.paymentId,
    gatewayOrderNo: given.gatewayOrderNo ?? null,
    createdAt: date(given.createTime),
    expiresAt: date(given.expiredTime),
    payTime: date(given.payTime),
    notifyUrl: given.notifyUrl ?? null,
    attach: given.attach ?? null,
  }
}

/** What the wire calls otherwise than we do. */
const WIRE_NAMES: Partial<Record<Conflict['differs'], keyof z.input<typeof newOrderSchema>>> = {
  id: 'paymentId',
  amountFen: 'amount',
  createdAt: 'createTime',
  expiresAt: 'expiredTime',
}

/** Which order is in the way of one that is handed in, and by what. */
export function conflictText({ taken, by, differs }: Conflict): string {
  if (taken !== 'id') return `Order ${by} has this ${taken}`
  return `Order ${by} is registered already: its ${WIRE_NAMES[differs] ?? differs} differs`
}

/** An order as /ops shows it: ids as strings, money in fen, times RFC 3339. */
export const orderSchema = z
  .object({
    paymentId: z.string(),
    businessNo: z.string(),
    title: z.string().nullable(),
    channel: z.string().nullable(),
    payWay: word(PAY_WAYS),
    amount: fen,
    currency: z.string(),
    status: word(ORDER_STATUSES),
    createTime: moment,
    expiredTime: moment,
    outTradeNo: z.string(),
    gatewayOrderNo: z.string().nullable(),
    payTime: moment.nullable(),
    closeTime: moment.nullable(),
    notifyUrl: z.string().nullable(),
    attach: z.string().nullable(),
    nextSyncTime: moment.nullable(),
    syncFailures: z.int().describe('in a row'),
  })
  .meta({ id: 'Order' })

export function orderView(row: OrderRow): z.input<typeof orderSchema> {
  return {
    paymentId: row.id.toString(),
    businessNo: row.businessNo,
    title: row.title,
    channel: row.channel,
    payWay: row.payWay,
    amount: Number(row.amountFen),
    currency: row.currency,
    status: row.status,
    createTime: row.createdAt.toISOString(),
    expiredTime: row.expiresAt.toISOString(),
    outTradeNo: row.outTradeNo,
    gatewayOrderNo: row.gatewayOrderNo,
    payTime: row.payTime?.toISOString() ?? null,
    closeTime: row.closeTime?.toISOString() ?? null,
    notifyUrl: row.notifyUrl,
    attach: row.attach,
    nextSyncTime: row.nextSyncAt?.toISOString() ?? null,
    syncFailures: row.syncFailures,
  }
}
