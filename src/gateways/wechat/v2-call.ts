import { randomBytes } from 'node:crypto'

import type { Try } from '../caller.js'
import { type ClockWatch, skewOf } from '../clock.js'
import type { Deadline } from '../deadline.js'
import type { TradeRef } from '../gateway.js'
import type { Http, HttpOutcome } from '../http.js'
import { createHosts, createXmlExchange } from './exchange.js'
import { errorRow, identityOfV2, isCloseRefusal, isReversedBefore } from './trade.js'
import { type Closing, notAnswered, told, UNREADABLE, type Unsettled, unsettled } from './unsettled.js'
import {
  isSignedV2,
  isUnambiguousV2,
  parseXml,
  signatureV2,
  type V2Fields,
  type V2SignType,
  writeXml,
} from './v2-codec.js'

export type WechatV2Config = Readonly<{
  mchId: string
  appId: string
  /** The service provider's number in partner mode; `mchId` is then the sub-merchant's. */
  spMchId: string | null
  apiKey: string
  signType: V2SignType
  baseUrls: readonly string[]
}>

const PATHS = { query: '/pay/orderquery', close: '/pay/closeorder', reverse: '/secapi/pay/reverse' } as const
export type V2Operation = keyof typeof PATHS

type Answered = Extract<HttpOutcome, { kind: 'answered' }>
type Read = Readonly<{ kind: 'verified'; fields: V2Fields }> | Unsettled

/** Which number of the trade is asked by. */
export type V2Number = Readonly<{ out_trade_no: string } | { transaction_id: string }>

export type V2CallDeps = Readonly<{ http: Http; now: () => number; clockWatch: ClockWatch }>

/** One APIv2 request, and how far its answer is to be believed. */
export function createV2Call(config: WechatV2Config, { http, now, clockWatch }: V2CallDeps) {
  const post = createXmlExchange({ http, hosts: createHosts(config.baseUrls, now) })
  const merchant: Record<string, string> =
    config.spMchId === null ? { mch_id: config.mchId } : { mch_id: config.spMchId, sub_mch_id: config.mchId }

  async function send(
    operation: V2Operation,
    number: V2Number,
    tryNo: number,
    deadline: Deadline,
  ): Promise<HttpOutcome> {
    const nonce = randomBytes(16).toString('hex')
    const members = { appid: config.appId, ...merchant, ...number, nonce_str: nonce, sign_type: config.signType }
    const fields = new Map(Object.entries(members))
    fields.set('sign', signatureV2(fields, config.apiKey, config.signType))
    const outcome = await post(PATHS[operation], writeXml(fields), tryNo, deadline)
    // Nothing in APIv2 depends on clocks; a wrong one is worth a word all the same.
    const skewS = outcome.kind === 'answered' ? skewOf(outcome.headers['date'], now()) : null
    if (skewS !== null) clockWatch(skewS)
    return outcome
  }

  /**
   * The order of the checks is the rule (WeChat Pay APIv2): `return_code`, of which FAIL is never signed; the signature
   * over all fields that came; only then may anything else be looked at.
   */
  function read({ status, body, exchange }: Answered): Read {
    if (status !== 200) return unsettled(exchange, { ...errorRow(status, ''), message: `支付网关返回HTTP ${status}` })
    const fields = parseXml(body)
    if (fields === null) return unsettled(exchange, UNREADABLE)
    if (fields.get('return_code') !== 'SUCCESS') {
      return unsettled(exchange, { ...NOT_ACCEPTED, message: told(fields.get('return_msg') || '支付网关未受理请求') })
    }
    if (isSignedV2(fields, config.apiKey, config.signType))
      return isUnambiguousV2(fields) ? { kind: 'verified', fields } : unsettled(exchange, UNREADABLE)
    const code = fields.get('err_code') ?? ''
    const row = errorRow(status, code)
    // An unsigned "try again" or "slow down" may be heeded; nothing else of it.
    if (fields.get('result_code') === 'FAIL' && (row.duty === 'retry' || row.duty === 'back_off')) {
      return unsettled(exchange, { ...row, message: told(fields.get('err_code_des') || code) })
    }
    const reason = (fields.get('sign') ?? '') === '' ? 'unsigned' : 'bad_signature'
    return unsettled(exchange, { ...UNTRUSTED, reason })
  }

  /** What a close or a reverse was answered. */
  function closeTry(outcome: HttpOutcome, operation: 'close' | 'reverse'): Try<Closing> {
    if (outcome.kind !== 'answered') return notAnswered(outcome, 'close')
    const { exchange } = outcome
    const answer = read(outcome)
    if (answer.kind === 'unknown') return { ...answer, again: false }
    const { fields } = answer
    const { merchantId, appId } = identityOfV2(fields, config.spMchId)
    // A query's identity is compared with the order's; a close's answer tells no trade, so it is compared here.
    if (merchantId !== config.mchId || appId !== config.appId) return unsettled(exchange, OTHER_MERCHANT)
    const code = fields.get('err_code') ?? ''
    const message = told(fields.get('err_code_des') || code)
    // Looked at before the result: that says of this call that it went well, and not of the reversal that it is done.
    if (operation === 'reverse' && fields.get('recall') === 'Y') return unsettled(exchange, { ...CALL_AGAIN, message })
    if (fields.get('result_code') === 'SUCCESS') return { kind: 'done', value: { kind: 'accepted' }, exchange }
    // Reversed before, by whomever: as good as accepted, and "paid" is an old word now.
    if (operation === 'reverse' && isReversedBefore(code))
      return { kind: 'done', value: { kind: 'accepted' }, exchange }
    if (isCloseRefusal(code)) return { kind: 'done', value: { kind: 'refused', reason: code, message }, exchange }
    return unsettled(exchange, { ...errorRow(outcome.status, code), message, again: false })
  }

  return { send, read, closeTry }
}

export type V2Call = ReturnType<typeof createV2Call>

export function numberOf(ref: TradeRef): V2Number {
  return { out_trade_no: ref.outTradeNo }
}

/** `return_code` FAIL: the gateway did not look at the request. It gives no code, and texts are not branched on. */
const NOT_ACCEPTED = { duty: 'alert', reason: 'not_accepted', again: false, isFault: false } as const

const UNTRUSTED = { duty: 'untrusted', message: '支付网关的应答未通过验签', again: false, isFault: true } as const

const OTHER_MERCHANT = {
  duty: 'untrusted',
  reason: 'other_merchant',
  message: '支付网关的应答不属于本商户',
  again: false,
  isFault: false,
} as const

/** The reverse is not through yet and wants to be called again: that it may be repeated is the gateway's own word. */
const CALL_AGAIN = { duty: 'retry', reason: 'recall', again: true, isFault: false } as const
