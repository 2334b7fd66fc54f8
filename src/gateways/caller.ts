import { hasPassed } from '../elapsed.js'
import type { Log } from '../log.js'
import { createBreaker } from './breaker.js'
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
/** The same reason for an alert is logged again after this long; every call is counted. Milliseconds. */
const ALERT_AGAIN_MS = 60_000

type Settled<T> = Readonly<{ called: Called<T>; isFault: boolean }>

/** One channel's calls: rate and concurrency with priorities, a breaker, a deadline, and retries within it. */
export function createCaller(options: CallerOptions) {
  const { channel, log, observer, now } = options
  const budget = createBudget(options)
  const alertedAt = new Map<UnknownReason, number>()
  /** Ends the waiting of each call that has not begun. */
  const waitingCalls = new Set<() => void>()
  const breaker = createBreaker({
    now,
    onOpen: () => {
      for (const giveUp of waitingCalls) giveUp()
    },
    onState: (state) => observer.breaker(channel, state),
  })

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
    if (reason === 'rate_limited') breaker.slowDown()
    if (duty !== 'alert' || !hasPassed(ALERT_AGAIN_MS, alertedAt.get(reason) ?? Number.NEGATIVE_INFINITY, now())) return
    alertedAt.set(reason, now())
    log.error({ event: 'gateway_refuses', traceId, channel, operation, reason, message })
  }

  /** Of a call that cannot be made as things are set: told as one that was refused, so that somebody hears of it. */
  function notMade(operation: Operation, { traceId }: CallOptions, why: GatewayUnknown): GatewayUnknown {
    observer.call(channel, operation, why.reason, 0)
    heed(why, operation, traceId)
    return why
  }

  async function admitted<T>(
    priority: CallPriority,
    startedMs: number,
    work: (deadline: Deadline) => Promise<Settled<T>>,
  ): Promise<Called<T>> {
    // A probe under way decides for everybody; nobody else waits for it.
    if (breaker.availability() === 'open') return breakerOpen()
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
        const settled = await breaker.execute(async () => await work(deadline))
        return settled === null ? breakerOpen() : settled.called
      } finally {
        budget.leave()
      }
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

  return { call, notMade, availability: breaker.availability, waiting: budget.waiting }
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
