import { ALIPAY_ABSENT_STATES, ALIPAY_PAID_STATES, type AlipayContext } from './alipay-account.js'
import { spaced } from './beijing-time.js'
import type { Fault, FaultName } from './faults.js'
import type { JsonObject } from './json.js'
import type { SandboxTrade } from './trades.js'

/** The value of a response node, before it is written and signed. */
export type AlipayReply = Readonly<{
  node: JsonObject
  /** `empty`: an error that Alipay raises before it knows the app, with `"sign":""`. */
  signature: 'signed' | 'unsigned' | 'empty'
  /** In `error_response` in place of the method's own node. */
  isErrorNode: boolean
}>

const MESSAGES: Readonly<Record<string, string>> = {
  '10000': 'Success',
  '20000': 'Service Currently Unavailable',
  '20001': 'Insufficient Token Permissions',
  '40001': 'Missing Required Arguments',
  '40002': 'Invalid Arguments',
  '40004': 'Business Failed',
  '40005': 'Call Limited',
  '40006': 'Insufficient Permissions',
}

export function alipayError(code: string, subCode: string, subMessage: string, more: JsonObject = {}): AlipayReply {
  const node = { code, msg: MESSAGES[code] ?? 'Failed', sub_code: subCode, sub_msg: subMessage, ...more }
  return { node, signature: 'signed', isErrorNode: false }
}

function success(more: JsonObject): AlipayReply {
  return { node: { code: '10000', msg: 'Success', ...more }, signature: 'signed', isErrorNode: false }
}

/** Fen as yuan with two decimals, by digits: 8888 is `88.88`. */
export function yuan(fen: number): string {
  const digits = String(fen).padStart(3, '0')
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`
}

const NOTHING_PAID = { buyer_pay_amount: '0.00', invoice_amount: '0.00', point_amount: '0.00', receipt_amount: '0.00' }

function notExist(outTradeNo: string, kind: 'query' | 'other'): AlipayReply {
  // A query's refusal tells the amounts and the number as well, the other methods' do not.
  const more = kind === 'query' ? { ...NOTHING_PAID, out_trade_no: outTradeNo } : {}
  return alipayError('40004', 'ACQ.TRADE_NOT_EXIST', '交易不存在', more)
}

function shownState(trade: SandboxTrade): string {
  return ALIPAY_PAID_STATES.includes(trade.state) && trade.refunded >= trade.amount ? 'TRADE_CLOSED' : trade.state
}

function tradeNode(trade: SandboxTrade): JsonObject {
  const state = shownState(trade)
  const isPaid = ALIPAY_PAID_STATES.includes(state)
  return {
    buyer_logon_id: '135****0000',
    buyer_pay_amount: yuan(isPaid ? trade.payerAmount : 0),
    buyer_user_id: `2088${trade.transactionId.slice(-12)}`,
    ...(trade.paidAt === null ? {} : { buyer_user_type: 'PRIVATE' }),
    invoice_amount: '0.00',
    out_trade_no: trade.outTradeNo,
    point_amount: '0.00',
    receipt_amount: yuan(isPaid ? trade.payerAmount : 0),
    ...(trade.paidAt === null ? {} : { send_pay_date: spaced(trade.paidAt) }),
    // Holds a slash, so that a client that re-serialises the node fails here and not first in production.
    subject: trade.subject ?? `订单/${trade.outTradeNo}`,
    total_amount: yuan(trade.amount),
    ...(trade.currency === 'CNY' ? {} : { trans_currency: trade.currency }),
    trade_no: trade.transactionId,
    trade_status: state,
  }
}

function isAbsent(trade: SandboxTrade | undefined): trade is undefined {
  return trade === undefined || ALIPAY_ABSENT_STATES.includes(trade.state)
}

/** `alipay.trade.query`. */
export function queryTrade(context: AlipayContext, trade: SandboxTrade | undefined, outTradeNo: string): AlipayReply {
  const reply = isAbsent(trade) ? notExist(outTradeNo, 'query') : success(tradeNode(trade))
  context.book.turn(trade, 'query')
  return reply
}

/** `alipay.trade.close`. */
export function closeTrade(context: AlipayContext, trade: SandboxTrade | undefined, outTradeNo: string): AlipayReply {
  context.book.turn(trade, 'close')
  if (isAbsent(trade)) {
    return notExist(outTradeNo, 'other')
  }
  switch (shownState(trade)) {
    case 'WAIT_BUYER_PAY':
      trade.state = 'TRADE_CLOSED'
      return success({ out_trade_no: trade.outTradeNo, trade_no: trade.transactionId })
    case 'TRADE_FINISHED':
      return alipayError('40004', 'ACQ.REASON_TRADE_STATUS_INVALID', '交易状态异常')
    case 'TRADE_CLOSED':
      return alipayError('40004', 'ACQ.REASON_ILLEGAL_STATUS', '交易状态异常')
    default:
      return alipayError('40004', 'ACQ.TRADE_STATUS_ERROR', '交易状态不合法')
  }
}

const CANCEL_AGAIN = alipayError('40004', 'ACQ.SYSTEM_ERROR', '系统错误', { retry_flag: 'Y' })

/** `alipay.trade.cancel`: closes the trade, or gives the money back where it was paid. */
export function cancelTrade(context: AlipayContext, trade: SandboxTrade | undefined, outTradeNo: string): AlipayReply {
  context.book.turn(trade, 'close')
  if (isAbsent(trade)) {
    return success({ out_trade_no: outTradeNo, retry_flag: 'N' })
  }
  if (trade.recalls > 0) {
    trade.recalls -= 1
    return CANCEL_AGAIN
  }
  const state = shownState(trade)
  if (state === 'TRADE_FINISHED') {
    return alipayError('40004', 'ACQ.TRADE_HAS_FINISHED', '交易已完结')
  }
  const isPaid = state === 'TRADE_SUCCESS'
  trade.refunded = isPaid ? trade.amount : trade.refunded
  trade.state = 'TRADE_CLOSED'
  return success({
    out_trade_no: trade.outTradeNo,
    trade_no: trade.transactionId,
    retry_flag: 'N',
    action: isPaid ? 'refund' : 'close',
  })
}

/** `alipay.trade.fastpay.refund.query`: a refund that does not exist is a success without refund members. */
export function queryRefund(trade: SandboxTrade | undefined, outTradeNo: string, outRequestNo: string): AlipayReply {
  if (isAbsent(trade)) {
    return notExist(outTradeNo, 'other')
  }
  if (trade.refunded === 0 || outRequestNo !== trade.outRefundNo) {
    return success({})
  }
  return success({
    out_request_no: trade.outRefundNo,
    out_trade_no: trade.outTradeNo,
    refund_amount: yuan(trade.refunded),
    refund_status: 'REFUND_SUCCESS',
    total_amount: yuan(trade.amount),
    trade_no: trade.transactionId,
  })
}

const TRADE_NOT_EXIST = alipayError('40004', 'ACQ.TRADE_NOT_EXIST', '交易不存在')
const RATE_LIMITED = alipayError('40005', 'isv.app-call-limited', '应用调用次数超限')
const UNAVAILABLE = alipayError('20000', 'isp.unknow-error', '系统繁忙')

function fromInFront(reply: AlipayReply): AlipayReply {
  return { ...reply, signature: 'unsigned', isErrorNode: true }
}

function scripted(fault: Fault): AlipayReply {
  const message = fault.message ?? '参数有误'
  const reply = alipayError(fault.code ?? '40002', fault.subCode ?? 'isv.invalid-parameter', message)
  return { ...reply, signature: (fault.signed ?? true) ? 'signed' : 'unsigned' }
}

/** What Alipay says in place of the true answer, under the faults that refuse. */
export const ALIPAY_REFUSALS: Readonly<Partial<Record<FaultName, (fault: Fault) => AlipayReply>>> = {
  rate_limit: () => RATE_LIMITED,
  rate_limit_unsigned: () => fromInFront(RATE_LIMITED),
  system_error: () => alipayError('40004', 'ACQ.SYSTEM_ERROR', '系统错误'),
  system_error_unsigned: () => fromInFront(UNAVAILABLE),
  not_exist: () => TRADE_NOT_EXIST,
  not_exist_unsigned: () => ({ ...TRADE_NOT_EXIST, signature: 'unsigned' }),
  recall: () => CANCEL_AGAIN,
  error: scripted,
}

function cents(text: unknown): number {
  return typeof text === 'string' ? Number(text.replace('.', '')) : 0
}

const ALTERATIONS: Readonly<Partial<Record<FaultName, (node: JsonObject) => JsonObject>>> = {
  wrong_amount: (node) => ({ ...node, total_amount: yuan(cents(node['total_amount']) + 1) }),
  wrong_currency: (node) => ({ ...node, trans_currency: 'USD', settle_currency: 'USD' }),
  wrong_order: (node) => ({ ...node, out_trade_no: `${JSON.stringify(node['out_trade_no']).slice(1, -1)}X` }),
  unknown_state: (node) => ({ ...node, trade_status: 'TRADE_TELEPORTED' }),
  missing_fields: ({ out_trade_no: _number, total_amount: _amount, ...rest }) => rest,
}

/** The node under a fault of the content; only answers that tell a trade have content to falsify. */
export function altered(node: JsonObject, fault: FaultName | undefined): JsonObject {
  const alter = fault === undefined ? undefined : ALTERATIONS[fault]
  return alter === undefined || !('trade_status' in node) ? node : alter(node)
}

/** What a forger would make of the answer: the opposite of the truth, at the order's own amount. */
export function forged(node: JsonObject): JsonObject {
  if (!('trade_status' in node)) {
    return { ...node, msg: 'forged' }
  }
  const state = node['trade_status']
  if (typeof state === 'string' && ALIPAY_PAID_STATES.includes(state)) {
    const { send_pay_date: _date, ...rest } = node
    return { ...rest, trade_status: 'TRADE_CLOSED' }
  }
  return { ...node, trade_status: 'TRADE_SUCCESS', send_pay_date: '2024-01-01 00:00:00' }
}
