import type { KeyObject } from 'node:crypto'

import type { Trade } from '../../domain/trade.js'
import type { Caller, Try } from '../caller.js'
import type { CallOptions, CloseOutcome, Gateway, QueryOutcome, TradeRef } from '../gateway.js'
import type { Http, HttpOutcome } from '../http.js'
import { parseStrictJson } from '../strict-json.js'
import { type AppKey, formOf, openEnvelope } from './codec.js'
import { closeRefusal, errorRow, isNotFoundYet, type Result, resultSchema, tradeOf } from './trade.js'

export type AlipayConfig = Readonly<{
  key: AppKey
  /** The key that answers are signed with. */
  publicKey: KeyObject
  /** Certificate mode: the serial number that answers must name. Null in key mode. */
  alipayCertSn: string | null
  gatewayUrl: string
}>

export type AlipayDeps = Readonly<{ http: Http; caller: Caller; now: () => number }>

type Closing = Readonly<{ kind: 'accepted' }> | Readonly<{ kind: 'refused'; reason: string; message: string }>
type Unsettled = Extract<Try<never>, { kind: 'unknown' }>

/** Alipay, gateway.do. */
export function createAlipayGateway(config: AlipayConfig, deps: AlipayDeps): Gateway {
  async function queryOrder(ref: TradeRef, options: CallOptions): Promise<QueryOutcome> {
    const method = 'alipay.trade.query'
    const called = await deps.caller.call('query', options, async (signal) =>
      queryTry(await exchange(method, ref, signal), method),
    )
    return called.kind === 'unknown' ? called : { kind: 'trade', trade: called.value, exchanges: called.exchanges }
  }

  /** Payment codes are cancelled rather than closed; a cancel refunds what was paid, so it only ever follows a query. */
  async function closeOrder(ref: TradeRef, options: CallOptions): Promise<CloseOutcome> {
    const method = ref.payWay === 'bar_code' ? 'alipay.trade.cancel' : 'alipay.trade.close'
    const called = await deps.caller.call('close', options, async (signal) =>
      closeTry(await exchange(method, ref, signal), method),
    )
    return called.kind === 'unknown' ? called : { ...called.value, exchanges: called.exchanges }
  }

  async function exchange(method: string, ref: TradeRef, signal: AbortSignal): Promise<HttpOutcome> {
    const body = await formOf(method, { out_trade_no: ref.outTradeNo }, config.key, deps.now())
    const headers = {
      accept: 'application/json',
      'accept-encoding': 'identity',
      'user-agent': 'unipay-sync/0.1',
      'content-type': 'application/x-www-form-urlencoded;charset=utf-8',
    }
    return await deps.http.send({ method: 'POST', url: config.gatewayUrl, headers, body }, signal)
  }

  function queryTry(outcome: HttpOutcome, method: string): Try<Trade> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, true)
    const read = readAnswer(outcome, method)
    if (read.kind === 'unknown') return read
    const { result, json } = read
    if (result.code === '10000') {
      const trade = tradeOf(json)
      if (trade !== undefined) return { kind: 'done', value: trade, exchange: outcome.exchange }
      return {
        kind: 'unknown',
        duty: 'alert',
        reason: 'unknown_state',
        message: '支付网关返回了无法识别的订单状态',
        again: false,
        isFault: false,
        exchange: outcome.exchange,
      }
    }
    if (isNotFoundYet(result.code, result.sub_code))
      return { kind: 'done', value: notFoundYet(json, result.sub_code), exchange: outcome.exchange }
    return {
      kind: 'unknown',
      ...errorRow(result.code, result.sub_code),
      message: messageOf(result),
      exchange: outcome.exchange,
    }
  }

  function closeTry(outcome: HttpOutcome, method: string): Try<Closing> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, outcome.kind === 'not_sent')
    const read = readAnswer(outcome, method)
    if (read.kind === 'unknown') return { ...read, again: false }
    const { result } = read
    if (result.code === '10000') return { kind: 'done', value: { kind: 'accepted' }, exchange: outcome.exchange }
    const reason = closeRefusal(result.code, result.sub_code)
    if (reason !== undefined)
      return {
        kind: 'done',
        value: { kind: 'refused', reason, message: messageOf(result) },
        exchange: outcome.exchange,
      }
    return {
      kind: 'unknown',
      ...errorRow(result.code, result.sub_code),
      message: messageOf(result),
      again: false,
      exchange: outcome.exchange,
    }
  }

  type Read = Readonly<{ kind: 'verified'; result: Result; json: unknown }>

  /** Bytes → signature over them → JSON from them. An answer that is not Alipay's may cause another try, never a state. */
  function readAnswer(outcome: HttpOutcome & { kind: 'answered' }, method: string): Read | Unsettled {
    const unsettled = { kind: 'unknown', exchange: outcome.exchange } as const
    if (outcome.status !== 200) {
      const isLimited = outcome.status === 429
      return {
        ...unsettled,
        duty: isLimited ? 'back_off' : 'retry',
        reason: isLimited ? 'rate_limited' : 'gateway_error',
        message: `支付网关返回HTTP ${outcome.status}`,
        again: outcome.status >= 500,
        isFault: outcome.status >= 500,
      }
    }
    const envelope = openEnvelope(
      outcome.body,
      `${method.replaceAll('.', '_')}_response`,
      config.publicKey,
      config.alipayCertSn,
    )
    const json = envelope.node === null ? undefined : parseStrictJson(envelope.node)
    const result = resultSchema.parse(json)
    if (envelope.kind === 'verified') {
      if (json !== undefined) return { kind: 'verified', result, json }
      return {
        ...unsettled,
        duty: 'untrusted',
        reason: 'unreadable',
        message: '支付网关的应答无法解析',
        again: false,
        isFault: true,
      }
    }
    // An unsigned error may tell us to slow down or to try again; it tells no state.
    if (
      envelope.reason === 'unsigned' &&
      result.code !== '' &&
      result.code !== '10000' &&
      !isNotFoundYet(result.code, result.sub_code)
    ) {
      return { ...unsettled, ...errorRow(result.code, result.sub_code), message: messageOf(result) }
    }
    return {
      ...unsettled,
      duty: 'untrusted',
      reason: envelope.reason,
      message: '支付网关的应答未通过验签',
      again: false,
      isFault: true,
    }
  }

  return {
    channel: 'ali_pay',
    account: { merchantId: null, appId: config.key.appId },
    closeNotBeforeAgeS: 0,
    availability: deps.caller.availability,
    queryOrder,
    closeOrder,
  }
}

function notAnswered(outcome: Exclude<HttpOutcome, { kind: 'answered' }>, again: boolean): Unsettled {
  const mayRepeat = again && outcome.reason !== 'timeout' && outcome.reason !== 'too_large'
  const message = outcome.kind === 'not_sent' ? '支付网关无法连接' : '支付网关没有给出可用的应答'
  return {
    kind: 'unknown',
    duty: 'retry',
    reason: outcome.reason,
    message,
    again: mayRepeat,
    isFault: true,
    exchange: outcome.exchange,
  }
}

function messageOf({ msg, sub_msg: subMsg }: Result): string {
  return subMsg === '' ? msg : subMsg
}

/** Alipay names the order number even where it has no trade; if it names another one, the answer is about another order. */
function notFoundYet(json: unknown, subCode: string): Trade {
  const named = (json as { out_trade_no?: unknown }).out_trade_no
  return {
    state: 'not_found_yet',
    gatewayState: subCode,
    outTradeNo: typeof named === 'string' ? named : null,
    merchantId: null,
    appId: null,
    gatewayOrderNo: null,
    amountFen: null,
    currency: null,
    paidAt: null,
  }
}
