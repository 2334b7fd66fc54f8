import type { KeyObject } from 'node:crypto'

import type { Trade } from '../../domain/trade.js'
import { type Caller, type Try } from '../caller.js'
import type { CallOptions, CloseOutcome, Gateway, QueryOutcome, TradeRef } from '../gateway.js'
import type { Http, HttpOutcome, HttpRequest } from '../http.js'
import { parseStrictJson } from '../strict-json.js'
import { authorize, type MerchantKey, verifyAnswer } from './codec.js'
import { errorRow, errorSchema, isCloseRefusal, isNotFound, tradeOf } from './trade.js'

export type WechatConfig = Readonly<{
  mchId: string
  appId: string
  /** The service provider's number in partner mode; `mchId` is then the sub-merchant's. */
  spMchId: string | null
  merchantKey: MerchantKey
  /** The keys that answers may be signed with, by serial, and the serial that we ask for. */
  platformKeys: Readonly<{ current: () => ReadonlyMap<string, KeyObject>; preferred: () => string }>
  baseUrls: readonly string[]
}>

export type WechatDeps = Readonly<{ http: Http; caller: Caller; now: () => number; onSkew: (skewS: number) => void }>

/** WeChat Pay refuses to close an order younger than 5 minutes (APIv3, close order). */
const CLOSE_NOT_BEFORE_AGE_S = 300
/** From here on a clock is worth a warning; at 300 s answers are refused. */
const SKEW_WARN_S = 60
const USER_AGENT = 'unipay-sync/0.1'

type Answer = Readonly<{ status: number; json: unknown }>

/** WeChat Pay APIv3. */
export function createWechatGateway(config: WechatConfig, deps: WechatDeps): Gateway {
  const orders = config.spMchId === null ? '/v3/pay/transactions' : '/v3/pay/partner/transactions'
  const payees: Record<string, string> =
    config.spMchId === null ? { mchid: config.mchId } : { sp_mchid: config.spMchId, sub_mchid: config.mchId }
  const query = new URLSearchParams(payees).toString()

  async function queryOrder(ref: TradeRef, options: CallOptions): Promise<QueryOutcome> {
    const path = `${orders}/out-trade-no/${encodeURIComponent(ref.outTradeNo)}?${query}`
    const called = await deps.caller.call('query', options, async (signal, tryNo) =>
      queryTry(await exchange('GET', path, '', tryNo, signal)),
    )
    return called.kind === 'unknown' ? called : { kind: 'trade', trade: called.value, exchanges: called.exchanges }
  }

  async function closeOrder(ref: TradeRef, options: CallOptions): Promise<CloseOutcome> {
    const path = `${orders}/out-trade-no/${encodeURIComponent(ref.outTradeNo)}/close`
    const body = JSON.stringify(payees)
    const called = await deps.caller.call('close', options, async (signal, tryNo) =>
      closeTry(await exchange('POST', path, body, tryNo, signal)),
    )
    return called.kind === 'unknown' ? called : { ...called.value, exchanges: called.exchanges }
  }

  /** One signed request to one host: the first host first, the next one where it could not be reached. */
  async function exchange(
    method: 'GET' | 'POST',
    pathAndQuery: string,
    body: string,
    tryNo: number,
    signal: AbortSignal,
  ): Promise<HttpOutcome> {
    const base = config.baseUrls[tryNo % config.baseUrls.length] ?? ''
    const headers = {
      accept: 'application/json',
      'accept-encoding': 'identity',
      'user-agent': USER_AGENT,
      'wechatpay-serial': config.platformKeys.preferred(),
      authorization: await authorize({ method, pathAndQuery, body }, config.merchantKey, deps.now()),
      ...(body === '' ? {} : { 'content-type': 'application/json' }),
    }
    const request: HttpRequest = { method, url: `${base}${pathAndQuery}`, headers, body: body === '' ? null : body }
    return await deps.http.send(request, signal)
  }

  function queryTry(outcome: HttpOutcome): Try<Trade> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, true)
    const { exchange: recorded } = outcome
    const read = readAnswer(outcome)
    if (read.kind === 'untrusted') return { ...read.unknown, exchange: recorded }
    const { status, json } = read.answer
    if (status === 200) {
      const trade = tradeOf(json, config.spMchId !== null)
      if (trade !== undefined) return { kind: 'done', value: trade, exchange: recorded }
      return {
        kind: 'unknown',
        duty: 'alert',
        reason: 'unknown_state',
        message: '支付网关返回了无法识别的订单状态',
        again: false,
        isFault: false,
        exchange: recorded,
      }
    }
    const { code, message } = errorSchema.parse(json)
    if (status === 404 && isNotFound(code)) return { kind: 'done', value: notFound(code), exchange: recorded }
    return { kind: 'unknown', ...errorRow(status, code), message, exchange: recorded }
  }

  function closeTry(
    outcome: HttpOutcome,
  ): Try<Readonly<{ kind: 'accepted' }> | Readonly<{ kind: 'refused'; reason: string; message: string }>> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, outcome.kind === 'not_sent')
    const { exchange: recorded } = outcome
    const read = readAnswer(outcome)
    if (read.kind === 'untrusted') return { ...read.unknown, again: false, exchange: recorded }
    const { status, json } = read.answer
    if (status === 204 || status === 200) return { kind: 'done', value: { kind: 'accepted' }, exchange: recorded }
    const { code, message } = errorSchema.parse(json)
    if (isCloseRefusal(code))
      return { kind: 'done', value: { kind: 'refused', reason: code, message }, exchange: recorded }
    return { kind: 'unknown', ...errorRow(status, code), message, again: false, exchange: recorded }
  }

  type Read =
    | Readonly<{ kind: 'verified'; answer: Answer }>
    | Readonly<{ kind: 'untrusted'; unknown: Omit<Extract<Try<never>, { kind: 'unknown' }>, 'exchange'> }>

  /** Bytes → signature over them → JSON from them. An answer that is not WeChat's may cause another try, never a state. */
  function readAnswer(outcome: HttpOutcome & { kind: 'answered' }): Read {
    const verdict = verifyAnswer(outcome.headers, outcome.body, config.platformKeys.current(), deps.now())
    if (verdict.kind === 'verified') {
      if (Math.abs(verdict.skewS) >= SKEW_WARN_S) deps.onSkew(verdict.skewS)
      const json = outcome.body.length === 0 ? null : parseStrictJson(outcome.body)
      if (json !== undefined) return { kind: 'verified', answer: { status: outcome.status, json } }
      return {
        kind: 'untrusted',
        unknown: {
          kind: 'unknown',
          duty: 'untrusted',
          reason: 'unreadable',
          message: '支付网关的应答无法解析',
          again: false,
          isFault: true,
        },
      }
    }
    const isSuccess = outcome.status >= 200 && outcome.status < 300
    if (!isSuccess) {
      const { code, message } = errorSchema.parse(parseStrictJson(outcome.body))
      return {
        kind: 'untrusted',
        unknown: {
          kind: 'unknown',
          ...errorRow(outcome.status, code),
          message: message === '' ? `支付网关返回HTTP ${outcome.status}` : message,
        },
      }
    }
    const message =
      verdict.reason === 'stale' ? '支付网关应答的时间戳与本机时钟(clock)相差超过5分钟' : '支付网关的应答未通过验签'
    return {
      kind: 'untrusted',
      unknown: { kind: 'unknown', duty: 'untrusted', reason: verdict.reason, message, again: false, isFault: true },
    }
  }

  return {
    channel: 'wechat_pay',
    account: { merchantId: config.mchId, appId: config.appId },
    closeNotBeforeAgeS: CLOSE_NOT_BEFORE_AGE_S,
    availability: deps.caller.availability,
    queryOrder,
    closeOrder,
  }
}

function notAnswered(
  outcome: Exclude<HttpOutcome, { kind: 'answered' }>,
  again: boolean,
): Extract<Try<never>, { kind: 'unknown' }> {
  // A time-out used up the deadline; everything else left time for another try.
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

function notFound(code: string): Trade {
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
  }
}
