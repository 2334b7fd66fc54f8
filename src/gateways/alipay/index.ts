import type { Trade } from '../../domain/trade.js'
import type { Caller, Try } from '../caller.js'
import { type ClockWatch, clockHint, skewOf } from '../clock.js'
import type { Deadline } from '../deadline.js'
import type { CallOptions, CloseOutcome, Gateway, QueryOutcome, TradeRef } from '../gateway.js'
import type { Http, HttpOutcome } from '../http.js'
import { messageOf, notAnswered, readAnswer, unsettled } from './answer.js'
import { type AnswerKeys, type AppKey, formOf } from './codec.js'
import { cancelEffect, closeRefusal, errorRow, isNotFoundYet, notFoundYet, type Result, tradeOf } from './trade.js'

export type AlipayConfig = Readonly<{ key: AppKey; answerKeys: AnswerKeys; gatewayUrl: string }>

export type AlipayDeps = Readonly<{ http: Http; caller: Caller; now: () => number; clockWatch: ClockWatch }>

const QUERY = 'alipay.trade.query'
const CLOSE = 'alipay.trade.close'
const CANCEL = 'alipay.trade.cancel'

/** A cancel that says `retry_flag=Y` is called again, with rising pauses, this often at most. */
const CANCEL_TRIES_MAX = 5

type Closing =
  | Readonly<{ kind: 'accepted' | 'refunded' }>
  | Readonly<{ kind: 'refused'; reason: string; message: string }>

/** Alipay, gateway.do. */
export function createAlipayGateway(config: AlipayConfig, deps: AlipayDeps): Gateway {
  /**
   * By our own number first: it alone shows another trade than the one we know. That there is no such trade is not
   * believed while Alipay's number for it is known: then that is asked for as well.
   */
  async function queryOrder(ref: TradeRef, options: CallOptions): Promise<QueryOutcome> {
    const byTradeNo = ref.gatewayOrderNo === null ? null : { trade_no: ref.gatewayOrderNo }
    let number: Readonly<Record<string, string>> = { out_trade_no: ref.outTradeNo }
    const called = await deps.caller.call<Trade>('query', options, async (deadline) => {
      const tried = await ask(QUERY, number, deadline, queryTry)
      if (tried.kind === 'unknown' || tried.value.state !== 'not_found_yet') return tried
      if (byTradeNo === null || number === byTradeNo) return tried
      number = byTradeNo
      return unsettled(tried, NOT_FOUND_UNCONFIRMED)
    })
    return called.kind === 'unknown' ? called : { kind: 'trade', trade: called.value, exchanges: called.exchanges }
  }

  /** Payment-code trades are cancelled, which gives back what was paid: so it only ever follows a query. */
  async function closeOrder(ref: TradeRef, options: CallOptions): Promise<CloseOutcome> {
    const isCancel = ref.payWay === 'bar_code'
    const method = isCancel ? CANCEL : CLOSE
    const called = await deps.caller.call(
      isCancel ? 'reverse' : 'close',
      options,
      async (deadline) =>
        await ask(method, { out_trade_no: ref.outTradeNo }, deadline, (outcome) => closeTry(method, ref, outcome)),
      isCancel ? CANCEL_TRIES_MAX : undefined,
    )
    return called.kind === 'unknown' ? called : { ...called.value, exchanges: called.exchanges }
  }

  async function ask<T>(
    method: string,
    bizContent: Readonly<Record<string, string>>,
    deadline: Deadline,
    read: (outcome: HttpOutcome) => Try<T>,
  ): Promise<Try<T>> {
    const body = await formOf(method, bizContent, config.key, deps.now())
    const headers = {
      accept: 'application/json',
      'accept-encoding': 'identity',
      'user-agent': 'unipay-sync/0.1',
      // Without the charset, Alipay reads the form as GBK, and the signature breaks on the first Chinese character.
      'content-type': 'application/x-www-form-urlencoded;charset=utf-8',
    }
    const outcome = await deps.http.send(
      { method: 'POST', baseUrl: config.gatewayUrl, path: '', headers, body },
      deadline,
    )
    const tried = read(outcome)
    if (outcome.kind !== 'answered') return tried
    // Answers have no time of their own; our requests have one, and are refused where it is wrong.
    const { date } = outcome.headers
    const skewS = skewOf(date, deps.now())
    if (skewS !== null) deps.clockWatch(skewS)
    return tried.kind === 'done' ? tried : { ...tried, message: `${tried.message}${clockHint(date, deps.now())}` }
  }

  function queryTry(outcome: HttpOutcome): Try<Trade> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, 'query')
    const { exchange } = outcome
    const answer = readAnswer(outcome, QUERY, config.answerKeys)
    if (answer.kind === 'unknown') return answer
    const { result, json } = answer
    if (isNotFoundYet(result)) return { kind: 'done', value: notFoundYet(result), exchange }
    if (result.code !== '10000') return unsettled(outcome, whyError(result))
    const trade = tradeOf(json)
    return trade === undefined ? unsettled(outcome, NOT_UNDERSTOOD) : { kind: 'done', value: trade, exchange }
  }

  function closeTry(method: string, ref: TradeRef, outcome: HttpOutcome): Try<Closing> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, 'close')
    const { exchange } = outcome
    const answer = readAnswer(outcome, method, config.answerKeys)
    // A close is never repeated because of what was answered: only a fresh query can tell what it did.
    if (answer.kind === 'unknown') return { ...answer, again: false }
    const { result } = answer
    // A query's answer is compared with the order; a close's tells no trade, so it is looked at here.
    if (result.out_trade_no !== null && result.out_trade_no !== ref.outTradeNo) return unsettled(outcome, OTHER_ORDER)
    // A cancel is, where the gateway itself says so.
    if (method === CANCEL && result.retry_flag === 'Y')
      return unsettled(outcome, { ...CANCEL_AGAIN, message: messageOf(result) })
    if (result.code === '10000') {
      const value = closingOf(method, result)
      return value === undefined ? unsettled(outcome, NOT_UNDERSTOOD) : { kind: 'done', value, exchange }
    }
    const reason = closeRefusal(result)
    if (reason === undefined) return unsettled(outcome, { ...whyError(result), again: false })
    return { kind: 'done', value: { kind: 'refused', reason, message: messageOf(result) }, exchange }
  }

  return {
    channel: 'ali_pay',
    // Answers name no merchant and no app: whose they are, the key that they are signed with tells, one per app.
    account: { merchantId: null, appId: config.key.appId },
    closeNotBeforeAgeS: () => 0,
    availability: deps.caller.availability,
    queryOrder,
    closeOrder,
  }
}

function closingOf(method: string, result: Result): Closing | undefined {
  const effect = method === CANCEL ? cancelEffect(result.action) : 'accepted'
  return effect === undefined ? undefined : { kind: effect }
}

function whyError(result: Result) {
  return { ...errorRow(result.code, result.sub_code), message: messageOf(result) }
}

/** A verified answer whose state, amount, numbers or effect are missing, or none that we know. */
const NOT_UNDERSTOOD = {
  duty: 'alert',
  reason: 'unknown_state',
  message: '支付网关返回了无法识别的订单状态',
  again: false,
  isFault: false,
} as const

/** No such trade by our number, of which we know Alipay's: that is asked for before it is believed. */
const NOT_FOUND_UNCONFIRMED = {
  duty: 'retry',
  reason: 'not_found_unconfirmed',
  message: '支付网关未找到订单，尚待按交易号核实',
  again: true,
  atOnce: true,
  isFault: false,
} as const

const OTHER_ORDER = {
  duty: 'untrusted',
  reason: 'other_order',
  message: '支付网关的应答不属于本订单',
  again: false,
  isFault: false,
} as const

const CANCEL_AGAIN = { duty: 'retry', reason: 'recall', again: true, isFault: false } as const
