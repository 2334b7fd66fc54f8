import type { Channel, PayWay } from '../domain/order.js'
import type { GatewayAccount, Trade } from '../domain/trade.js'

/** The trade to ask about. */
export type TradeRef = Readonly<{
  outTradeNo: string
  /** The gateway's transaction number where it is known; else null. */
  gatewayOrderNo: string | null
  payWay: PayWay
  /** A reverse of it was accepted: what could be tried again before cannot be any more. */
  isReversed?: boolean
}>

/** Who waits for the answer. An operator goes before a merchant, a merchant before the sweeper. */
export type CallPriority = 'operator' | 'merchant' | 'sweeper'

export type CallOptions = Readonly<{ priority: CallPriority; traceId: string }>

/**
 * One exchange with a gateway, masked: no key, Authorization, signature, and no openid or buyer id in full.
 * `status` is null where no answer came.
 */
export type Exchange = Readonly<{
  method: 'GET' | 'POST'
  host: string
  path: string
  status: number | null
  durationMs: number
  /** The masked answer, or what went wrong; at most 4 KiB. */
  body: string
}>

/**
 * What an unknown outcome asks of its owner. `retry`: ask again soon. `back_off`: the gateway asked us to slow down.
 * `alert`: configuration or bug, a human must act. `untrusted`: an answer came and its signature did not verify.
 */
export type UnknownDuty = 'retry' | 'back_off' | 'alert' | 'untrusted'

/** Why nothing is known: short stable words for metrics and records, whatever a gateway may say. */
export type UnknownReason =
  | 'unreachable'
  | 'connect_timeout'
  | 'timeout'
  | 'connection_lost'
  | 'idle_connection_lost'
  | 'too_large'
  | 'bad_http'
  | 'unreadable'
  | 'unsigned'
  | 'bad_signature'
  | 'stale'
  | 'unknown_serial'
  | 'rotated_certificate'
  | 'no_platform_certificate'
  | 'other_order'
  | 'other_merchant'
  | 'not_accepted'
  | 'configuration'
  | 'unknown_code'
  | 'unknown_state'
  | 'not_found_unconfirmed'
  | 'close_unconfirmed'
  | 'recall'
  | 'rate_limited'
  | 'gateway_error'
  | 'breaker_open'
  | 'budget_exhausted'
  | 'lease_ending'

/** We do not know. Nothing may change because of it. `message` is for the caller (the gateway's own, or a plain one). */
export type GatewayUnknown = Readonly<{
  kind: 'unknown'
  duty: UnknownDuty
  reason: UnknownReason
  message: string
  exchanges: readonly Exchange[]
}>

export type QueryOutcome = Readonly<{ kind: 'trade'; trade: Trade; exchanges: readonly Exchange[] }> | GatewayUnknown

/**
 * `accepted`: the gateway said, verifiably, that it closed (or reversed) the trade. It is no proof: ask again.
 * `refused`: it said, verifiably, that it did not (already paid, too early, no such trade …): ask again too.
 * `refunded`: of a payment code that was paid meanwhile; the money goes back, so only a refunded trade may follow.
 */
export type CloseOutcome =
  | Readonly<{ kind: 'accepted'; exchanges: readonly Exchange[] }>
  | Readonly<{ kind: 'refused'; reason: string; message: string; exchanges: readonly Exchange[] }>
  | Readonly<{ kind: 'refunded'; exchanges: readonly Exchange[] }>
  | GatewayUnknown

/** Whether calls get through: `open` answers at once without asking, `half_open` lets one find out. */
export type GatewayAvailability = 'closed' | 'half_open' | 'open'

/**
 * One payment gateway. Implementations keep these promises (`exerciseGateway` in the tests holds each to them):
 *
 * - They never throw for anything the network or the gateway does; every such thing is an outcome.
 * - They return within `GATEWAY_TIMEOUT_MS` per call, all retries, fail-over and waiting for budget included.
 * - `kind: 'trade'`, `accepted`, `refused` and `refunded` are only said on the strength of a verified signature.
 * - They hold no state of an order, and never compare the answer with it: that is the domain's work.
 */
export interface Gateway {
  readonly channel: Channel
  readonly account: GatewayAccount
  /** The age below which a trade is not to be closed, or reversed where it is a payment code's; 0: any. Seconds. */
  closeNotBeforeAgeS(payWay: PayWay): number
  /** The state of the channel's breaker. */
  availability(): GatewayAvailability
  queryOrder(ref: TradeRef, options: CallOptions): Promise<QueryOutcome>
  /** Closes the trade, or reverses it where `ref.payWay` is `bar_code`. Never repeats itself: only a query may follow. */
  closeOrder(ref: TradeRef, options: CallOptions): Promise<CloseOutcome>
}
