import type { Order, OrderStatus, PayWay } from './order.js'
import { type SignType, signatureOf, signText } from './sign.js'

/** What a merchant is told (CONTRACT: Merchant notice). Times in Unix seconds, amounts in fen, nulls are written. */
export type NoticePayload = Readonly<{
  paymentId: string
  businessNo: string
  asyncPay: boolean
  asyncChannel: string | null
  amount: number
  payChannels: readonly Readonly<{ channel: string; way: string | null; amount: number }>[]
  status: OrderStatus
  createTime: number
  payTime: number | null
  closeTime: number | null
  attach: string | null
}>

/** Merchants hear of an order that became paid or closed; of nothing else. */
export function isNoticed(status: OrderStatus): boolean {
  return status === 'success' || status === 'close'
}

/** The way of payment in DaxPay's words, which merchants know: two of them are not those of /ops. */
const WAY_TOLD = {
  normal: 'normal',
  wap: 'wap',
  app: 'app',
  web: 'web',
  qr_code: 'qrcode',
  bar_code: 'barcode',
  jsapi: 'jsapi',
} as const satisfies Record<PayWay, string>

type Told = Pick<
  Order,
  'id' | 'businessNo' | 'channel' | 'payWay' | 'amountFen' | 'status' | 'createdAt' | 'payTime' | 'closeTime' | 'attach'
>

/** The order as it is after the repair, in the merchants' form. Amounts are bounded far below 2^53. */
export function noticePayload(order: Told): NoticePayload {
  const amount = Number(order.amountFen)
  return {
    paymentId: order.id.toString(),
    businessNo: order.businessNo,
    asyncPay: order.channel !== null,
    asyncChannel: order.channel,
    amount,
    payChannels: order.channel === null ? [] : [{ channel: order.channel, way: WAY_TOLD[order.payWay], amount }],
    status: order.status,
    createTime: unixSeconds(order.createdAt),
    payTime: order.payTime === null ? null : unixSeconds(order.payTime),
    closeTime: order.closeTime === null ? null : unixSeconds(order.closeTime),
    attach: order.attach,
  }
}

function unixSeconds(time: Date): number {
  return Math.floor(time.getTime() / 1000)
}

/**
 * The notice's body, signed at the time it is sent: a rotated secret then signs the pending ones too. Without a secret there
 * is no signature, as in the answers: one of an empty secret anybody could make.
 */
export function signedNotice(payload: NoticePayload, secret: string | null, type: SignType): string {
  const sign = secret === null ? null : signatureOf(signText(payload), secret, type)
  return JSON.stringify({ ...payload, sign })
}
