import type { Order, OrderStatus } from './order.js'
import type { GatewayAccount, Trade, TradeState } from './trade.js'

/** What is done about an order, given what its trade is. `wait` and `none` change nothing. */
export const ACTIONS = ['settle', 'close_local', 'close_gateway', 'reopen', 'wait', 'none'] as const
export type Action = (typeof ACTIONS)[number]

/** Findings that a human must look at. */
export const EXCEPTION_KINDS = [
  'amount_mismatch',
  'identity_mismatch',
  'paid_after_close',
  'paid_here_not_there',
  'refunded_unsettled',
  'double_payment',
] as const
export type ExceptionKind = (typeof EXCEPTION_KINDS)[number]

export type Decision = Readonly<{
  action: Action
  exception: ExceptionKind | null
  /** The order's time is over, and that is why it is closed: the caller is told `pay_timeout`. */
  byExpiry: boolean
}>

export type Situation = Readonly<{
  status: OrderStatus
  /** The order's expiry is past, by the database's clock. */
  expired: boolean
  /** So recently created that the pay call may still be on its way to the gateway. */
  young: boolean
  /** The gateway's transaction number known here, else null. */
  gatewayOrderNo: string | null
  /** What to do when money arrives for an order closed here. */
  latePayment: 'settle' | 'hold'
  /** Since a reversal of the trade that may have been carried out was begun, or accepted; null where none was. Seconds. */
  reversalForS: number | null
}>

/**
 * Of a reversed trade "paid" may be an old word for so long, far beyond what any query lags behind. Past it the reversal
 * was never carried out, whatever the gateway said to it. Seconds.
 */
const REVERSAL_S_MAX = 600

type Step = Readonly<{ action: Action; exception?: ExceptionKind }>
type Cell = Step | Readonly<{ expired: Step; otherwise: Step }> | Readonly<{ young: Step; otherwise: Step }>

const WAIT: Step = { action: 'wait' }
const NONE: Step = { action: 'none' }
const SETTLE: Step = { action: 'settle' }
const CLOSE_LOCAL: Step = { action: 'close_local' }
const CLOSE_GATEWAY: Step = { action: 'close_gateway' }
const REOPEN: Step = { action: 'reopen' }
const PAID_HERE_ONLY: Step = { action: 'none', exception: 'paid_here_not_there' }
const REFUND_UNSEEN: Step = { action: 'none', exception: 'refunded_unsettled' }
const LATE: Step = { action: 'settle', exception: 'paid_after_close' }

/** A paid order is never un-paid, whatever the gateway says: a human looks at it. */
const PAID_HERE = {
  paid: NONE,
  paying: PAID_HERE_ONLY,
  closed: PAID_HERE_ONLY,
  refunded: NONE,
  not_found: PAID_HERE_ONLY,
  not_found_yet: PAID_HERE_ONLY,
} as const satisfies Record<TradeState, Cell>

/** The decision table. A state that is added anywhere does not compile until every row answers it. */
const TABLE = {
  progress: {
    paid: SETTLE,
    paying: { expired: CLOSE_GATEWAY, otherwise: WAIT },
    closed: CLOSE_LOCAL,
    refunded: REFUND_UNSEEN,
    not_found: { young: WAIT, otherwise: CLOSE_LOCAL },
    not_found_yet: { expired: CLOSE_GATEWAY, otherwise: WAIT },
  },
  success: PAID_HERE,
  close: {
    paid: LATE,
    paying: CLOSE_GATEWAY,
    closed: NONE,
    refunded: NONE,
    not_found: NONE,
    not_found_yet: NONE,
  },
  fail: {
    paid: SETTLE,
    paying: { expired: CLOSE_GATEWAY, otherwise: REOPEN },
    closed: CLOSE_LOCAL,
    refunded: REFUND_UNSEEN,
    not_found: CLOSE_LOCAL,
    not_found_yet: CLOSE_GATEWAY,
  },
  refunding: PAID_HERE,
  partial_refund: PAID_HERE,
  refunded: PAID_HERE,
} as const satisfies Record<OrderStatus, Record<TradeState, Cell>>

/** The decision for one verified trade. Pure: the same facts give the same decision. */
export function decide(situation: Situation, trade: Pick<Trade, 'state' | 'gatewayOrderNo'>): Decision {
  const cell: Cell = TABLE[situation.status][trade.state]
  const { step: told, byExpiry } = stepOf(cell, situation)
  // Paid in spite of a reversal: that is late as well, the goods may be gone.
  const step = told === SETTLE && situation.reversalForS !== null ? LATE : told
  if (step === LATE && situation.latePayment === 'hold')
    return { action: 'none', exception: 'paid_after_close', byExpiry }
  if (step === NONE && trade.state === 'paid' && isAnotherTransaction(situation, trade)) {
    return { action: 'none', exception: 'double_payment', byExpiry }
  }
  return { action: step.action, exception: step.exception ?? null, byExpiry }
}

function stepOf(cell: Cell, situation: Situation): { step: Step; byExpiry: boolean } {
  if ('action' in cell) return { step: cell, byExpiry: false }
  if ('young' in cell) return { step: situation.young ? cell.young : cell.otherwise, byExpiry: false }
  return situation.expired ? { step: cell.expired, byExpiry: true } : { step: cell.otherwise, byExpiry: false }
}

/** Whether the trade says "paid" although its money is on its way back: neither settled nor closed as unpaid. */
export function isGoingBack({ reversalForS }: Situation, trade: Pick<Trade, 'state'>): boolean {
  return trade.state === 'paid' && reversalForS !== null && reversalForS < REVERSAL_S_MAX
}

function isAnotherTransaction(situation: Situation, trade: Pick<Trade, 'gatewayOrderNo'>): boolean {
  return (
    situation.gatewayOrderNo !== null &&
    trade.gatewayOrderNo !== null &&
    situation.gatewayOrderNo !== trade.gatewayOrderNo
  )
}

/**
 * What the gateway said to a close. `reversed`: a payment code's trade is or may be revoked, and what was paid of it goes back.
 * `refunded`: the same, and it had been paid.
 */
export type Closing = 'accepted' | 'refused' | 'reversed' | 'refunded'

/** What became of a close: done, still open though the gateway refused, or the trade is not as the gateway said. */
export type CloseDecision =
  | (Decision & { readonly confirmed: true })
  | Readonly<{ confirmed: false; why: 'refused' | 'contradiction' }>

const CONTRADICTION = { confirmed: false, why: 'contradiction' } as const

/**
 * The decision after a close and a second query. `first` is the decision that led to the close; `closing` is what the
 * gateway said to it. An accepted close of a trade that can still be paid proves nothing, so it is not a close.
 */
export function decideAfterClose(
  situation: Situation,
  first: Decision,
  closing: Closing,
  trade: Pick<Trade, 'state' | 'gatewayOrderNo'>,
): CloseDecision {
  if (trade.state === 'refunded') return { ...decide(situation, trade), confirmed: true }
  // The money is on its way back, and the query does not show it yet: neither settled nor closed as unpaid.
  if (closing === 'refunded') return CONTRADICTION
  switch (trade.state) {
    case 'paid':
      // Of a reversed trade "paid" is either old or about to be given back: the next sync's query tells which.
      return closing === 'reversed' ? CONTRADICTION : { ...decide(situation, trade), confirmed: true }
    case 'paying':
      return closing === 'refused' ? { confirmed: false, why: 'refused' } : CONTRADICTION
    case 'not_found_yet':
      // Alipay has nothing to close before the buyer scans: the order closes here and stays on the late-payment watch.
      return { action: 'close_gateway', exception: null, byExpiry: first.byExpiry, confirmed: true }
    case 'closed':
    case 'not_found': {
      if (closing !== 'refused')
        return { action: 'close_gateway', exception: null, byExpiry: first.byExpiry, confirmed: true }
      // Refused, and closed all the same: somebody else closed it in between.
      const action = situation.status === 'close' ? 'none' : 'close_local'
      return { action, exception: null, byExpiry: false, confirmed: true }
    }
  }
}

/** Where the gateway's answer is about something else than the order: which field, and both values. */
export type Mismatch = Readonly<{
  kind: 'amount_mismatch' | 'identity_mismatch'
  field: 'out_trade_no' | 'merchant' | 'app' | 'amount' | 'currency'
  expected: string
  actual: string
}>

/**
 * Does this answer speak of this order? Whatever it names must be ours; a paid one must name the order and the amount.
 * The first difference is told, identity before money.
 */
export function checkTrade(
  order: Pick<Order, 'outTradeNo' | 'amountFen' | 'currency'>,
  trade: Trade,
  account: GatewayAccount,
): Mismatch | null {
  const isPaid = trade.state === 'paid'
  const identity = (
    field: 'out_trade_no' | 'merchant' | 'app',
    expected: string | null,
    actual: string | null,
    required: boolean,
  ): Mismatch | null => {
    if (expected === null || (actual === null && !required)) return null
    return actual === expected ? null : { kind: 'identity_mismatch', field, expected, actual: actual ?? '' }
  }
  const amount = (
    field: 'amount' | 'currency',
    expected: string,
    actual: string | null,
    required: boolean,
  ): Mismatch | null => {
    if (actual === null && !required) return null
    return actual === expected ? null : { kind: 'amount_mismatch', field, expected, actual: actual ?? '' }
  }
  return (
    identity('out_trade_no', order.outTradeNo, trade.outTradeNo, isPaid) ??
    identity('merchant', account.merchantId, trade.merchantId, false) ??
    identity('app', account.appId, trade.appId, false) ??
    amount('amount', order.amountFen.toString(), trade.amountFen?.toString() ?? null, isPaid) ??
    amount('currency', order.currency, trade.currency, false)
  )
}

/** `gatewayStatus` on the wire (CONTRACT: gatewayStatus). `pay_fail` stands in records only. */
export type GatewayStatus =
  | 'pay_success'
  | 'pay_progress'
  | 'pay_closed'
  | 'pay_refund'
  | 'pay_not_found'
  | 'pay_not_found_unknown'
  | 'pay_timeout'
  | 'pay_fail'

const STATUS_OF_TRADE = {
  paid: 'pay_success',
  paying: 'pay_progress',
  closed: 'pay_closed',
  refunded: 'pay_refund',
  not_found: 'pay_not_found',
  not_found_yet: 'pay_not_found_unknown',
} as const satisfies Record<TradeState, GatewayStatus>

/** The gateway's true state in the wire's words; `pay_timeout` where this sync closed the order because it had expired. */
export function gatewayStatusOf(
  trade: Pick<Trade, 'state'>,
  decision: Pick<Decision, 'action' | 'byExpiry'>,
): GatewayStatus {
  return decision.action === 'close_gateway' && decision.byExpiry ? 'pay_timeout' : STATUS_OF_TRADE[trade.state]
}

/** The way of a repair, as DaxPay names it. */
export type RepairWay = 'pay_success' | 'pay_close_local' | 'pay_close_gateway' | 'pay_progress'

/** What an action does to the order: its new status and the repair's way; null where nothing changes. */
export const REPAIR_OF_ACTION = {
  settle: { status: 'success', way: 'pay_success' },
  close_local: { status: 'close', way: 'pay_close_local' },
  close_gateway: { status: 'close', way: 'pay_close_gateway' },
  reopen: { status: 'progress', way: 'pay_progress' },
  wait: null,
  none: null,
} as const satisfies Record<Action, { status: OrderStatus; way: RepairWay } | null>
