import type { Trade } from '../../domain/trade.js'
import { type Caller, type Try, unknown } from '../caller.js'
import type { ClockWatch } from '../clock.js'
import type { CallOptions, CloseOutcome, Gateway, QueryOutcome, TradeRef } from '../gateway.js'
import type { Http, HttpOutcome } from '../http.js'
import { closeNotBeforeAgeS } from './index.js'
import type { Reversal } from './reversal.js'
import { errorRow, identityOfV2, isNotFound, notFound, tradeOfV2 } from './trade.js'
import { NOT_FOUND_UNCONFIRMED, NOT_UNDERSTOOD, notAnswered, told, unsettled } from './unsettled.js'
import { createV2Call, numberOf, type V2Call, type WechatV2Config } from './v2-call.js'

export type WechatV2Deps = Readonly<{
  http: Http
  caller: Caller
  now: () => number
  clockWatch: ClockWatch
  /** Reverses payment-code orders; null where the API certificate is not configured. */
  reversal: Reversal | null
}>

/** WeChat Pay APIv2, for merchants that have only an API key. */
export function createWechatV2Gateway(config: WechatV2Config, deps: WechatV2Deps): Gateway {
  const v2 = createV2Call(config, deps)

  /** By our own number first, and by the transaction's before "no such order" is believed, as in APIv3. */
  async function queryOrder(ref: TradeRef, options: CallOptions): Promise<QueryOutcome> {
    const byTransaction = ref.gatewayOrderNo === null ? null : { transaction_id: ref.gatewayOrderNo }
    let isByTransaction = false
    const called = await deps.caller.call<Trade>('query', options, async (deadline, tryNo) => {
      const number = isByTransaction && byTransaction !== null ? byTransaction : numberOf(ref)
      const tried = queryTry(v2, config.spMchId, ref, await v2.send('query', number, tryNo, deadline))
      if (tried.kind !== 'done' || tried.value.state !== 'not_found') return tried
      if (byTransaction === null || isByTransaction) return tried
      isByTransaction = true
      return unsettled(tried.exchange, NOT_FOUND_UNCONFIRMED)
    })
    return called.kind === 'unknown' ? called : { kind: 'trade', trade: called.value, exchanges: called.exchanges }
  }

  async function closeOrder(ref: TradeRef, options: CallOptions): Promise<CloseOutcome> {
    if (ref.payWay === 'bar_code') {
      if (deps.reversal !== null) return await deps.reversal(ref, options)
      const message = '付款码订单的撤销未配置: WECHAT_CLIENT_CERT, WECHAT_CLIENT_KEY'
      return deps.caller.notMade('reverse', options, unknown('alert', 'configuration', message, []))
    }
    const called = await deps.caller.call('close', options, async (deadline, tryNo) =>
      v2.closeTry(await v2.send('close', numberOf(ref), tryNo, deadline), 'close'),
    )
    return called.kind === 'unknown' ? called : { ...called.value, exchanges: called.exchanges }
  }

  return {
    channel: 'wechat_pay',
    account: { merchantId: config.mchId, appId: config.appId },
    closeNotBeforeAgeS,
    availability: deps.caller.availability,
    queryOrder,
    closeOrder,
  }
}

function queryTry(v2: V2Call, spMchId: string | null, ref: TradeRef, outcome: HttpOutcome): Try<Trade> {
  if (outcome.kind !== 'answered') return notAnswered(outcome, 'query')
  const { exchange } = outcome
  const answer = v2.read(outcome)
  if (answer.kind === 'unknown') return answer
  const { fields } = answer
  if (fields.get('result_code') === 'SUCCESS') {
    const trade = tradeOfV2(fields, spMchId, ref.isReversed)
    return trade === undefined ? unsettled(exchange, NOT_UNDERSTOOD) : { kind: 'done', value: trade, exchange }
  }
  const code = fields.get('err_code') ?? ''
  // ORDERNOTEXIST only, and whose word it is goes along: it is compared with the account as a trade's would be.
  if (isNotFound(code)) return { kind: 'done', value: notFound(code, identityOfV2(fields, spMchId)), exchange }
  return unsettled(exchange, { ...errorRow(outcome.status, code), message: told(fields.get('err_code_des') || code) })
}
