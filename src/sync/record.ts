import { gatewayStatusOf, REPAIR_OF_ACTION } from '../domain/decide.js'
import { isNoticed, noticePayload } from '../domain/notice.js'
import type { Order } from '../domain/order.js'
import { nextLateWatchS, nextSyncDelayS, retryDelayS } from '../domain/schedule.js'
import type { Trade } from '../domain/trade.js'
import type { Lease, OrderKey } from '../store/leases.js'
import type { SyncCommit, SyncSource } from '../store/sync-commit.js'
import type { Finding } from './repair.js'

export type SyncRequest = Readonly<{
  key: OrderKey
  traceId: string
  traceparent: string | null
  source: SyncSource
  /** The operator's name; null for merchants and the sweeper. */
  actor: string | null
  clientIp: string | null
  /** Ask and decide, change nothing, leave no record. */
  dryRun: boolean
}>

/** Due times are stretched by up to a tenth, so that orders of one moment do not all come due at one moment again. */
const JITTER = 0.1

/** After a breaker that was open or a budget that was spent: about as long as a breaker waits for its next probe. */
const UNASKED_RETRY_S = 5

/** What one finding writes. Pure but for the given jitter. */
export function commitOf(
  request: SyncRequest,
  lease: Lease,
  finding: Finding,
  durationMs: number,
  jitter: number,
): SyncCommit {
  const { reversal } = finding
  const failures = lease.failures + 1
  if (finding.kind === 'unknown') {
    const { unknown } = finding
    // Nothing was sent, so nothing failed: the order is asked about as soon as the channel is free again.
    const isUnasked = finding.exchanges.length === 0
    return {
      lease,
      record: recordOf(request, finding.exchanges, durationMs, {
        outcome: 'unknown',
        gatewayStatus: 'pay_fail',
        tradeState: null,
        decision: 'none',
        errorCode: 20000,
        errorMsg: `${unknown.reason}: ${unknown.message}`,
      }),
      nextSyncDelayS: retry(lease, isUnasked ? 'unasked' : 'unknown', jitter),
      failures: isUnasked ? lease.failures : failures,
      repair: null,
      notice: null,
      exception: null,
      reversal,
    }
  }
  const { trade } = finding
  if (finding.kind === 'mismatch') {
    const { mismatch } = finding
    const told = `${mismatch.field}: expected ${mismatch.expected}, gateway says ${mismatch.actual}`
    return {
      lease,
      record: recordOf(request, finding.exchanges, durationMs, {
        outcome: 'mismatch',
        gatewayStatus: gatewayStatusOf(trade, { action: 'none', byExpiry: false }),
        tradeState: trade.state,
        decision: 'none',
        errorCode: 28100,
        errorMsg: told,
      }),
      exception: exceptionOf(
        lease.order,
        trade,
        mismatch.kind,
        `${paymentIn(trade)} ${mismatch.field}=${mismatch.actual}`,
      ),
      // Of an order that is closed and past its watch the finding tells, and a human.
      nextSyncDelayS: isPastWatch(lease, trade) ? null : retry(lease, 'mismatch', jitter),
      failures,
      repair: null,
      notice: null,
      reversal,
    }
  }
  const decided = decidedOf(request, lease, finding, jitter)
  return {
    lease,
    record: recordOf(request, finding.exchanges, durationMs, {
      outcome: 'synced',
      gatewayStatus: gatewayStatusOf(trade, finding.decision),
      tradeState: trade.state,
      decision: finding.decision.action,
      errorCode: null,
      errorMsg: isUntold(lease.order, decided) ? 'the notify URL cannot be used: nobody was told' : finding.note,
    }),
    repair: decided.repair,
    notice: decided.notice,
    exception: decided.exception,
    reversal,
    nextSyncDelayS: finding.isCloseRefused ? retry(lease, 'close_refused', jitter) : decided.nextSyncDelayS,
    failures: finding.isCloseRefused ? failures : 0,
  }
}

type Decided = Pick<SyncCommit, 'repair' | 'notice' | 'exception' | 'nextSyncDelayS'>

function decidedOf(
  request: SyncRequest,
  lease: Lease,
  finding: Finding & { kind: 'decided' },
  jitter: number,
): Decided {
  const { order } = lease
  const { trade, decision } = finding
  const change = REPAIR_OF_ACTION[decision.action]
  const repair =
    change === null
      ? null
      : {
          gatewayOrderNo: trade.gatewayOrderNo ?? order.gatewayOrderNo,
          ...change,
          ...timesOf(change.status, lease, trade),
        }
  const after: Order =
    repair === null ? order : { ...order, status: repair.status, payTime: repair.payTime, closeTime: repair.closeTime }
  // Closing a trade of an order that is closed already repairs the gateway, but nothing became of the order.
  const becameNew = repair !== null && repair.status !== order.status
  const toldAt = becameNew && isNoticed(after.status) ? after.notifyUrl : null
  const host = toldAt === null ? null : hostOf(toldAt)
  const delayS = nextSyncDelayS({
    status: after.status,
    trade: trade.state,
    ageS: lease.ageS,
    expiresInS: lease.expiresInS,
    closedForS: becameNew ? 0 : lease.closedForS,
  })
  return {
    repair,
    notice:
      toldAt === null || host === null
        ? null
        : { url: toldAt, host, payload: noticePayload(after), traceparent: request.traceparent },
    exception: decision.exception === null ? null : exceptionOf(order, trade, decision.exception, paymentIn(trade)),
    nextSyncDelayS: delayS === null ? null : delayS * (1 + JITTER * jitter),
  }
}

/** Null of a URL that nobody could ever be told at: no notice is made then, which would only fail 16 times. */
function hostOf(url: string): string | null {
  try {
    return new URL(url).host
  } catch {
    // The one reason that there is: it is no URL.
    return null
  }
}

function isUntold({ notifyUrl }: Order, { repair, notice }: Decided): boolean {
  return repair !== null && notice === null && notifyUrl !== null && !URL.canParse(notifyUrl)
}

/** Pay time from the gateway; close time by the database's clock. A paid order is not a closed one any more. */
function timesOf(
  status: Order['status'],
  lease: Lease,
  trade: Trade,
): { payTime: Date | null; closeTime: Date | null } {
  const { payTime, closeTime } = lease.order
  if (status === 'success') return { payTime: trade.paidAt ?? lease.takenAt, closeTime: null }
  if (status === 'close') return { payTime, closeTime: closeTime ?? lease.takenAt }
  return { payTime, closeTime: status === 'progress' ? null : closeTime }
}

/**
 * What tells findings of one order and kind apart: another payment is other money, and something new. The state there is
 * neither: a trade that is closed and then not found is still the one payment that is missing.
 */
function paymentIn(trade: Trade): string {
  return trade.state === 'paid' || trade.state === 'refunded' ? (trade.gatewayOrderNo ?? 'paid') : ''
}

function exceptionOf(
  order: Order,
  trade: Trade,
  kind: NonNullable<SyncCommit['exception']>['kind'],
  fingerprint: string,
): NonNullable<SyncCommit['exception']> {
  const thereFen = trade.amountFen ?? order.amountFen
  return {
    kind,
    // What is in question: at most the larger of the two amounts; of a second payment, that payment.
    atRiskFen: kind === 'double_payment' || thereFen > order.amountFen ? thereFen : order.amountFen,
    fingerprint,
    evidence: {
      statusHere: order.status,
      amountHereFen: order.amountFen.toString(),
      gatewayOrderNoHere: order.gatewayOrderNo,
      stateThere: trade.state,
      gatewayState: trade.gatewayState,
      outTradeNoThere: trade.outTradeNo,
      merchantThere: trade.merchantId,
      appThere: trade.appId,
      amountThereFen: trade.amountFen?.toString() ?? null,
      currencyThere: trade.currency,
      gatewayOrderNoThere: trade.gatewayOrderNo,
      paidAt: trade.paidAt?.toISOString() ?? null,
    },
  }
}

/** What a sync leaves behind that threw: a record, and its lease back. Nothing else changes. */
export function failureOf(
  request: SyncRequest,
  lease: Lease,
  durationMs: number,
  jitter: number,
  cause: unknown,
): SyncCommit {
  const failures = lease.failures + 1
  return {
    lease,
    record: recordOf(request, [], durationMs, {
      outcome: 'failed',
      gatewayStatus: 'pay_fail',
      tradeState: null,
      decision: 'none',
      errorCode: 10001,
      errorMsg: cause instanceof Error ? cause.message : String(cause),
    }),
    repair: null,
    notice: null,
    exception: null,
    // It may have been asked for: what was begun stays begun.
    reversal: 'unclear',
    nextSyncDelayS: retry(lease, 'failed', jitter),
    failures,
  }
}

type Said = Pick<
  SyncCommit['record'],
  'outcome' | 'gatewayStatus' | 'tradeState' | 'decision' | 'errorCode' | 'errorMsg'
>

/** Every field by name: a field after a spread costs a microsecond on Node 20, and each look at it another. */
function recordOf(
  request: SyncRequest,
  exchanges: Finding['exchanges'],
  durationMs: number,
  said: Said,
): SyncCommit['record'] {
  return {
    traceId: request.traceId,
    source: request.source,
    actor: request.actor,
    clientIp: request.clientIp,
    outcome: said.outcome,
    gatewayStatus: said.gatewayStatus,
    tradeState: said.tradeState,
    decision: said.decision,
    errorCode: said.errorCode,
    errorMsg: said.errorMsg,
    exchanges,
    gatewayMs: slowestMs(exchanges),
    durationMs,
  }
}

/** How long the gateway took to answer, at worst: a sync that closes asks three times. Null where nothing was asked. */
function slowestMs(exchanges: Finding['exchanges']): number | null {
  return exchanges.length === 0 ? null : Math.max(...exchanges.map(({ durationMs }) => durationMs))
}

/**
 * Open orders are asked about again; so is a closed one of which nothing was settled, since money may be waiting there. What
 * a human must mend (a mismatch, a row that makes the sync throw) is parked for longer and longer. A settled one whose query
 * failed is left alone.
 */
function retry(lease: Lease, cause: 'unasked' | keyof typeof KIND_OF_RETRY, jitter: number): number | null {
  const { status } = lease.order
  if (status !== 'progress' && status !== 'fail' && status !== 'close') return null
  const delayS = cause === 'unasked' ? UNASKED_RETRY_S : retryDelayS(lease.failures + 1, KIND_OF_RETRY[cause])
  return delayS * (1 + JITTER * jitter)
}

const KIND_OF_RETRY = { unknown: 'unknown', close_refused: 'unknown', mismatch: 'parked', failed: 'threw' } as const

/** Closed here, not payable there by its answer, and no longer watched for a late payment. */
function isPastWatch(lease: Lease, trade: Trade): boolean {
  return lease.order.status === 'close' && trade.state !== 'paying' && nextLateWatchS(lease) === null
}
