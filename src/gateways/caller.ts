import { BrokenCircuitError, CircuitState, circuitBreaker, handleWhenResult, SamplingBreaker } from 'cockatiel'
import PQueue from 'p-queue'

import type { Log } from '../log.js'
import type {
  CallOptions,
  CallPriority,
  Exchange,
  GatewayAvailability,
  GatewayUnknown,
  UnknownDuty,
  UnknownReason,
} from './gateway.js'

/** What one call is for. */
type Operation = 'query' | 'close' | 'reverse'

/** What the outside counts of a channel's calls. */
export type GatewayObserver = Readonly<{
  call(channel: string, operation: Operation, outcome: 'ok' | UnknownReason, seconds: number): void
  breaker(channel: string, state: GatewayAvailability): void
  budgetWait(channel: string, seconds: number): void
  /** Told at each download of certificates: when the last of them ends, in milliseconds since 1970. */
  certificateEnds(name: string, endsAtMs: number): void
}>

export type CallerOptions = Readonly<{
  channel: string
  /** For one call: waiting for the budget, all tries, all hosts. */
  timeoutMs: number
  ratePerS: number
  concurrency: number
  log: Log
  observer: GatewayObserver
  now: () => number
  random: () => number
}>

/**
 * What one try learned. `again`: nothing, and it may be tried once more; `atOnce`: without a pause, since it was not this
 * request that failed (another host, a fresh connection, another number of the same trade). `isFault`: the gateway is in trouble (time-out,
 * 5xx, a signature that does not hold), which the breaker counts; a business answer, whatever it says, is none.
 */
export type Try<T> = Readonly<{ exchange: Exchange }> &
  (
    | Readonly<{ kind: 'done'; value: T }>
    | Readonly<{
        kind: 'unknown'
        duty: UnknownDuty
        reason: UnknownReason
        message: string
        again: boolean
        atOnce?: boolean
        isFault: boolean
      }>
  )

export type Called<T> = Readonly<{ kind: 'done'; value: T; exchanges: readonly Exchange[] }> | GatewayUnknown

/** 3 tries fit the gateways' advice to ask again on a system error, and the deadline cuts them short. */
const TRIES_MAX = 3
/** Tries without a pause are not among those: one for the other host, one for the other number. */
const AT_ONCE_MAX = 2
/** Before the second try; doubled before the third; each between half and the whole of it. */
const BACK_OFF_MS = 200
/** The breaker opens where more than half of at least 30 calls in 10 s were faults, and probes after 5 s. */
const BREAKER_WINDOW_MS = 10_000
const BREAKER_FAULT_PART = 0.5
const BREAKER_CALLS_PER_S_MIN = 3
const BREAKER_PROBE_AFTER_MS = 5_000
/** After the gateway asked to slow down: as long as after it broke down. Milliseconds. */
const SLOW_MS = 5_000
/** The same reason for an alert is logged again after this long; every call is counted. Milliseconds. */
const ALERT_AGAIN_MS = 60_000

const RANK = { operator: 2, merchant: 1, sweeper: 0 } as const satisfies Record<CallPriority, number>

const BREAKER_OPENED = new Error('the breaker opened')

type Settled<T> = Readonly<{ called: Called<T>; isFault: boolean }>

/** One channel's calls: rate and concurrency with priorities, a breaker, a deadline, and retries within it. */
export function createCaller(options: CallerOptions) {
  const { channel, log, observer, now } = options
  /** Calls at once. */
  const places = new PQueue({ concurrency: options.concurrency })
  /** Requests in a second, each try of a call. strict: in every second, not only in whole ones; a gateway counts as it likes. */
  const turns = new PQueue({ interval: 1000, intervalCap: options.ratePerS, strict: true })
  const breaker = circuitBreaker(
    handleWhenResult((settled) => (settled as Settled<unknown>).isFault),
    {
      halfOpenAfter: BREAKER_PROBE_AFTER_MS,
      breaker: new SamplingBreaker({
        threshold: BREAKER_FAULT_PART,
        duration: BREAKER_WINDOW_MS,
        minimumRps: BREAKER_CALLS_PER_S_MIN,
      }),
    },
  )
  let openedAt = 0
  let slowUntil = 0
  const alertedAt = new Map<UnknownReason, number>()
  /** Ends the waiting of each call that has not begun. */
  const waitingCalls = new Set<AbortController>()
  breaker.onBreak(() => {
    openedAt = now()
    for (const waiting of waitingCalls) waiting.abort(BREAKER_OPENED)
  })
  breaker.onStateChange(() => observer.breaker(channel, availability()))
  observer.breaker(channel, 'closed')

  /** `half_open`: one call at a time may find out whether the gateway is back, or can take more again. */
  function availability(): GatewayAvailability {
    if (breaker.state === CircuitState.Closed) return now() < slowUntil ? 'half_open' : 'closed'
    if (breaker.state === CircuitState.Open && now() - openedAt >= BREAKER_PROBE_AFTER_MS) return 'half_open'
    return 'open'
  }

  /** Calls the gateway, at most `triesMax` times, within one deadline. `tryOnce` makes one request; it must not throw. */
  async function call<T>(
    operation: Operation,
    { priority, traceId }: CallOptions,
    tryOnce: (signal: AbortSignal, tryNo: number) => Promise<Try<T>>,
    triesMax = TRIES_MAX,
  ): Promise<Called<T>> {
    const startedMs = performance.now()
    const rank = RANK[priority]
    const called = await admitted(rank, startedMs, async (signal) => await tries(rank, signal, tryOnce, triesMax))
    const durationMs = performance.now() - startedMs
    const outcome = called.kind === 'done' ? 'ok' : called.reason
    observer.call(channel, operation, outcome, durationMs / 1000)
    if (called.kind === 'unknown') heed(called, operation, traceId)
    if (log.isLevelEnabled('debug')) {
      const { exchanges } = called
      log.debug({
        event: 'gateway_call',
        traceId,
        channel,
        operation,
        outcome,
        durationMs: Math.round(durationMs),
        exchanges,
      })
    }
    return called
  }

  /** What an unknown outcome asks of its owner beyond asking again. */
  function heed({ duty, reason, message }: GatewayUnknown, operation: Operation, traceId: string): void {
    if (reason === 'rate_limited') slowUntil = now() + SLOW_MS
    if (duty !== 'alert' || now() - (alertedAt.get(reason) ?? -ALERT_AGAIN_MS) < ALERT_AGAIN_MS) return
    alertedAt.set(reason, now())
    log.error({ event: 'gateway_refuses', traceId, channel, operation, reason, message })
  }

  async function admitted<T>(
    rank: number,
    startedMs: number,
    work: (signal: AbortSignal) => Promise<Settled<T>>,
  ): Promise<Called<T>> {
    // A probe under way decides for everybody; nobody else waits for it.
    if (availability() === 'open') return breakerOpen()
    // At the deadline waiting is given up; a request under way ends by its own signal and is counted by the breaker.
    const waiting = new AbortController()
    const working = new AbortController()
    waitingCalls.add(waiting)
    // AbortSignal.timeout cannot be taken back: it would keep what each call left behind until its deadline.
    const deadline = setTimeout(() => (waitingCalls.has(waiting) ? waiting : working).abort(), options.timeoutMs)
    try {
      return await places.add(
        async () => {
          await turns.add(nothing, { priority: rank, signal: waiting.signal })
          waitingCalls.delete(waiting)
          observer.budgetWait(channel, (performance.now() - startedMs) / 1000)
          return (await breaker.execute(async () => await work(working.signal))).called
        },
        { priority: rank, signal: waiting.signal },
      )
    } catch (error) {
      if (error instanceof BrokenCircuitError || waiting.signal.reason === BREAKER_OPENED) return breakerOpen()
      if (waiting.signal.aborted) return unknown('back_off', 'budget_exhausted', '支付网关繁忙，请稍后重试', [])
      throw error
    } finally {
      clearTimeout(deadline)
      waitingCalls.delete(waiting)
    }
  }

  async function tries<T>(
    rank: number,
    signal: AbortSignal,
    tryOnce: (signal: AbortSignal, tryNo: number) => Promise<Try<T>>,
    triesMax: number,
  ): Promise<Settled<T>> {
    const exchanges: Exchange[] = []
    let tryNo = 0
    let atOnceLeft = AT_ONCE_MAX
    for (;;) {
      const tried = await tryOnce(signal, tryNo)
      exchanges.push(tried.exchange)
      if (tried.kind === 'done') return { called: { kind: 'done', value: tried.value, exchanges }, isFault: false }
      const gaveUp = { called: unknown(tried.duty, tried.reason, tried.message, exchanges), isFault: tried.isFault }
      if (!tried.again || signal.aborted) return gaveUp
      if (tried.atOnce === true && atOnceLeft > 0) atOnceLeft -= 1
      else {
        const backOffMs = BACK_OFF_MS * 2 ** tryNo * (0.5 + options.random() / 2)
        tryNo += 1
        if (tryNo >= triesMax || !(await paused(backOffMs, signal))) return gaveUp
      }
      if (!(await turnCame(rank, signal))) return gaveUp
    }
  }

  /** The next try's turn in the rate. False where the deadline came first. */
  async function turnCame(rank: number, signal: AbortSignal): Promise<boolean> {
    try {
      await turns.add(nothing, { priority: rank, signal })
      return true
    } catch (error) {
      if (signal.aborted) return false
      throw error
    }
  }

  return { call, availability, waiting: () => places.size + turns.size }
}

export type Caller = ReturnType<typeof createCaller>

export function unknown(
  duty: UnknownDuty,
  reason: UnknownReason,
  message: string,
  exchanges: readonly Exchange[],
): GatewayUnknown {
  return { kind: 'unknown', duty, reason, message, exchanges }
}

function breakerOpen(): GatewayUnknown {
  return unknown('back_off', 'breaker_open', '支付网关暂时不可用，已暂停请求，请稍后重试', [])
}

/** A turn is all that is asked for. */
function nothing(): void {}

/** False where the deadline came first. */
async function paused(ms: number, signal: AbortSignal): Promise<boolean> {
  return await new Promise<boolean>((resolve) => {
    const end = (isWhole: boolean) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      resolve(isWhole)
    }
    const onAbort = () => end(false)
    const timer = setTimeout(end, ms, true)
    signal.addEventListener('abort', onAbort)
  })
}
