import type { Try } from '../caller.js'
import type { Exchange } from '../gateway.js'
import type { HttpOutcome } from '../http.js'

/** A try that learned nothing. */
export type Unsettled = Extract<Try<never>, { kind: 'unknown' }>

/** What the gateway verifiably said to a close or a reverse. */
export type Closing = Readonly<{ kind: 'accepted' }> | Readonly<{ kind: 'refused'; reason: string; message: string }>

/** Who sent it decides its length, and not all of it is signed. Characters. */
const MESSAGE_LENGTH_MAX = 200

/** A gateway's text as callers are told it. */
export function told(message: string): string {
  return message.slice(0, MESSAGE_LENGTH_MAX)
}

export function unsettled(exchange: Exchange, why: Omit<Unsettled, 'kind' | 'exchange'>): Unsettled {
  return { kind: 'unknown', exchange, ...why }
}

/**
 * No answer. What was never sent may go to the next host at once, whatever it was; what may have arrived is repeated only
 * where repeating does no harm, so a query's, and not after the deadline took it.
 */
export function notAnswered(
  outcome: Exclude<HttpOutcome, { kind: 'answered' }>,
  operation: 'query' | 'close',
): Unsettled {
  const isNotSent = outcome.kind === 'not_sent'
  const isRepeatable = operation === 'query' && outcome.reason !== 'timeout' && outcome.reason !== 'too_large'
  return unsettled(outcome.exchange, {
    duty: 'retry',
    reason: outcome.reason,
    message: isNotSent ? '支付网关无法连接' : '支付网关没有给出可用的应答',
    again: isNotSent || isRepeatable,
    // The next host, or a fresh connection in place of one that had gone idle.
    atOnce: isNotSent || outcome.reason === 'idle_connection_lost',
    isFault: true,
  })
}

/** A verified answer whose state, amount or identity is missing, or none that we know. */
export const NOT_UNDERSTOOD = {
  duty: 'alert',
  reason: 'unknown_state',
  message: '支付网关返回了无法识别的订单状态',
  again: false,
  isFault: false,
} as const

/** An answer that is cut, foreign, or could be read in two ways. */
export const UNREADABLE = {
  duty: 'untrusted',
  reason: 'unreadable',
  message: '支付网关的应答无法解析',
  again: false,
  isFault: true,
} as const

/** No such order by our number, of which we know a transaction: that is asked for before it is believed. */
export const NOT_FOUND_UNCONFIRMED = {
  duty: 'retry',
  reason: 'not_found_unconfirmed',
  message: '支付网关未找到订单，尚待按交易号核实',
  again: true,
  atOnce: true,
  isFault: false,
} as const
