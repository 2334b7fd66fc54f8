import { rfc3339 } from './beijing-time.js'
import type { FaultName } from './faults.js'
import type { JsonObject } from './json.js'
import type { SandboxTrade } from './trades.js'
import {
  CLOSE_AGE_MS_MAX,
  CLOSE_AGE_MS_MIN,
  WECHAT_PAID_STATES,
  WECHAT_STATE_TEXTS,
  type WechatAccount,
  type WechatContext,
} from './wechat-account.js'

/** An APIv3 answer before it is written and signed. */
export type V3Reply = Readonly<{
  status: number
  body: JsonObject | null
  /** Errors raised before the gateway knows who asks carry no signature. */
  signed: boolean
}>

export function v3Error(status: number, code: string, message: string, signed = true): V3Reply {
  return { status, body: { code, message }, signed }
}

export const ORDER_NOT_EXIST = v3Error(404, 'ORDER_NOT_EXIST', '订单不存在')

function identity(account: WechatAccount): JsonObject {
  if (account.spMchId === null) {
    return { appid: account.appId, mchid: account.mchId }
  }
  const sub = account.subAppId === null ? {} : { sub_appid: account.subAppId }
  return { sp_appid: account.appId, sp_mchid: account.spMchId, sub_mchid: account.mchId, ...sub }
}

function payer(account: WechatAccount, trade: SandboxTrade): JsonObject {
  const openid = `o${trade.transactionId.slice(-27)}`
  return account.spMchId === null ? { openid } : { sp_openid: openid }
}

/** One trade as `GET …/out-trade-no/{}` tells it: an unpaid one has no transaction, payer, time or currency. */
export function tradeBody(account: WechatAccount, trade: SandboxTrade): JsonObject {
  const state = trade.state === 'SUCCESS' && trade.refunded > 0 ? 'REFUND' : trade.state
  const common = {
    ...identity(account),
    out_trade_no: trade.outTradeNo,
    promotion_detail: [],
    trade_state: state,
    trade_state_desc: WECHAT_STATE_TEXTS[state] ?? state,
  }
  if (!WECHAT_PAID_STATES.includes(state)) {
    return {
      amount: { payer_currency: trade.currency, total: trade.amount },
      ...common,
      scene_info: { device_id: '' },
    }
  }
  return {
    transaction_id: trade.transactionId,
    amount: {
      currency: trade.currency,
      payer_currency: trade.currency,
      payer_total: trade.payerAmount,
      total: trade.amount,
    },
    ...common,
    bank_type: 'OTHERS',
    success_time: rfc3339(trade.paidAt ?? trade.createdAt),
    payer: payer(account, trade),
    trade_type: trade.tradeType,
    attach: trade.attach ?? '',
  }
}

export function refundReply(trade: SandboxTrade): V3Reply {
  const at = rfc3339(trade.paidAt ?? trade.createdAt)
  const body: JsonObject = {
    refund_id: `5${trade.transactionId.slice(1)}`,
    out_refund_no: trade.outRefundNo,
    transaction_id: trade.transactionId,
    out_trade_no: trade.outTradeNo,
    channel: 'ORIGINAL',
    user_received_account: '支付用户零钱',
    success_time: at,
    create_time: at,
    status: 'SUCCESS',
    funds_account: 'AVAILABLE',
    amount: {
      total: trade.amount,
      refund: trade.refunded,
      payer_total: trade.payerAmount,
      payer_refund: trade.refunded,
      settlement_refund: trade.refunded,
      settlement_total: trade.amount,
      discount_refund: 0,
      currency: trade.currency,
    },
    promotion_detail: [],
  }
  return { status: 200, body, signed: true }
}

const CLOSED_204: V3Reply = { status: 204, body: null, signed: true }

/** `POST …/close`. A 204 proves nothing: orders that are unknown or closed already get it as well. */
export function closeTrade(context: WechatContext, outTradeNo: string): V3Reply {
  const trade = context.book.find(outTradeNo)
  context.book.turn(trade, 'close')
  if (trade === undefined) {
    return CLOSED_204
  }
  const ageMs = context.now() - trade.createdAt
  switch (trade.state) {
    case 'SUCCESS':
    case 'REFUND':
      return v3Error(400, 'ORDER_PAID', '该订单已支付')
    case 'USERPAYING':
    case 'ACCEPT':
      return v3Error(400, 'TRADE_ERROR', '用户支付中，不能关闭订单')
    case 'NOTPAY':
    case 'PAYERROR':
      if (ageMs < CLOSE_AGE_MS_MIN) {
        return v3Error(400, 'TRADE_ERROR', '订单生成后不能马上调用关单接口，最短调用间隔为5分钟')
      }
      if (ageMs > CLOSE_AGE_MS_MAX) {
        return v3Error(400, 'TRADE_ERROR', '订单已超过可关闭的时间')
      }
      trade.state = 'CLOSED'
      return CLOSED_204
    default:
      return CLOSED_204
  }
}

function amountOf(body: JsonObject): JsonObject {
  const amount = body['amount']
  return typeof amount === 'object' && amount !== null && !Array.isArray(amount) ? (amount as JsonObject) : {}
}

// Where a body does not have the member in question, there is nothing to falsify.
const ALTERATIONS: Readonly<Partial<Record<FaultName, (body: JsonObject) => JsonObject>>> = {
  wrong_amount: (body) => {
    const amount = amountOf(body)
    const total = Number(amount['total'] ?? 0) + 1
    const payerTotal = 'payer_total' in amount ? { payer_total: total } : {}
    return { ...body, amount: { ...amount, total, ...payerTotal } }
  },
  wrong_currency: (body) => ({ ...body, amount: { ...amountOf(body), currency: 'USD', payer_currency: 'USD' } }),
  wrong_merchant: (body) =>
    'mchid' in body ? { ...body, mchid: '1900000001' } : { ...body, sp_mchid: '1900000001', sub_mchid: '1900000002' },
  wrong_app: (body) =>
    'appid' in body ? { ...body, appid: 'wx0000000000000001' } : { ...body, sp_appid: 'wx0000000000000001' },
  wrong_order: (body) => ({ ...body, out_trade_no: `${JSON.stringify(body['out_trade_no']).slice(1, -1)}X` }),
  unknown_state: (body) => ({ ...body, trade_state: 'TELEPORTED', trade_state_desc: '订单已传送' }),
  missing_fields: ({ out_trade_no: _number, amount: _amount, ...rest }) => rest,
}

/** The body under a fault of the content; only answers that tell a trade have content to falsify. */
export function altered(reply: V3Reply, fault: FaultName | undefined): V3Reply {
  const alter = fault === undefined ? undefined : ALTERATIONS[fault]
  if (alter === undefined || reply.body === null || !('trade_state' in reply.body)) {
    return reply
  }
  return { ...reply, body: alter(reply.body) }
}

/** The trade_state an answer tells; empty where it tells none. */
export function stateOf(body: JsonObject): string {
  const state = body['trade_state']
  return typeof state === 'string' ? state : ''
}

/** What a forger would make of the answer: the opposite of the truth, at the order's own amount. */
export function forged(body: JsonObject): JsonObject {
  if (!('trade_state' in body)) {
    return { ...body, message: 'forged' }
  }
  if (WECHAT_PAID_STATES.includes(stateOf(body))) {
    return { ...body, trade_state: 'CLOSED', trade_state_desc: '订单已关闭' }
  }
  return {
    ...body,
    transaction_id: '4200000000000000000000000000',
    trade_state: 'SUCCESS',
    trade_state_desc: '支付成功',
    success_time: '2024-01-01T00:00:00+08:00',
    amount: { ...amountOf(body), currency: 'CNY' },
  }
}
