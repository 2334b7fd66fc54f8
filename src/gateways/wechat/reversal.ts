import type { Caller } from '../caller.js'
import type { ClockWatch } from '../clock.js'
import type { Deadline } from '../deadline.js'
import type { CallOptions, CloseOutcome, TradeRef } from '../gateway.js'
import type { Http } from '../http.js'
import { createV2Call, numberOf, type WechatV2Config } from './v2-call.js'

/** A reverse that says `recall=Y` is called again, with rising pauses, this often at most. */
const TRIES_MAX = 5

export type ReversalDeps = Readonly<{
  /** Shows the merchant's API certificate (mutual TLS). */
  certifiedHttp: Http
  caller: Caller
  now: () => number
  clockWatch: ClockWatch
}>

/**
 * Reverses a payment-code order (WeChat Pay APIv2, /secapi/pay/reverse): it is revoked, and what was paid meanwhile goes
 * back to the buyer. APIv3 has no other way to end such an order.
 */
export function createReversal(config: WechatV2Config, { certifiedHttp, caller, ...deps }: ReversalDeps) {
  const { send, closeTry } = createV2Call(config, { http: certifiedHttp, ...deps })
  return async (ref: TradeRef, options: CallOptions): Promise<CloseOutcome> => {
    // Always the preferred host: `recall` asks the same one again, and one that is not there steps back by itself.
    const tryOnce = async (deadline: Deadline) => closeTry(await send('reverse', numberOf(ref), 0, deadline), 'reverse')
    const called = await caller.call('reverse', options, tryOnce, TRIES_MAX)
    return called.kind === 'unknown' ? called : { ...called.value, exchanges: called.exchanges }
  }
}

export type Reversal = ReturnType<typeof createReversal>
