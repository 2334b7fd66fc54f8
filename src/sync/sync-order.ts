import { type Decision, type GatewayStatus, gatewayStatusOf, type Mismatch } from '../domain/decide.js'
import { channelLabel, type Order } from '../domain/order.js'
import type { Trade } from '../domain/trade.js'
import type { CallPriority, Gateway } from '../gateways/gateway.js'
import type { Log } from '../log.js'
import type { Lease, Leases } from '../store/leases.js'
import type { CommitSync, SyncSource } from '../store/sync-commit.js'
import { commitOf, failureOf, type SyncRequest } from './record.js'
import { type Finding, findOut, GATEWAY_CALLS_MAX, repairAtGateway } from './repair.js'
import { createUnderWay } from './under-way.js'

type Told = Readonly<{ order: Order; trade: Trade; gatewayStatus: GatewayStatus }>
/** Whether the gateway was asked to close or reverse the trade: what became of that is not known. */
type Asked = Readonly<{ isCloseAsked: boolean }>

/** What came of one sync. Only `synced` with a `repairNo` changed anything here. */
export type SyncOutcome =
  | (Told & Readonly<{ kind: 'synced'; decision: Decision; note: string | null; repairNo: string | null }>)
  | (Told & Asked & Readonly<{ kind: 'mismatch'; mismatch: Mismatch }>)
  | (Asked & Readonly<{ kind: 'gateway_unknown'; order: Order; reason: string; message: string }>)
  | Readonly<{ kind: 'no_channel' | 'channel_not_configured'; order: Order }>
  | Readonly<{ kind: 'busy' }>
  | Readonly<{ kind: 'not_found' }>

export type SyncObserver = Readonly<{
  /** `failed`: it threw. */
  synced(source: SyncSource, channel: string, outcome: SyncOutcome['kind'] | 'failed', seconds: number): void
  /** `held`: another sync of the order was under way. `lost`: this one took so long that another took over. */
  leaseConflict(kind: 'held' | 'lost'): void
  repaired(way: string, amountFen: bigint, timeToTruthS: number): void
  exceptionOpened(kind: string): void
}>

export type SyncDeps = Readonly<{
  leases: Leases
  commitSync: CommitSync
  gateways: Readonly<Record<string, Gateway>>
  log: Log
  observer: SyncObserver
  policy: Readonly<{ notFoundGraceS: number; latePayment: 'settle' | 'hold' }>
  /** A lease's life, and the bounds of one gateway call and of one statement. Milliseconds. */
  bounds: Readonly<{ leaseMs: number; gatewayCallMs: number; statementMs: number }>
  /** A clock that only goes forward, in milliseconds, for durations. */
  monotonicMs: () => number
  /** 0 up to 1, for jitter. */
  random: () => number
}>

const PRIORITY = {
  operator: 'operator',
  merchant: 'merchant',
  batch: 'sweeper',
  sweeper: 'sweeper',
} as const satisfies Record<SyncSource, CallPriority>

/**
 * The one door into an order: lease, query, decide, repair, commit. Throws where a lease could end while the sync that
 * took it still asks the gateway: then two could ask at once.
 */
export function createSyncOrder(deps: SyncDeps) {
  const { leaseMs, gatewayCallMs, statementMs } = deps.bounds
  // From the lease statement's start to the last gateway call's end. The commit needs no time: token and version guard it.
  const longestMs = statementMs + GATEWAY_CALLS_MAX * gatewayCallMs
  if (leaseMs <= longestMs) {
    throw new RangeError(`a lease of ${leaseMs} ms does not outlive a sync of ${longestMs} ms`)
  }

  const underWay = createUnderWay(deps.monotonicMs)

  async function syncOrder(request: SyncRequest): Promise<SyncOutcome> {
    const startedMs = deps.monotonicMs()
    let order = underWay.find(request.key)
    if (order !== null) return busy(request, order, startedMs)
    try {
      const leased = await deps.leases.acquire(request.key, request)
      if (leased.kind === 'not_found') return report(request, null, { kind: 'not_found' }, startedMs)
      order = leased.kind === 'acquired' ? leased.lease.order : leased.order
      if (leased.kind === 'acquired') return await syncLeased(request, leased.lease, startedMs)
      if (leased.kind === 'not_askable') {
        const kind = order.channel === null ? 'no_channel' : 'channel_not_configured'
        return report(request, order, { kind, order }, startedMs)
      }
      return busy(request, order, startedMs)
    } catch (error) {
      // Whoever asked logs it, under the same trace id.
      deps.observer.synced(
        request.source,
        channelLabel(order?.channel ?? null),
        'failed',
        (deps.monotonicMs() - startedMs) / 1000,
      )
      throw error
    }
  }

  function busy(request: SyncRequest, order: Order, startedMs: number): SyncOutcome {
    deps.observer.leaseConflict('held')
    return report(request, order, { kind: 'busy' }, startedMs)
  }

  async function syncLeased(request: SyncRequest, lease: Lease, startedMs: number): Promise<SyncOutcome> {
    // Counted from before the lease was taken: it is over here before it is over in the database.
    const end = underWay.begin(lease.order, startedMs + leaseMs)
    try {
      const found = await investigate(request, lease, startedMs)
      const outcome = request.dryRun ? await discard(lease, found) : await commit(request, lease, found, startedMs)
      return report(request, lease.order, outcome, startedMs)
    } catch (error) {
      // A dry run leaves nothing behind: where its lease could not be given back, it expires.
      if (!request.dryRun) await recordFailure(request, lease, startedMs, error)
      throw error
    } finally {
      end()
    }
  }

  /** Network only: no transaction is open and no row is locked while it runs. */
  async function investigate(request: SyncRequest, lease: Lease, startedMs: number): Promise<Found> {
    const gateway = deps.gateways[lease.order.channel ?? '']
    if (gateway === undefined)
      throw new Error(`leased an order of the unconfigured channel ${String(lease.order.channel)}`)
    const situation = {
      status: lease.order.status,
      expired: lease.expired,
      young: lease.ageS < deps.policy.notFoundGraceS,
      gatewayOrderNo: lease.order.gatewayOrderNo,
      latePayment: deps.policy.latePayment,
      reversalForS: lease.reversalForS,
    }
    const options = { priority: PRIORITY[request.source], traceId: request.traceId }
    // Counted from before the lease was taken, so never too long.
    const hasTimeForCall = () => deps.monotonicMs() - startedMs + gatewayCallMs < leaseMs
    const beginReversal = async () => await deps.leases.beginReversal(lease, gatewayCallMs)
    const investigation = { gateway, lease, situation, options, hasTimeForCall, beginReversal }
    const finding = await findOut(investigation)
    if (request.dryRun) return { finding, isCloseAsked: false }
    const repaired = await repairAtGateway(investigation, finding)
    // Every call leaves its exchanges: what came after the query was a close.
    return { finding: repaired, isCloseAsked: repaired.exchanges.length > finding.exchanges.length }
  }

  async function discard(lease: Lease, found: Found): Promise<SyncOutcome> {
    await deps.leases.release(lease)
    return outcomeOf(lease.order, found, null)
  }

  async function commit(request: SyncRequest, lease: Lease, found: Found, startedMs: number): Promise<SyncOutcome> {
    const intended = commitOf(request, lease, found.finding, deps.monotonicMs() - startedMs, deps.random())
    const committed = await deps.commitSync(intended)
    // Somebody took over after our lease ran out. Nothing of ours was written; theirs counts.
    if (committed.kind === 'lease_lost') {
      deps.observer.leaseConflict('lost')
      return { kind: 'busy' }
    }
    if (intended.repair !== null) {
      deps.observer.repaired(intended.repair.way, lease.order.amountFen, lease.ageS)
    }
    if (committed.exceptionOpened && intended.exception !== null) {
      deps.observer.exceptionOpened(intended.exception.kind)
      deps.log.error({
        event: 'exception_opened',
        traceId: request.traceId,
        orderId: lease.order.id.toString(),
        ...intended.exception,
        atRiskFen: intended.exception.atRiskFen.toString(),
      })
    }
    return outcomeOf(lease.order, found, committed.repairNo)
  }

  /** Leaves a record of a sync that threw, and gives the lease back. Where even that fails, the lease's expiry frees it. */
  async function recordFailure(request: SyncRequest, lease: Lease, startedMs: number, cause: unknown): Promise<void> {
    try {
      await deps.commitSync(failureOf(request, lease, deps.monotonicMs() - startedMs, deps.random(), cause))
    } catch (error) {
      deps.log.error({
        event: 'failure_not_recorded',
        traceId: request.traceId,
        orderId: lease.order.id.toString(),
        err: error,
      })
    }
  }

  /** One line and one count for each sync, whatever came of it. */
  function report(request: SyncRequest, order: Order | null, outcome: SyncOutcome, startedMs: number): SyncOutcome {
    const durationMs = deps.monotonicMs() - startedMs
    deps.observer.synced(request.source, channelLabel(order?.channel ?? null), outcome.kind, durationMs / 1000)
    deps.log.info({
      event: 'sync',
      traceId: request.traceId,
      traceparent: request.traceparent ?? undefined,
      source: request.source,
      actor: request.actor ?? undefined,
      dryRun: request.dryRun || undefined,
      orderId: order?.id.toString(),
      businessNo: order?.businessNo,
      channel: order?.channel,
      statusBefore: order?.status,
      outcome: outcome.kind,
      tradeState: 'trade' in outcome ? outcome.trade.state : undefined,
      gatewayStatus: 'gatewayStatus' in outcome ? outcome.gatewayStatus : undefined,
      action: 'decision' in outcome ? outcome.decision.action : undefined,
      exception: 'decision' in outcome ? (outcome.decision.exception ?? undefined) : undefined,
      mismatch: 'mismatch' in outcome ? outcome.mismatch.field : undefined,
      reason: 'reason' in outcome ? outcome.reason : undefined,
      repairNo: 'repairNo' in outcome ? (outcome.repairNo ?? undefined) : undefined,
      durationMs: Math.round(durationMs),
    })
    return outcome
  }

  return syncOrder
}

export type SyncOrder = ReturnType<typeof createSyncOrder>

/** What was found in the end, and whether anything was asked for on the way there. */
type Found = Asked & Readonly<{ finding: Finding }>

function outcomeOf(order: Order, { finding, isCloseAsked }: Found, repairNo: string | null): SyncOutcome {
  switch (finding.kind) {
    case 'unknown': {
      const { reason, message } = finding.unknown
      return { kind: 'gateway_unknown', order, reason, message, isCloseAsked }
    }
    case 'mismatch': {
      const gatewayStatus = gatewayStatusOf(finding.trade, { action: 'none', byExpiry: false })
      return { kind: 'mismatch', order, trade: finding.trade, gatewayStatus, mismatch: finding.mismatch, isCloseAsked }
    }
    case 'decided': {
      const { trade, decision, note } = finding
      return { kind: 'synced', order, trade, gatewayStatus: gatewayStatusOf(trade, decision), decision, note, repairNo }
    }
  }
}
