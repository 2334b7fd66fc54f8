import { randomBytes } from 'node:crypto'
import { compact } from './beijing-time.js'
import type { Fault, FaultName } from './faults.js'
import type { SandboxTrade } from './trades.js'
import { CLOSE_AGE_MS_MIN, WECHAT_PAID_STATES, WECHAT_STATE_TEXTS, type WechatContext } from './wechat-account.js'
import type { XmlFields } from './wechat-v2-xml.js'

/** An APIv2 answer before it is signed and written. */
export type V2Reply = Readonly<{ fields: XmlFields; signed: boolean }>

/** `return_code` FAIL: the gateway did not even look at the request. Never signed. */
export function notUnderstood(message: string): V2Reply {
  return {
    fields: [
      ['return_code', 'FAIL'],
      ['return_msg', message],
    ],
    signed: false,
  }
}

function head(context: WechatContext): XmlFields {
  const { appId, mchId, spMchId } = context.account
  return [
    ['return_code', 'SUCCESS'],
    ['return_msg', 'OK'],
    ['appid', appId],
    ['mch_id', spMchId ?? mchId],
    ...(spMchId === null ? [] : ([['sub_mch_id', mchId]] as const)),
    ['nonce_str', randomBytes(8).toString('hex')],
  ]
}

function success(context: WechatContext, more: XmlFields): V2Reply {
  return { fields: [...head(context), ['result_code', 'SUCCESS'], ...more], signed: true }
}

function refused(context: WechatContext, code: string, text: string, more: XmlFields = []): V2Reply {
  const fields: XmlFields = [
    ...head(context),
    ['result_code', 'FAIL'],
    ['err_code', code],
    ['err_code_des', text],
    ...more,
  ]
  return { fields, signed: true }
}

function orderNotExist(context: WechatContext): V2Reply {
  return refused(context, 'ORDERNOTEXIST', '订单不存在')
}

function stateFields(trade: SandboxTrade, state: string): XmlFields {
  const told: XmlFields = [
    ['out_trade_no', trade.outTradeNo],
    ['trade_state', state],
    ['trade_state_desc', WECHAT_STATE_TEXTS[state] ?? state],
  ]
  // A closed or revoked trade tells no amount, an unpaid one neither currency nor transaction.
  if (state === 'CLOSED' || state === 'REVOKED') {
    return [['attach', ''], ...told]
  }
  if (!WECHAT_PAID_STATES.includes(state)) {
    return [['device_info', ''], ['total_fee', String(trade.amount)], ...told]
  }
  return [
    ['openid', `o${trade.transactionId.slice(-27)}`],
    ['is_subscribe', 'N'],
    ['trade_type', trade.tradeType],
    ['bank_type', 'OTHERS'],
    ['total_fee', String(trade.amount)],
    ['fee_type', trade.currency],
    ['transaction_id', trade.transactionId],
    ['attach', trade.attach ?? ''],
    ['time_end', compact(trade.paidAt ?? trade.createdAt)],
    ['cash_fee', String(trade.payerAmount)],
    ...told,
  ]
}

/** `/pay/orderquery`. */
export function queryOrder(context: WechatContext, trade: SandboxTrade | undefined): V2Reply {
  if (trade === undefined || trade.state === 'NOT_EXIST') {
    context.book.turn(trade, 'query')
    return orderNotExist(context)
  }
  const state = trade.state === 'SUCCESS' && trade.refunded > 0 ? 'REFUND' : trade.state
  const reply = success(context, stateFields(trade, state))
  context.book.turn(trade, 'query')
  return reply
}

/** `/pay/closeorder`. Unlike APIv3 it tells an unknown and a closed order apart. */
export function closeOrder(context: WechatContext, trade: SandboxTrade | undefined): V2Reply {
  context.book.turn(trade, 'close')
  if (trade === undefined || trade.state === 'NOT_EXIST') {
    return orderNotExist(context)
  }
  switch (trade.state) {
    case 'SUCCESS':
    case 'REFUND':
      return refused(context, 'ORDERPAID', '该订单已支付')
    case 'CLOSED':
    case 'REVOKED':
      return refused(context, 'ORDERCLOSED', '订单已关闭')
    case 'USERPAYING':
    case 'ACCEPT':
      return refused(context, 'USERPAYING', '用户支付中，需要输入密码')
    default:
      if (context.now() - trade.createdAt < CLOSE_AGE_MS_MIN) {
        return refused(context, 'TRADE_ERROR', '订单生成后不能马上调用关单接口，最短调用间隔为5分钟')
      }
      trade.state = 'CLOSED'
      return success(context, [['result_msg', 'OK']])
  }
}

function callAgain(context: WechatContext): V2Reply {
  return refused(context, 'USERPAYING', '用户支付中，需要输入密码', [['recall', 'Y']])
}

/** `/secapi/pay/reverse`: revokes the trade, and gives the money back where it was paid. */
export function reverseOrder(context: WechatContext, trade: SandboxTrade | undefined): V2Reply {
  context.book.turn(trade, 'close')
  if (trade === undefined || trade.state === 'NOT_EXIST') {
    return refused(context, 'ORDERNOTEXIST', '订单不存在', [['recall', 'N']])
  }
  if (trade.recalls > 0) {
    trade.recalls -= 1
    return callAgain(context)
  }
  if (trade.state === 'REFUND' || (trade.state === 'SUCCESS' && trade.refunded > 0)) {
    return refused(context, 'TRADE_ERROR', '订单发生过退款，不能撤销', [['recall', 'N']])
  }
  trade.refunded = trade.state === 'SUCCESS' ? trade.amount : trade.refunded
  trade.state = trade.state === 'CLOSED' ? 'CLOSED' : 'REVOKED'
  return success(context, [['recall', 'N']])
}

const SYSTEM_ERROR_UNSIGNED: V2Reply = {
  fields: [
    ['return_code', 'SUCCESS'],
    ['return_msg', 'OK'],
    ['result_code', 'FAIL'],
    ['err_code', 'SYSTEMERROR'],
    ['err_code_des', 'system error'],
  ],
  signed: false,
}

/** What the gateway says in place of the true answer, under the faults that refuse. */
export const V2_REFUSALS: Readonly<Partial<Record<FaultName, (context: WechatContext, fault: Fault) => V2Reply>>> = {
  rate_limit: (context) => refused(context, 'FREQUENCY_LIMITED', '频率限制，请稍后重试'),
  rate_limit_unsigned: () => notUnderstood('频率限制，请稍后重试'),
  system_error: (context) => refused(context, 'SYSTEMERROR', '系统错误'),
  system_error_unsigned: () => SYSTEM_ERROR_UNSIGNED,
  not_exist: orderNotExist,
  not_exist_unsigned: (context) => ({ ...orderNotExist(context), signed: false }),
  // The call succeeded, and is to be made again all the same.
  recall: (context, { code }) => (code === 'SUCCESS' ? success(context, [['recall', 'Y']]) : callAgain(context)),
  error: (context, fault) => ({
    ...refused(context, fault.code ?? 'PARAM_ERROR', fault.message ?? '参数错误'),
    signed: fault.signed ?? true,
  }),
}

function replaced(fields: XmlFields, changes: Readonly<Record<string, (value: string) => string>>): XmlFields {
  return fields.map(([name, value]) => [name, changes[name]?.(value) ?? value] as const)
}

const ALTERATIONS: Readonly<Partial<Record<FaultName, (fields: XmlFields) => XmlFields>>> = {
  wrong_amount: (fields) => replaced(fields, { total_fee: (fen) => String(Number(fen) + 1) }),
  wrong_currency: (fields) => [...fields.filter(([name]) => name !== 'fee_type'), ['fee_type', 'USD']],
  wrong_merchant: (fields) => replaced(fields, { mch_id: () => '1900000001' }),
  wrong_app: (fields) => replaced(fields, { appid: () => 'wx0000000000000001' }),
  wrong_order: (fields) => replaced(fields, { out_trade_no: (no) => `${no}X` }),
  unknown_state: (fields) => replaced(fields, { trade_state: () => 'TELEPORTED' }),
  missing_fields: (fields) => fields.filter(([name]) => name !== 'out_trade_no' && name !== 'total_fee'),
}

/** The fields under a fault of the content; only answers that tell a trade have content to falsify. */
export function altered(fields: XmlFields, fault: FaultName | undefined): XmlFields {
  const alter = fault === undefined ? undefined : ALTERATIONS[fault]
  return alter === undefined || !fields.some(([name]) => name === 'trade_state') ? fields : alter(fields)
}

/** What a forger would make of the answer: the opposite of the truth. */
export function forged(fields: XmlFields): XmlFields {
  const state = fields.find(([name]) => name === 'trade_state')?.[1]
  if (state === undefined) {
    return [...fields, ['err_code_des', 'forged']]
  }
  return replaced(fields, { trade_state: () => (WECHAT_PAID_STATES.includes(state) ? 'CLOSED' : 'SUCCESS') })
}
