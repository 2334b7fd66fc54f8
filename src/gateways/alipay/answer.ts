import type { Try } from '../caller.js'
import type { HttpOutcome } from '../http.js'
import { parseStrictJson } from '../strict-json.js'
import { type AnswerKeys, type Opened, openEnvelope } from './codec.js'
import { errorRow, isNotFoundYet, type Result, resultSchema } from './trade.js'

/** A try that learned nothing. */
export type Unsettled = Extract<Try<never>, { kind: 'unknown' }>
type Why = Omit<Unsettled, 'kind' | 'exchange'>
type Answered = Extract<HttpOutcome, { kind: 'answered' }>
type Untrusted = Extract<Opened, { kind: 'untrusted' }>

/** An answer that Alipay signed: what every answer has, and the whole of it. */
export type Read = Readonly<{ kind: 'verified'; result: Result; json: unknown }> | Unsettled

/** Alipay's own texts go to the caller; some of them repeat the whole request. */
const MESSAGE_LENGTH_MAX = 200

export function unsettled({ exchange }: Pick<HttpOutcome, 'exchange'>, why: Why): Unsettled {
  return { kind: 'unknown', exchange, ...why }
}

export function messageOf({ code, msg, sub_msg: subMsg }: Result): string {
  return (subMsg || msg || `支付网关返回${code}`).slice(0, MESSAGE_LENGTH_MAX)
}

/** Bytes → signature over them → JSON from them. An answer that is not Alipay's may cause another try, never a state. */
export function readAnswer(outcome: Answered, method: string, keys: AnswerKeys): Read {
  // Whatever Alipay itself says comes with 200; another status is from something in front of it.
  if (outcome.status !== 200) return unsettled(outcome, fromInFront(outcome.status))
  const opened = openEnvelope(outcome.body, `${method.replaceAll('.', '_')}_response`, keys)
  const json = opened.node === null ? undefined : parseStrictJson(opened.node)
  const result = resultSchema.parse(json)
  if (opened.kind === 'untrusted') return unsettled(outcome, whyUntrusted(opened, result, keys))
  return json === undefined ? unsettled(outcome, UNREADABLE) : { kind: 'verified', result, json }
}

function fromInFront(status: number): Why {
  const message = `支付网关返回HTTP ${status}`
  if (status === 429) return { duty: 'back_off', reason: 'rate_limited', message, again: false, isFault: false }
  return { duty: 'retry', reason: 'gateway_error', message, again: status >= 500, isFault: status >= 500 }
}

function whyUntrusted({ reason, certSn }: Untrusted, result: Result, keys: AnswerKeys): Why {
  // An unsigned error may tell us to slow down, to try again, or that our settings are wrong; it tells no state.
  const isAdvice = result.code !== '' && result.code !== '10000' && !isNotFoundYet(result)
  if (reason === 'unsigned' && isAdvice)
    return { ...errorRow(result.code, result.sub_code), message: messageOf(result) }
  const ours = keys.map((known) => known.certSn).join(', ')
  const message =
    reason === 'rotated_certificate'
      ? `支付宝公钥证书已更换: 应答的证书序列号${certSn}, 配置的是${ours}, 请更新ALIPAY_CERT`
      : UNTRUSTED_MESSAGE
  return { duty: 'untrusted', reason, message: message.slice(0, MESSAGE_LENGTH_MAX), again: false, isFault: true }
}

const UNTRUSTED_MESSAGE = '支付网关的应答未通过验签'

/** A node that is signed and is no JSON, or could be read in two ways. */
const UNREADABLE: Why = {
  duty: 'untrusted',
  reason: 'unreadable',
  message: '支付网关的应答无法解析',
  again: false,
  isFault: true,
}

/**
 * No answer. What was never sent may be sent again, whatever it was; what may have arrived is repeated only where
 * repeating does no harm, so a query's, and not after the deadline took it.
 */
export function notAnswered(
  outcome: Exclude<HttpOutcome, { kind: 'answered' }>,
  operation: 'query' | 'close',
): Unsettled {
  const isNotSent = outcome.kind === 'not_sent'
  const isRepeatable = operation === 'query' && outcome.reason !== 'timeout' && outcome.reason !== 'too_large'
  return unsettled(outcome, {
    duty: 'retry',
    reason: outcome.reason,
    message: isNotSent ? '支付网关无法连接' : '支付网关没有给出可用的应答',
    again: isNotSent || isRepeatable,
    // A fresh connection in place of one that had gone idle.
    atOnce: outcome.reason === 'idle_connection_lost',
    isFault: true,
  })
}
