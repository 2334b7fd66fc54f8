import { z } from 'zod'

import { fenFromYuan } from '../../domain/money.js'
import type { Trade, TradeState } from '../../domain/trade.js'
import type { UnknownDuty } from '../gateway.js'

/** Alipay, alipay.trade.query: trade_status. TRADE_CLOSED has two meanings (see `stateOf`). */
const STATE_OF: Readonly<Record<string, TradeState>> = {
  TRADE_SUCCESS: 'paid',
  TRADE_FINISHED: 'paid',
  WAIT_BUYER_PAY: 'paying',
  TRADE_CLOSED: 'closed',
}

type Row = Readonly<{ duty: UnknownDuty; reason: string; again: boolean; isFault: boolean }>

const CONFIGURATION: Row = { duty: 'alert', reason: 'configuration', again: false, isFault: false }
const TROUBLE: Row = { duty: 'retry', reason: 'gateway_error', again: true, isFault: true }
const SLOW_DOWN: Row = { duty: 'back_off', reason: 'rate_limited', again: false, isFault: false }
const UNKNOWN_CODE: Row = { duty: 'alert', reason: 'unknown_code', again: false, isFault: false }

/** sub_code first, then code: the first row that matches counts; what matches none is unknown, unrepeated. */
const ERROR_ROWS: readonly Readonly<{ subCode: RegExp | null; code: string | null; row: Row }>[] = [
  { subCode: /^isv\.app-call-limited$/, code: null, row: SLOW_DOWN },
  { subCode: /^(?:ACQ\.SYSTEM_ERROR|isp\.unknow-error|aop\..+)$/, code: null, row: TROUBLE },
  { subCode: /^ACQ\.INVALID_PARAMETER$/, code: null, row: CONFIGURATION },
  { subCode: null, code: '40005', row: SLOW_DOWN },
  { subCode: null, code: '20000', row: TROUBLE },
  { subCode: null, code: '20001', row: CONFIGURATION },
  { subCode: null, code: '40001', row: CONFIGURATION },
  { subCode: null, code: '40002', row: CONFIGURATION },
  { subCode: null, code: '40003', row: CONFIGURATION },
  { subCode: null, code: '40006', row: CONFIGURATION },
]

/** What an error answer asks of us, whether or not it is signed: it never tells a state. */
export function errorRow(code: string, subCode: string): Row {
  const found = ERROR_ROWS.find((entry) => (entry.subCode === null ? entry.code === code : entry.subCode.test(subCode)))
  return found?.row ?? UNKNOWN_CODE
}

/** The trade does not exist, and with Alipay that means: not yet. It comes to be when the buyer scans the code. */
export function isNotFoundYet(code: string, subCode: string): boolean {
  return code === '40004' && subCode === 'ACQ.TRADE_NOT_EXIST'
}

const CLOSE_REFUSALS: Readonly<Record<string, string>> = {
  'ACQ.TRADE_NOT_EXIST': 'trade_not_exist',
  'ACQ.TRADE_STATUS_ERROR': 'trade_status_error',
  'ACQ.REASON_TRADE_STATUS_INVALID': 'trade_status_error',
  'ACQ.REASON_ILLEGAL_STATUS': 'trade_status_error',
  'ACQ.TRADE_HAS_CLOSE': 'trade_closed',
  'ACQ.SELLER_BALANCE_NOT_ENOUGH': 'trade_status_error',
}

/** Why a close (or cancel) was refused, where that is business: the next query tells what is so. Undefined else. */
export function closeRefusal(code: string, subCode: string): string | undefined {
  return code === '40004' && Object.hasOwn(CLOSE_REFUSALS, subCode) ? CLOSE_REFUSALS[subCode] : undefined
}

const text = z.string().nullish()
/** What every answer has: code and message, and for errors a sub code of its own. */
export const resultSchema = z
  .object({
    code: z.string().catch(''),
    msg: z.string().catch(''),
    sub_code: z.string().catch(''),
    sub_msg: z.string().catch(''),
  })
  .catch({ code: '', msg: '', sub_code: '', sub_msg: '' })
export type Result = z.output<typeof resultSchema>

/** An answer to a query (Alipay, alipay.trade.query). Unknown fields do not crash; missing ones are null. */
const tradeSchema = z.object({
  trade_status: z.string(),
  out_trade_no: text,
  trade_no: text,
  total_amount: text,
  trans_currency: text,
  send_pay_date: z
    .string()
    .regex(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/)
    .nullish(),
})

/** The trade that a verified answer of code 10000 tells of; undefined where its state or amount is not understood. */
export function tradeOf(answer: unknown): Trade | undefined {
  const parsed = tradeSchema.safeParse(answer)
  if (!parsed.success) return undefined
  const { data } = parsed
  const paidAt = beijingTime(data.send_pay_date)
  const state = stateOf(data.trade_status, paidAt)
  const amountFen =
    data.total_amount === null || data.total_amount === undefined ? null : fenFromYuan(data.total_amount)
  if (state === undefined || amountFen === undefined || (state === 'paid' && amountFen === null)) return undefined
  return {
    state,
    gatewayState: data.trade_status,
    outTradeNo: data.out_trade_no ?? null,
    merchantId: null,
    appId: null,
    gatewayOrderNo: data.trade_no ?? null,
    amountFen,
    currency: data.trans_currency ?? null,
    paidAt,
  }
}

/** A closed trade that was paid once is a refunded one. */
function stateOf(tradeStatus: string, paidAt: Date | null): TradeState | undefined {
  if (tradeStatus === 'TRADE_CLOSED' && paidAt !== null) return 'refunded'
  return Object.hasOwn(STATE_OF, tradeStatus) ? STATE_OF[tradeStatus] : undefined
}

function beijingTime(text: string | null | undefined): Date | null {
  if (text === null || text === undefined) return null
  const time = new Date(`${text.replace(' ', 'T')}+08:00`)
  return Number.isNaN(time.getTime()) ? null : time
}
