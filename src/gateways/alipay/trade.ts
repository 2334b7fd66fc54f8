import { z } from 'zod'

import { fenFromYuan } from '../../domain/money.js'
import { GATEWAY_ORDER_NO_FORM, type Trade, type TradeState } from '../../domain/trade.js'
import type { UnknownDuty, UnknownReason } from '../gateway.js'

/** Alipay, alipay.trade.query: trade_status. Whatever is not in here is unknown. TRADE_CLOSED is split by `stateOf`. */
const STATE_OF: Readonly<Record<string, TradeState>> = {
  TRADE_SUCCESS: 'paid',
  // No more refunds are possible; the money was paid all the same.
  TRADE_FINISHED: 'paid',
  WAIT_BUYER_PAY: 'paying',
  TRADE_CLOSED: 'closed',
}

type Row = Readonly<{ duty: UnknownDuty; reason: UnknownReason; again: boolean; isFault: boolean }>

const SLOW_DOWN: Row = { duty: 'back_off', reason: 'rate_limited', again: false, isFault: false }
const CONFIGURATION: Row = { duty: 'alert', reason: 'configuration', again: false, isFault: false }
const TROUBLE: Row = { duty: 'retry', reason: 'gateway_error', again: true, isFault: true }
const UNKNOWN_CODE: Row = { duty: 'alert', reason: 'unknown_code', again: false, isFault: false }

type Code = Readonly<{ code: string } | { subCode: string } | { subCodePrefix: string }>

/**
 * Error answers (Alipay, public error codes) and what each asks of us. The first row that matches counts; what matches
 * none is unknown, unrepeated, and somebody is told.
 */
const ERROR_ROWS: readonly (readonly [Code, Row])[] = [
  [{ subCode: 'isv.app-call-limited' }, SLOW_DOWN],
  [{ code: '40005' }, SLOW_DOWN],
  [{ code: '20001' }, CONFIGURATION],
  [{ code: '40001' }, CONFIGURATION],
  [{ code: '40002' }, CONFIGURATION],
  [{ code: '40003' }, CONFIGURATION],
  [{ code: '40006' }, CONFIGURATION],
  [{ subCode: 'ACQ.INVALID_PARAMETER' }, CONFIGURATION],
  [{ subCode: 'ACQ.ACCESS_FORBIDDEN' }, CONFIGURATION],
  [{ subCode: 'ACQ.SYSTEM_ERROR' }, TROUBLE],
  [{ subCodePrefix: 'aop.' }, TROUBLE],
  // isp.unknow-error, and whatever else says that the service is not available.
  [{ code: '20000' }, TROUBLE],
]

/** What an error answer asks of us, whether or not it is signed: it never tells a state. */
export function errorRow(code: string, subCode: string): Row {
  const found = ERROR_ROWS.find(([wanted]) => {
    if ('code' in wanted) return wanted.code === code
    return 'subCode' in wanted ? wanted.subCode === subCode : subCode.startsWith(wanted.subCodePrefix)
  })
  return found === undefined ? UNKNOWN_CODE : found[1]
}

/** ACQ.TRADE_NOT_EXIST only, and with Alipay it means "not yet": a trade comes to be when the buyer scans the code. */
export function isNotFoundYet({ code, sub_code: subCode }: Result): boolean {
  return code === '40004' && subCode === 'ACQ.TRADE_NOT_EXIST'
}

/** Alipay, alipay.trade.close and alipay.trade.cancel: why the trade was left as it is. */
const CLOSE_REFUSALS: Readonly<Record<string, string>> = {
  'ACQ.TRADE_NOT_EXIST': 'trade_not_exist',
  'ACQ.TRADE_STATUS_ERROR': 'trade_status_error',
  'ACQ.REASON_TRADE_STATUS_INVALID': 'trade_status_error',
  'ACQ.REASON_ILLEGAL_STATUS': 'trade_status_error',
  'ACQ.TRADE_HAS_FINISHED': 'trade_status_error',
  'ACQ.TRADE_HAS_CLOSE': 'trade_closed',
  // A cancel of a paid trade that cannot be refunded.
  'ACQ.REASON_TRADE_BEEN_FREEZEN': 'not_refundable',
  'ACQ.SELLER_BALANCE_NOT_ENOUGH': 'not_refundable',
  'ACQ.TRADE_CANCEL_TIME_OUT': 'not_refundable',
  'ACQ.CANCEL_NOT_ALLOWED': 'not_refundable',
  'ACQ.REASON_TRADE_REFUND_FEE_ERR': 'refunded_before',
}

/** Why a close (or cancel) was refused, where that is business: the next query tells what is so. Undefined else. */
export function closeRefusal({ code, sub_code: subCode }: Result): string | undefined {
  return code === '40004' && Object.hasOwn(CLOSE_REFUSALS, subCode) ? CLOSE_REFUSALS[subCode] : undefined
}

/**
 * What a cancel did (Alipay, alipay.trade.cancel: action). Not there: there was nothing to cancel. `refund`: the buyer paid
 * between query and cancel, and the money goes back; the next query finds a closed trade with a pay date, which is a
 * refunded one.
 */
export function cancelEffect(action: string | null): 'accepted' | 'refunded' | undefined {
  if (action === null || action === 'close') return 'accepted'
  return action === 'refund' ? 'refunded' : undefined
}

// Most of these are missing from most answers: a default costs nothing there, catch alone would make up an error for each.
const textOrEmpty = z.string().default('').catch('')
const textOrNull = z.string().nullable().default(null).catch(null)

/** What every answer has: code and message, and for errors a sub code of its own. Anything may be missing. */
export const resultSchema = z
  .object({
    code: textOrEmpty,
    msg: textOrEmpty,
    sub_code: textOrEmpty,
    sub_msg: textOrEmpty,
    out_trade_no: textOrNull,
    retry_flag: textOrEmpty,
    action: textOrNull,
  })
  .catch({ code: '', msg: '', sub_code: '', sub_msg: '', out_trade_no: null, retry_flag: '', action: null })
export type Result = z.output<typeof resultSchema>

const named = z.string().min(1)
const currency = z.string().nullish()

/**
 * An answer to a query (Alipay, alipay.trade.query). Unknown fields do not crash. Without a state, an amount and both
 * numbers, all of which Alipay promises, it is not understood.
 */
const tradeSchema = z.object({
  trade_status: named,
  out_trade_no: named,
  trade_no: z.string().regex(GATEWAY_ORDER_NO_FORM),
  total_amount: named,
  trans_currency: currency,
  settle_currency: currency,
  send_pay_date: z.string().nullish(),
})

/** The trade that a verified answer of code 10000 tells of; undefined where its state or amount is not understood. */
export function tradeOf(answer: unknown): Trade | undefined {
  const parsed = tradeSchema.safeParse(answer)
  if (!parsed.success) return undefined
  const told = parsed.data
  const paidAt = beijingTime(told.send_pay_date ?? null)
  // A pay date that cannot be read must not make a refunded trade an unpaid one.
  if (paidAt === undefined) return undefined
  const state = stateOf(told.trade_status, paidAt)
  // The order's amount; buyer_pay_amount is what is left of it after discounts.
  const amountFen = fenFromYuan(told.total_amount)
  if (state === undefined || amountFen === undefined) return undefined
  return {
    state,
    gatewayState: told.trade_status,
    outTradeNo: told.out_trade_no,
    merchantId: null,
    appId: null,
    gatewayOrderNo: told.trade_no,
    amountFen,
    currency: currencyOf(told),
    paidAt,
  }
}

/** No such trade yet. Alipay repeats the order number that was asked for; another one would be about another order. */
export function notFoundYet({ sub_code: subCode, out_trade_no: outTradeNo }: Result): Trade {
  return {
    state: 'not_found_yet',
    gatewayState: subCode,
    outTradeNo,
    merchantId: null,
    appId: null,
    gatewayOrderNo: null,
    amountFen: null,
    currency: null,
    paidAt: null,
  }
}

/** Alipay's partial refunds still read as paid; a closed trade that was paid once is a refunded one. */
function stateOf(tradeStatus: string, paidAt: Date | null): TradeState | undefined {
  if (tradeStatus === 'TRADE_CLOSED' && paidAt !== null) return 'refunded'
  return Object.hasOwn(STATE_OF, tradeStatus) ? STATE_OF[tradeStatus] : undefined
}

/**
 * Plain answers name no currency: `total_amount` is in yuan by definition. Cross-border ones name those of the price and
 * of the settlement; either being foreign makes it another trade than one of yuan.
 */
function currencyOf(told: Pick<z.output<typeof tradeSchema>, 'trans_currency' | 'settle_currency'>): string {
  const currencies = [told.trans_currency, told.settle_currency].map((given) => given || 'CNY')
  return currencies.find((given) => given !== 'CNY') ?? 'CNY'
}

/** Beijing time (+08:00, no summer time) to an instant; undefined where the text is not a moment that there was. */
function beijingTime(text: string | null): Date | null | undefined {
  if (text === null) return null
  if (!/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(text)) return undefined
  const asUtc = new Date(`${text.replace(' ', 'T')}Z`)
  // Read back: a 30th of February would otherwise pass for a day in March.
  if (Number.isNaN(asUtc.getTime()) || asUtc.toISOString().slice(0, 19).replace('T', ' ') !== text) return undefined
  return new Date(asUtc.getTime() - 8 * 3_600_000)
}
