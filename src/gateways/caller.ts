import { BrokenCircuitError, CircuitState, circuitBreaker, handleWhenResult, SamplingBreaker } from 'cockatiel'

import { hasPassed } from '../elapsed.js'
import type { Log } from '../log.js'
import { createBudget } from './budget.js'
import { createDeadline, type Deadline } from './deadline.js'
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
/** A clock that went back by more than this was set; less is a clock that is being trimmed. Milliseconds. */
const CLOCK_STEP_MS = 1_000
/** The same reason for an alert is logged again after this long; every call is counted. Milliseconds. */
const ALERT_AGAIN_MS = 60_000

type Settled<T> = Readonly<{ called: Called<T>; isFault: boolean }>

/** One channel's calls: rate and concurrency with priorities, a breaker, a deadline, and retries within it. */
export function createCaller(options: CallerOptions) {
  const { channel, log, observer, now } = options
  const budget = createBudget(options)
  let openedAt = 0
  let slowSince = Number.NEGATIVE_INFINITY
  const alertedAt = new Map<UnknownReason, number>()
  /** Ends the waiting of each call that has not begun. */
  const waitingCalls = new Set<() => void>()
  let breaker = newBreaker()
  let seenAt = now()

  function newBreaker() {
    const made = circuitBreaker(
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
    // One that was exchanged still ends with the calls that began with it; it speaks for nobody else.
    made.onBreak(() => {
      if (made !== breaker) return
      openedAt = now()
      for (const giveUp of waitingCalls) giveUp()
    })
    made.onStateChange(() => made === breaker && observer.breaker(channel, availability()))
    observer.breaker(channel, 'closed')
    return made
  }

  /** The breaker's times are the system clock's: where that is set back, it would stay open for as long as the clock was off. */
  function heedClock(): void {
    const nowMs = now()
    if (nowMs < seenAt - CLOCK_STEP_MS) breaker = newBreaker()
    seenAt = nowMs
  }

  /** `half_open`: one call at a time may find out whether the gateway is back, or can take more again. */
  function availability(): GatewayAvailability {
    heedClock()
    if (breaker.state === CircuitState.Closed) return hasPassed(SLOW_MS, slowSince, now()) ? 'closed' : 'half_open'
    if (breaker.state === CircuitState.Open && hasPassed(BREAKER_PROBE_AFTER_MS, openedAt, now())) return 'half_open'
    return 'open'
  }

  /** Calls the gateway, at most `triesMax` times, within one deadline. `tryOnce` makes one request; it must not throw. */
  async function call<T>(
    operation: Operation,
    { priority, traceId }: CallOptions,
    tryOnce: (deadline: Deadline, tryNo: number) => Promise<Try<T>>,
    triesMax = TRIES_MAX,
  ): Promise<Called<T>> {
    const startedMs = performance.now()
    const called = await admitted(priority, startedMs, async (deadline) => {
      return await tries(priority, deadline, tryOnce, triesMax)
    })
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
    if (reason === 'rate_limited') slowSince = now()
    if (duty !== 'alert' || !hasPassed(ALERT_AGAIN_MS, alertedAt.get(reason) ?? Number.NEGATIVE_INFINITY, now())) return
    alertedAt.set(reason, now())
    log.error({ event: 'gateway_refuses', traceId, channel, operation, reason, message })
  }

  async function admitted<T>(
    priority: CallPriority,
    startedMs: number,
    work: (deadline: Deadline) => Promise<Settled<T>>,
  ): Promise<Called<T>> {
    // A probe under way decides for everybody; nobody else waits for it.
    if (availability() === 'open') return breakerOpen()
    const deadline = createDeadline(options.timeoutMs)
    let hasBreakerOpened = false
    const giveUp = () => {
      hasBreakerOpened = true
      deadline.end()
    }
    try {
      waitingCalls.add(giveUp)
      const isAdmitted = await budget.enter(priority, deadline)
      waitingCalls.delete(giveUp)
      if (!isAdmitted) {
        if (hasBreakerOpened) return breakerOpen()
        return unknown('back_off', 'budget_exhausted', '支付网关繁忙，请稍后重试', [])
      }
      try {
        observer.budgetWait(channel, (performance.now() - startedMs) / 1000)
        return (await breaker.execute(async () => await work(deadline))).called
      } finally {
        budget.leave()
      }
    } catch (error) {
      if (error instanceof BrokenCircuitError) return breakerOpen()
      throw error
    } finally {
      deadline.clear()
    }
  }

  async function tries<T>(
    priority: CallPriority,
    deadline: Deadline,
    tryOnce: (deadline: Deadline, tryNo: number) => Promise<Try<T>>,
    triesMax: number,
  ): Promise<Settled<T>> {
    const exchanges: Exchange[] = []
    let tryNo = 0
    let atOnceLeft = AT_ONCE_MAX
    for (;;) {
      const tried = await tryOnce(deadline, tryNo)
      exchanges.push(tried.exchange)
      if (tried.kind === 'done') return { called: { kind: 'done', value: tried.value, exchanges }, isFault: false }
      const gaveUp = { called: unknown(tried.duty, tried.reason, tried.message, exchanges), isFault: tried.isFault }
      if (!tried.again || deadline.isOver()) return gaveUp
      if (tried.atOnce === true && atOnceLeft > 0) atOnceLeft -= 1
      else {
        const backOffMs = BACK_OFF_MS * 2 ** tryNo * (0.5 + options.random() / 2)
        tryNo += 1
        if (tryNo >= triesMax || !(await paused(backOffMs, deadline))) return gaveUp
      }
      if (!(await budget.turn(priority, deadline))) return gaveUp
    }
  }

  return { call, availability, waiting: budget.waiting }
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

/** False where the deadline came first. */
async function paused(ms: number, deadline: Deadline): Promise<boolean> {
  return await new Promise<boolean>((resolve) => {
    const end = (isWhole: boolean) => {
      clearTimeout(timer)
      deadline.off(onOver)
      resolve(isWhole)
    }
    const onOver = () => end(false)
    const timer = setTimeout(end, ms, true)
    deadline.onOver(onOver)
  })
}
