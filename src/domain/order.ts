import type { Fen } from './money.js'

/** The states of an order here, as DaxPay names them. */
export const ORDER_STATUSES = [
  'progress',
  'success',
  'close',
  'refunding',
  'partial_refund',
  'refunded',
  'fail',
] as const
export type OrderStatus = (typeof ORDER_STATUSES)[number]

/** How the buyer was asked to pay. `bar_code` (the merchant scans the buyer) is reversed rather than closed. */
export const PAY_WAYS = ['normal', 'wap', 'app', 'web', 'qr_code', 'bar_code', 'jsapi'] as const
export type PayWay = (typeof PAY_WAYS)[number]

/** The channels this service can ask. An order may name another one (it is then "not configured here") or none. */
export const CHANNELS = ['wechat_pay', 'ali_pay'] as const
export type Channel = (typeof CHANNELS)[number]

/** An order may name any channel; what is counted by channel knows ours, `other`, and `none`. */
export const CHANNEL_LABELS = [...CHANNELS, 'other', 'none'] as const
export type ChannelLabel = (typeof CHANNEL_LABELS)[number]

export function channelLabel(channel: string | null): ChannelLabel {
  if (channel === null) return 'none'
  return CHANNELS.find((known) => known === channel) ?? 'other'
}

export type OrderId = bigint & { readonly __brand: 'OrderId' }

/** Order ids are 64-bit signed and positive, as DaxPay's are. */
export const ORDER_ID_MAX = 9_223_372_036_854_775_807n

export function orderIdFrom(value: bigint): OrderId | undefined {
  return value > 0n && value <= ORDER_ID_MAX ? (value as OrderId) : undefined
}

/** One payment order as the sync sees it. Times are the database's. */
export type Order = Readonly<{
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
  createdAt: Date
  expiresAt: Date
  payTime: Date | null
  closeTime: Date | null
  notifyUrl: string | null
  attach: string | null
  version: number
}>
