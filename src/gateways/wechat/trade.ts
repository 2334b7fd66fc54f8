import { z } from 'zod'

import { fenFrom } from '../../domain/money.js'
import type { Trade, TradeState } from '../../domain/trade.js'
import type { UnknownDuty } from '../gateway.js'

/** WeChat Pay, query order: trade_state. Whatever is not in here is unknown. */
const STATE_OF: Readonly<Record<string, TradeState>> = {
  SUCCESS: 'paid',
  REFUND: 'refunded',
  NOTPAY: 'paying',
  USERPAYING: 'paying',
  ACCEPT: 'paying',
  CLOSED: 'closed',
  REVOKED: 'closed',
  // The buyer may try again until the order expires; a payment code's failed attempt is reversed first (then REVOKED).
  PAYERROR: 'paying',
}

type Row = Readonly<{ duty: UnknownDuty; reason: string; again: boolean; isFault: boolean }>

const CONFIGURATION: Row = { duty: 'alert', reason: 'configuration', again: false, isFault: false }
const TROUBLE: Row = { duty: 'retry', reason: 'gateway_error', again: true, isFault: true }

/** Error codes of a query, without underscores, and what each asks of us. Whatever is not in here is unknown, unrepeated. */
const ERROR_OF: Readonly<Record<string, Row>> = {
  PARAMERROR: CONFIGURATION,
  INVALIDREQUEST: CONFIGURATION,
  MCHNOTEXISTS: CONFIGURATION,
  APPIDMCHIDNOTMATCH: CONFIGURATION,
  SIGNERROR: CONFIGURATION,
  NOAUTH: CONFIGURATION,
  RULELIMIT: CONFIGURATION,
  FREQUENCYLIMITED: { duty: 'back_off', reason: 'rate_limited', again: false, isFault: false },
  RATELIMITED: { duty: 'back_off', reason: 'rate_limited', again: false, isFault: false },
  SYSTEMERROR: TROUBLE,
  BANKERROR: TROUBLE,
}

const UNKNOWN_CODE: Row = { duty: 'alert', reason: 'unknown_code', again: false, isFault: false }

/** Codes appear with and without underscores. */
function plain(code: string): string {
  return code.replaceAll('_', '').toUpperCase()
}

/** What an error answer asks of us, whether or not it is signed: it never tells a state. */
export function errorRow(httpStatus: number, code: string): Row {
  const row = ERROR_OF[plain(code)]
  if (row !== undefined) return row
  if (httpStatus === 429) return { duty: 'back_off', reason: 'rate_limited', again: false, isFault: false }
  return httpStatus >= 500 ? TROUBLE : UNKNOWN_CODE
}

/** ORDER_NOT_EXIST only: any other code means "we do not know", never "not found". */
export function isNotFound(code: string): boolean {
  return plain(code) === 'ORDERNOTEXIST'
}

/** Refusals of a close (and of a reverse) that are business, not trouble: the next query tells what is so. */
export function isCloseRefusal(code: string): boolean {
  return [
    'ORDERCLOSED',
    'ORDERPAID',
    'TRADEERROR',
    'ORDERNOTEXIST',
    'ORDERREVERSED',
    'TRADESTATEERROR',
    'INVALIDREQUEST',
    'USERPAYING',
  ].includes(plain(code))
}

/** An error body; anything may be missing from it. */
export const errorSchema = z
  .object({ code: z.string().catch(''), message: z.string().catch('') })
  .catch({ code: '', message: '' })

const text = z.string().min(1).nullish()
/** An answer to a query (WeChat Pay APIv3, query order). Unknown fields and values do not crash; missing ones are null. */
const tradeSchema = z.object({
  trade_state: z.string(),
  out_trade_no: text,
  transaction_id: text,
  appid: text,
  mchid: text,
  sp_appid: text,
  sp_mchid: text,
  sub_appid: text,
  sub_mchid: text,
  success_time: z.iso.datetime({ offset: true }).nullish(),
  amount: z.object({ total: z.int().nullish(), currency: text }).nullish(),
})

/** The trade that a verified answer tells of; undefined where its state or amount is not understood. */
export function tradeOf(answer: unknown, partner: boolean): Trade | undefined {
  const parsed = tradeSchema.safeParse(answer)
  if (!parsed.success) return undefined
  const { data } = parsed
  const state = STATE_OF[data.trade_state]
  if (state === undefined || !Object.hasOwn(STATE_OF, data.trade_state)) return undefined
  const total = data.amount?.total ?? null
  const amountFen = total === null ? null : fenFrom(total)
  if (amountFen === undefined || (state === 'paid' && amountFen === null)) return undefined
  return {
    state,
    gatewayState: data.trade_state,
    outTradeNo: data.out_trade_no ?? null,
    merchantId: (partner ? data.sub_mchid : data.mchid) ?? null,
    appId: (partner ? data.sp_appid : data.appid) ?? null,
    gatewayOrderNo: data.transaction_id ?? null,
    amountFen,
    currency: data.amount?.currency ?? null,
    paidAt: data.success_time === null || data.success_time === undefined ? null : new Date(data.success_time),
  }
}
