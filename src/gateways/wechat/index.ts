import type { KeyObject } from 'node:crypto'

import type { PayWay } from '../../domain/order.js'
import type { Trade } from '../../domain/trade.js'
import { type Caller, type Try, unknown } from '../caller.js'
import { type ClockWatch, clockHint } from '../clock.js'
import type { Deadline } from '../deadline.js'
import type { CallOptions, CloseOutcome, Gateway, QueryOutcome, TradeRef } from '../gateway.js'
import type { Http, HttpOutcome } from '../http.js'
import { parseStrictJson } from '../strict-json.js'
import { type DownloadFailure, NO_CERTIFICATE } from './certificates.js'
import { type MerchantKey, type Verdict, verifyAnswer } from './codec.js'
import { createHosts, createSignedExchange } from './exchange.js'
import type { Reversal } from './reversal.js'
import { errorRow, errorSchema, isCloseRefusal, isNotFound, notFound, tradeOf } from './trade.js'
import {
  type Closing,
  NOT_FOUND_UNCONFIRMED,
  NOT_UNDERSTOOD,
  notAnswered,
  told,
  UNREADABLE,
  type Unsettled,
  unsettled,
} from './unsettled.js'

/**
 * The keys that answers may be signed with, by serial, and the serial that we ask for (null: none known yet). Certificate
 * mode also has `ready`, which is asked before a request, `failure`, which tells why it is not, and `learn`, which looks
 * once for a serial that we do not know.
 */
export type PlatformKeys = Readonly<{
  current: () => ReadonlyMap<string, KeyObject>
  preferred: () => string | null
  ready?: (deadline: Deadline) => Promise<boolean>
  failure?: () => DownloadFailure | null
  learn?: (serial: string, deadline: Deadline) => Promise<boolean>
}>

export type WechatConfig = Readonly<{
  mchId: string
  appId: string
  /** The service provider's number in partner mode; `mchId` is then the sub-merchant's. */
  spMchId: string | null
  merchantKey: MerchantKey
  platformKeys: PlatformKeys
  baseUrls: readonly string[]
}>

export type WechatDeps = Readonly<{
  http: Http
  caller: Caller
  now: () => number
  clockWatch: ClockWatch
  /** Reverses payment-code orders; null where the settings for it are missing. */
  reversal: Reversal | null
}>

/** WeChat Pay refuses to close an order younger than 5 minutes, and asks for 15 s before a reverse (close order, reverse). */
const CLOSE_NOT_BEFORE_AGE_S = 300
const REVERSE_NOT_BEFORE_AGE_S = 15
export const closeNotBeforeAgeS = (payWay: PayWay): number =>
  payWay === 'bar_code' ? REVERSE_NOT_BEFORE_AGE_S : CLOSE_NOT_BEFORE_AGE_S

type Answered = Extract<HttpOutcome, { kind: 'answered' }>
type Read = Readonly<{ kind: 'verified'; status: number; json: unknown }> | Unsettled

/** WeChat Pay APIv3. */
export function createWechatGateway(config: WechatConfig, deps: WechatDeps): Gateway {
  const { platformKeys, spMchId } = config
  const orders = spMchId === null ? '/v3/pay/transactions' : '/v3/pay/partner/transactions'
  const payees: Record<string, string> =
    spMchId === null ? { mchid: config.mchId } : { sp_mchid: spMchId, sub_mchid: config.mchId }
  const query = new URLSearchParams(payees).toString()
  const hosts = createHosts(config.baseUrls, deps.now)
  const send = createSignedExchange({ http: deps.http, hosts, merchantKey: config.merchantKey, now: deps.now })

  /**
   * By our own number first: it alone shows a second transaction of the same order. That there is no such order is not
   * believed while a transaction number is known: then that is asked for as well.
   */
  async function queryOrder(ref: TradeRef, options: CallOptions): Promise<QueryOutcome> {
    const byNumber = `${orders}/out-trade-no/${encodeURIComponent(ref.outTradeNo)}?${query}`
    const byTransaction =
      ref.gatewayOrderNo === null ? null : `${orders}/id/${encodeURIComponent(ref.gatewayOrderNo)}?${query}`
    let pathAndQuery = byNumber
    const called = await deps.caller.call<Trade>('query', options, async (deadline, tryNo) => {
      const read = async (outcome: HttpOutcome) => await queryTry(outcome, ref, deadline)
      const tried = await exchange({ method: 'GET', pathAndQuery, body: '' }, tryNo, deadline, read)
      if (tried.kind !== 'done' || tried.value.state !== 'not_found') return tried
      if (byTransaction === null || pathAndQuery === byTransaction) return tried
      pathAndQuery = byTransaction
      return unsettled(tried.exchange, NOT_FOUND_UNCONFIRMED)
    })
    return called.kind === 'unknown' ? called : { kind: 'trade', trade: called.value, exchanges: called.exchanges }
  }

  async function closeOrder(ref: TradeRef, options: CallOptions): Promise<CloseOutcome> {
    if (ref.payWay === 'bar_code') return await reverseOrder(ref, options)
    const pathAndQuery = `${orders}/out-trade-no/${encodeURIComponent(ref.outTradeNo)}/close`
    const body = JSON.stringify(payees)
    const called = await deps.caller.call('close', options, async (deadline, tryNo) => {
      return await exchange({ method: 'POST', pathAndQuery, body }, tryNo, deadline, closeTry)
    })
    return called.kind === 'unknown' ? called : { ...called.value, exchanges: called.exchanges }
  }

  async function reverseOrder(ref: TradeRef, options: CallOptions): Promise<CloseOutcome> {
    if (deps.reversal !== null) return await deps.reversal(ref, options)
    const message = '付款码订单的撤销未配置: WECHAT_API_V2_KEY, WECHAT_CLIENT_CERT, WECHAT_CLIENT_KEY'
    return deps.caller.notMade('reverse', options, unknown('alert', 'configuration', message, []))
  }

  /** One signed request and what its answer says. Nothing is sent while no answer could be verified. */
  async function exchange<T>(
    request: Readonly<{ method: 'GET' | 'POST'; pathAndQuery: string; body: string }>,
    tryNo: number,
    deadline: Deadline,
    read: (outcome: HttpOutcome, deadline: Deadline) => Promise<Try<T>>,
  ): Promise<Try<T>> {
    if (platformKeys.ready !== undefined && !(await platformKeys.ready(deadline))) {
      const toHost = { method: request.method, baseUrl: config.baseUrls[0] ?? '', path: request.pathAndQuery }
      const { duty, message } = platformKeys.failure?.() ?? { duty: 'retry', message: NO_CERTIFICATE }
      return unsettled(deps.http.unsent(toHost, 'no platform certificate'), {
        duty,
        reason: 'no_platform_certificate',
        message,
        again: false,
        isFault: duty === 'retry',
      })
    }
    const { method, pathAndQuery, body } = request
    const outcome = await send({ method, pathAndQuery, body, serial: platformKeys.preferred() }, tryNo, deadline)
    return await read(outcome, deadline)
  }

  async function queryTry(outcome: HttpOutcome, ref: TradeRef, deadline: Deadline): Promise<Try<Trade>> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, 'query')
    const answer = await readAnswer(outcome, deadline)
    if (answer.kind === 'unknown') return answer
    const { status, json } = answer
    if (status === 200) {
      const trade = tradeOf(json, spMchId, ref.isReversed)
      if (trade !== undefined) return { kind: 'done', value: trade, exchange: outcome.exchange }
      return unsettled(outcome.exchange, NOT_UNDERSTOOD)
    }
    const { code, message } = errorSchema.parse(json)
    // ORDER_NOT_EXIST only: any other code means "we do not know", never "not found".
    if (status === 404 && isNotFound(code)) return { kind: 'done', value: notFound(code), exchange: outcome.exchange }
    return unsettled(outcome.exchange, { ...errorRow(status, code), message: told(message || httpMessage(status)) })
  }

  async function closeTry(outcome: HttpOutcome, deadline: Deadline): Promise<Try<Closing>> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, 'close')
    const answer = await readAnswer(outcome, deadline)
    // A close is never repeated because of what was answered: only a fresh query can tell what it did.
    if (answer.kind === 'unknown') return { ...answer, again: false }
    const { status, json } = answer
    if (status === 204) return { kind: 'done', value: { kind: 'accepted' }, exchange: outcome.exchange }
    const { code, message } = errorSchema.parse(json)
    if (isCloseRefusal(code))
      return {
        kind: 'done',
        value: { kind: 'refused', reason: code, message: told(message) },
        exchange: outcome.exchange,
      }
    const row = { ...errorRow(status, code), message: told(message || httpMessage(status)), again: false }
    return unsettled(outcome.exchange, row)
  }

  /** Bytes → signature over them → JSON from them. An answer that is not WeChat's may cause another try, never a state. */
  async function readAnswer(outcome: Answered, deadline: Deadline): Promise<Read> {
    const verdict = await verdictOn(outcome, deadline)
    if (verdict.kind === 'untrusted') return untrusted(outcome, verdict.reason)
    deps.clockWatch(verdict.skewS)
    const json = outcome.body.length === 0 ? null : parseStrictJson(outcome.body)
    if (json === undefined) return unsettled(outcome.exchange, UNREADABLE)
    return { kind: 'verified', status: outcome.status, json }
  }

  /** An unknown serial fails closed; certificate mode looks for it first, since keys change while answers are under way. */
  async function verdictOn(outcome: Answered, deadline: Deadline): Promise<Verdict> {
    const verify = () => verifyAnswer(outcome.headers, outcome.body, platformKeys.current(), deps.now())
    const verdict = verify()
    if (verdict.kind === 'verified' || verdict.reason !== 'unknown_serial') return verdict
    const isKnownNow = await platformKeys.learn?.(verdict.serial, deadline)
    return isKnownNow === true ? verify() : verdict
  }

  function untrusted(outcome: Answered, reason: Extract<Verdict, { kind: 'untrusted' }>['reason']): Unsettled {
    const hint = clockHint(outcome.headers['date'], deps.now())
    if (outcome.status < 200 || outcome.status > 299) {
      const { code, message } = errorSchema.parse(parseStrictJson(outcome.body))
      const row = errorRow(outcome.status, code)
      // An error may be heeded as advice without a signature; where it advises nothing, a signature that does not hold is
      // what there is to tell: it is most likely made with a key that is not set here.
      const isAdvice = reason === 'unsigned' || row.reason !== 'unknown_code'
      if (isAdvice)
        return unsettled(outcome.exchange, {
          ...row,
          message: `${told(message || httpMessage(outcome.status))}${hint}`,
        })
    }
    const message =
      reason === 'stale' ? '支付网关应答的签名时间与本机时钟(clock)相差超过5分钟' : '支付网关的应答未通过验签'
    return unsettled(outcome.exchange, {
      duty: 'untrusted',
      reason,
      message: `${message}${hint}`,
      again: false,
      isFault: true,
    })
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

function httpMessage(status: number): string {
  return `支付网关返回HTTP ${status}`
}
