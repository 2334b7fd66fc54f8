import {
  checkTrade,
  type Decision,
  decide,
  decideAfterClose,
  isGoingBack,
  type Mismatch,
  type Situation,
} from '../domain/decide.js'
import type { Trade } from '../domain/trade.js'
import type { CallOptions, CloseOutcome, Exchange, Gateway, GatewayUnknown, TradeRef } from '../gateways/gateway.js'
import type { Lease } from '../store/leases.js'
import type { Reversal } from '../store/sync-commit.js'

/** What was learned and decided about one order; nothing of it is written yet. */
export type Finding = Readonly<{ exchanges: readonly Exchange[]; reversal: Reversal }> &
  (
    | Readonly<{
        kind: 'decided'
        trade: Trade
        decision: Decision
        note: string | null
        /** The gateway would not close what it calls payable: it may know of a payment that its query does not show yet. */
        isCloseRefused: boolean
      }>
    | Readonly<{ kind: 'mismatch'; trade: Trade; mismatch: Mismatch }>
    | Readonly<{ kind: 'unknown'; unknown: GatewayUnknown }>
  )

type Investigation = Readonly<{
  gateway: Gateway
  lease: Lease
  situation: Situation
  options: CallOptions
  /** Whether one more call is sure to end before the lease does. False after the process was stopped for a while. */
  hasTimeForCall: () => boolean
  /** Writes that a reversal is begun. False where the lease is lost, or ends too soon: then it must not be. */
  beginReversal: () => Promise<boolean>
}>

/** Query, close, query again: the calls that one sync makes at most, each within the gateway's own deadline. */
export const GATEWAY_CALLS_MAX = 3

const WAIT: Decision = { action: 'wait', exception: null, byExpiry: false }

/** Asks what became of the trade and decides. Nothing changes anywhere. `reversal`: what this sync has done of it before. */
export async function findOut(
  { gateway, lease, situation, options, hasTimeForCall }: Investigation,
  reversal: Reversal = 'none',
): Promise<Finding> {
  if (!hasTimeForCall()) return leaseEnding([], reversal)
  const isOver = reversal === 'accepted' || lease.reversedForS !== null
  const asked = await gateway.queryOrder(tradeRef(lease, isOver), options)
  const { exchanges } = asked
  if (asked.kind === 'unknown') return { kind: 'unknown', unknown: asked, exchanges, reversal }
  const { trade } = asked
  const mismatch = checkTrade(lease.order, trade, gateway.account)
  if (mismatch !== null) return { kind: 'mismatch', trade, mismatch, exchanges, reversal }
  if (isGoingBack(situation, trade)) return unconfirmed(exchanges, reversal)
  const decision = decide(situation, trade)
  const closeNotBeforeAgeS = gateway.closeNotBeforeAgeS(lease.order.payWay)
  if (decision.action === 'close_gateway' && trade.state === 'paying' && lease.ageS < closeNotBeforeAgeS) {
    // The gateway refuses to close a trade this young; the sweeper comes back when it may.
    const note = 'too early to close'
    return { kind: 'decided', trade, decision: WAIT, note, isCloseRefused: false, exchanges, reversal }
  }
  return { kind: 'decided', trade, decision, note: null, isCloseRefused: false, exchanges, reversal }
}

/**
 * Carries out what a decision needs from the gateway: close, query again, decide on that. The only caller of
 * `closeOrder`. Killed anywhere in here, nothing is lost: the next sync finds the trade closed and finishes the job.
 */
export async function repairAtGateway(investigation: Investigation, finding: Finding): Promise<Finding> {
  if (finding.kind !== 'decided' || finding.decision.action !== 'close_gateway') return finding
  const { gateway, lease, situation, options } = investigation
  if (!investigation.hasTimeForCall()) return leaseEnding(finding.exchanges, 'none')
  const isReversal = lease.order.payWay === 'bar_code'
  // A reversal gives money back, so it is written before it is asked for, and only by who still has the order.
  if (isReversal) {
    if (!(await investigation.beginReversal())) return leaseEnding(finding.exchanges, 'none')
    // This process may have stood still meanwhile, and the order be somebody else's: then nothing was asked for.
    if (!investigation.hasTimeForCall()) return leaseEnding(finding.exchanges, 'not_done')
  }
  const closing = await gateway.closeOrder(tradeRef(lease), options)
  const soFar = [...finding.exchanges, ...closing.exchanges]
  const reversal = isReversal ? reversalOf(closing) : 'none'
  if (closing.kind === 'unknown') return { kind: 'unknown', unknown: closing, exchanges: soFar, reversal }

  const again = await findOut(investigation, reversal)
  const exchanges = [...soFar, ...again.exchanges]
  if (again.kind !== 'decided') return { ...again, exchanges }
  const mayBeReversed = isReversal && closing.kind !== 'refunded' && reversal !== 'not_done'
  const said = mayBeReversed ? 'reversed' : closing.kind
  const after = decideAfterClose(situation, finding.decision, said, again.trade)
  if (after.confirmed) return { ...again, decision: after, exchanges }
  if (said === 'refused' && closing.kind === 'refused') {
    return { ...again, decision: WAIT, note: `close refused: ${closing.reason}`, isCloseRefused: true, exchanges }
  }
  // An accepted close of a trade that can still be paid, one that is or may be reversed and is paid: believing either half
  // could rob someone.
  return unconfirmed(exchanges, reversal)
}

function reversalOf(closing: CloseOutcome): Reversal {
  // After a "call again", what the first call does may be what the second is refused for.
  if (closing.kind === 'refused') return closing.exchanges.filter(isAnswered).length > 1 ? 'unclear' : 'not_done'
  if (closing.kind !== 'unknown') return 'accepted'
  // Nothing was exchanged: the breaker was open, or there was no place for the call in time.
  return closing.exchanges.length === 0 ? 'not_done' : 'unclear'
}

function isAnswered({ status }: Exchange): boolean {
  return status !== null
}

function unconfirmed(exchanges: readonly Exchange[], reversal: Reversal): Finding {
  const unknown: GatewayUnknown = {
    kind: 'unknown',
    duty: 'retry',
    reason: 'close_unconfirmed',
    message: reversal === 'unclear' ? '撤销结果未明，请稍后重试' : '网关已受理关闭或撤销，但订单状态与之不符',
    exchanges,
  }
  return { kind: 'unknown', unknown, exchanges, reversal }
}

/** Somebody else may hold the order in a moment: nothing more is asked, so that two never ask at once. */
function leaseEnding(exchanges: readonly Exchange[], reversal: Reversal): Finding {
  const unknown: GatewayUnknown = {
    kind: 'unknown',
    duty: 'retry',
    reason: 'lease_ending',
    message: '同步超时，请稍后重试',
    exchanges,
  }
  return { kind: 'unknown', unknown, exchanges, reversal }
}

function tradeRef({ order }: Lease, isReversed = false): TradeRef {
  return { outTradeNo: order.outTradeNo, gatewayOrderNo: order.gatewayOrderNo, payWay: order.payWay, isReversed }
}
