import { z } from 'zod'

import { fenFrom } from '../../domain/money.js'
import { GATEWAY_ORDER_NO_FORM, type Trade, type TradeState } from '../../domain/trade.js'
import type { UnknownDuty, UnknownReason } from '../gateway.js'
import type { V2Fields } from './v2-codec.js'

/** WeChat Pay, query order: trade_state. Whatever is not in here is unknown. */
const STATE_OF: Readonly<Record<string, TradeState>> = {
  SUCCESS: 'paid',
  REFUND: 'refunded',
  NOTPAY: 'paying',
  USERPAYING: 'paying',
  ACCEPT: 'paying',
  CLOSED: 'closed',
  REVOKED: 'closed',
  // The buyer may try again until the order expires.
  PAYERROR: 'paying',
}

/** After a reverse: a payment code's failed attempt is over then, whether it is told as REVOKED or still as failed. */
const STATE_OF_REVERSED: typeof STATE_OF = { ...STATE_OF, PAYERROR: 'closed' }

type Row = Readonly<{ duty: UnknownDuty; reason: UnknownReason; again: boolean; isFault: boolean }>

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

/** What an error answer asks of us, whether or not it is signed: it never tells a state. `httpStatus` is 200 of APIv2. */
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
    'USERPAYING',
  ].includes(plain(code))
}

export function isReversedBefore(code: string): boolean {
  return plain(code) === 'ORDERREVERSED'
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

/**
 * The trade that a verified answer tells of; undefined where its state or amount is not understood, or where it does not
 * say whose order it speaks of, which every genuine answer does. `spMchId`: the service provider in partner mode.
 */
export function tradeOf(answer: unknown, spMchId: string | null, isReversed = false): Trade | undefined {
  const parsed = tradeSchema.safeParse(answer)
  if (!parsed.success) return undefined
  const { data } = parsed
  return tradeFrom(isReversed, {
    gatewayState: data.trade_state,
    outTradeNo: data.out_trade_no ?? null,
    merchantId: merchantOf(spMchId, data.sp_mchid, spMchId === null ? data.mchid : data.sub_mchid),
    appId: (spMchId === null ? data.appid : data.sp_appid) ?? null,
    gatewayOrderNo: data.transaction_id ?? null,
    total: data.amount?.total ?? null,
    currency: data.amount?.currency ?? null,
    paidAt: data.success_time === null || data.success_time === undefined ? null : new Date(data.success_time),
  })
}

/** The same of an APIv2 answer (WeChat Pay APIv2, orderquery). */
export function tradeOfV2(fields: V2Fields, spMchId: string | null, isReversed = false): Trade | undefined {
  const total = member(fields, 'total_fee')
  const timeEnd = member(fields, 'time_end')
  const paidAt = timeEnd === null ? null : beijingTime(timeEnd)
  if (paidAt === undefined || (total !== null && !/^\d{1,15}$/.test(total))) return undefined
  return tradeFrom(isReversed, {
    gatewayState: member(fields, 'trade_state') ?? '',
    outTradeNo: member(fields, 'out_trade_no'),
    ...identityOfV2(fields, spMchId),
    gatewayOrderNo: member(fields, 'transaction_id'),
    total: total === null ? null : Number(total),
    currency: member(fields, 'fee_type'),
    paidAt,
  })
}

/** Whom an APIv2 answer speaks for. */
export function identityOfV2(fields: V2Fields, spMchId: string | null): Pick<Trade, 'merchantId' | 'appId'> {
  const mchId = member(fields, 'mch_id')
  const merchantId = spMchId === null ? mchId : merchantOf(spMchId, mchId, member(fields, 'sub_mch_id'))
  return { merchantId, appId: member(fields, 'appid') }
}

/** No such trade, said verifiably. APIv3 names nobody in it, APIv2 the merchant. */
export function notFound(code: string, identity: Partial<Pick<Trade, 'merchantId' | 'appId'>> = {}): Trade {
  return {
    state: 'not_found',
    gatewayState: code,
    outTradeNo: null,
    merchantId: null,
    appId: null,
    gatewayOrderNo: null,
    amountFen: null,
    currency: null,
    paidAt: null,
    ...identity,
  }
}

type Told = Omit<Trade, 'state' | 'amountFen'> & Readonly<{ total: number | null }>

function tradeFrom(isReversed: boolean, told: Told): Trade | undefined {
  const stateOf = isReversed ? STATE_OF_REVERSED : STATE_OF
  const state = Object.hasOwn(stateOf, told.gatewayState) ? stateOf[told.gatewayState] : undefined
  if (state === undefined) return undefined
  if (told.outTradeNo === null || told.merchantId === null || told.appId === null) return undefined
  const amountFen = told.total === null ? null : fenFrom(told.total)
  if (amountFen === undefined || (state === 'paid' && amountFen === null)) return undefined
  if (told.gatewayOrderNo !== null && !GATEWAY_ORDER_NO_FORM.test(told.gatewayOrderNo)) return undefined
  // An amount without a currency is one of yuan, by the gateway's definition; an unpaid trade may just not tell it.
  const currency = told.currency ?? (state === 'paid' ? 'CNY' : null)
  return {
    state,
    gatewayState: told.gatewayState,
    outTradeNo: told.outTradeNo,
    merchantId: told.merchantId,
    appId: told.appId,
    gatewayOrderNo: told.gatewayOrderNo,
    amountFen,
    currency,
    paidAt: told.paidAt,
  }
}

/** In partner mode the sub-merchant, unless the provider is another one: then that one, so that the difference is seen. */
function merchantOf(
  spMchId: string | null,
  named: string | null | undefined,
  merchant: string | null | undefined,
): string | null {
  return spMchId !== null && named !== spMchId ? (named ?? null) : (merchant ?? null)
}

/** APIv2 writes an empty member for what it does not tell. */
function member(fields: V2Fields, name: string): string | null {
  const value = fields.get(name)
  return value === undefined || value === '' ? null : value
}

const BEIJING_OFFSET_MS = 8 * 3_600_000

/** yyyyMMddHHmmss in Beijing time (WeChat Pay APIv2, time_end); undefined for what is no time. */
function beijingTime(text: string): Date | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(text)
  if (match === null) return undefined
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number)
  const wall = new Date(Date.UTC(year, month - 1, day, hour, minute, second))
  // Date.UTC turns the 31st of a short month into the 1st of the next: then it is not the time that was written.
  const written = wall.toISOString().replace(/\D/g, '').slice(0, 14)
  return written === text ? new Date(wall.getTime() - BEIJING_OFFSET_MS) : undefined
}
