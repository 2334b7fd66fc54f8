import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

import { EXCEPTION_KINDS } from './domain/decide.js'
import { RESULT_CODES, type ResultName } from './domain/result-code.js'

/** Seconds, from one quick statement to the longest sync. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
/** Why a request may be refused before it is read: its address asks too often, or there is too much to do. */
const REFUSALS = ['rate', 'event_loop', 'database_pool'] as const
const BREAKER_STATES = ['closed', 'half_open', 'open'] as const
/** Of routes there are many, so of these there are few. */
const ROUTE_SECONDS = [0.01, 0.05, 0.25, 1, 5]
const RESULT_NAMES = Object.keys(RESULT_CODES) as ResultName[]
/** Node's own that name every socket's kind at every scrape, and end in _total although they are no counters. */
const UNWANTED = ['active_resources', 'active_handles', 'active_requests'].flatMap((name) => [
  `unipay_nodejs_${name}`,
  `unipay_nodejs_${name}_total`,
])

/** What the database says about work that is open; the same from every process. Money in fen, times in seconds. */
export type Backlog = Readonly<{
  /** One for every channel and age, zeros included. */
  unsettled: readonly Readonly<{ channel: string; age: string; orders: number; fen: number }>[]
  exceptions: readonly Readonly<{ kind: string; count: number; atRiskFen: number }>[]
  sweeperLag: readonly Readonly<{ channel: string; seconds: number }>[]
  noticeLagS: number
  noticesPending: number
  noticesDead: number
  batchesRunning: number
  batchItemsLeft: number
}>

type Described = Readonly<{
  type: 'counter' | 'gauge' | 'histogram'
  name: string
  help: string
  labelNames: readonly string[]
}>

/** Every metric of the service, with its unit in its name. Label values come from fixed lists, never from requests. */
export function createMetrics(now: () => number = Date.now) {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'unipay_' })
  for (const name of UNWANTED) registry.removeSingleMetric(name)
  const registers = [registry]
  const described: Described[] = []
  const describe = (type: Described['type'], name: string, help: string, labelNames: string[]) => {
    described.push({ type, name, help, labelNames })
    return { name, help, labelNames, registers }
  }
  const counter = (name: string, help: string, labelNames: string[] = []) =>
    new Counter(describe('counter', name, help, labelNames))
  const gauge = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge(describe('gauge', name, help, labelNames))
  const histogram = (name: string, help: string, labelNames: string[], buckets = SECONDS) =>
    new Histogram({ ...describe('histogram', name, help, labelNames), buckets })

  const answers = histogram(
    'unipay_merchant_request_duration_seconds',
    'Requests under /unipay, by the code answered',
    ['code', 'result'],
  )
  const answered = Object.fromEntries(
    RESULT_NAMES.map((name) => {
      const labels = { code: String(RESULT_CODES[name].code), result: snakeCase(name) }
      answers.zero(labels)
      return [name, answers.labels(labels)]
    }),
  ) as Record<ResultName, Histogram.Internal<string>>
  const requests = histogram(
    'unipay_http_request_duration_seconds',
    'All other requests, by route and HTTP status',
    ['method', 'route', 'status'],
    ROUTE_SECONDS,
  )
  const observeRequest = observerOf(requests)
  const refusals = counter('unipay_requests_refused_total', 'Requests refused before they were read, by reason', [
    'reason',
  ])
  for (const reason of REFUSALS) refusals.inc({ reason }, 0)

  const syncs = histogram('unipay_sync_duration_seconds', 'Syncs by source, channel and outcome', [
    'source',
    'channel',
    'outcome',
  ])
  const observeSync = observerOf(syncs)
  const conflicts = counter('unipay_lease_conflicts_total', 'Syncs that met another one of the same order', ['kind'])
  for (const kind of ['held', 'lost']) conflicts.inc({ kind }, 0)
  const repairs = counter('unipay_repairs_total', 'Repairs by way', ['way'])
  const repairedFen = counter('unipay_repaired_fen_total', 'Money of repaired orders, in fen, by way', ['way'])
  const timeToTruth = histogram(
    'unipay_time_to_truth_seconds',
    'From an order’s creation to its repair',
    ['way'],
    [5, 15, 30, 60, 300, 900, 1800, 3600, 14_400, 86_400],
  )
  const exceptionsOpened = counter('unipay_exceptions_opened_total', 'Exceptions opened by kind', ['kind'])
  for (const kind of EXCEPTION_KINDS) exceptionsOpened.inc({ kind }, 0)

  const calls = histogram('unipay_gateway_call_duration_seconds', 'Gateway calls by channel, operation and outcome', [
    'channel',
    'operation',
    'outcome',
  ])
  const observeCall = observerOf(calls)
  const budgetWait = histogram('unipay_gateway_budget_wait_seconds', 'Waits for a place in the channel’s budget', [
    'channel',
  ])
  const observeBudgetWait = observerOf(budgetWait)
  const breaker = gauge('unipay_gateway_breaker_state', '1 for the state that the channel’s breaker is in', [
    'channel',
    'state',
  ])

  const attempts = histogram('unipay_notice_attempt_duration_seconds', 'Sends of notices by outcome', ['outcome'])
  const deliveryLag = histogram(
    'unipay_notice_delivery_lag_seconds',
    'How long a delivered notice had been due',
    [],
    [0.5, 1, 5, 15, 60, 300, 3600],
  )
  const deaths = counter('unipay_notice_deaths_total', 'Notices given up after their last send')

  const certificate = gauge(
    'unipay_certificate_expiry_seconds',
    'Time until a certificate ends, by the setting that holds it; 86400 is one day',
    ['certificate'],
  )
  const certificateEndsMs = new Map<string, number>()
  const setBacklog = createBacklogGauges(gauge)

  return {
    contentType: registry.contentType,
    /** Everything as Prometheus reads it. `backlog` is null where the database did not tell. */
    async text(backlog: Backlog | null): Promise<string> {
      setBacklog(backlog)
      for (const [name, endsMs] of certificateEndsMs) certificate.set({ certificate: name }, (endsMs - now()) / 1000)
      return await registry.metrics()
    },
    /** Every metric but Node's own, for the documentation. */
    described: described as readonly Described[],
    sync: {
      synced: (source: string, channel: string, outcome: string, seconds: number) =>
        observeSync(seconds, source, channel, outcome),
      leaseConflict: (kind: 'held' | 'lost') => conflicts.inc({ kind }),
      repaired(way: string, amountFen: bigint, timeToTruthS: number) {
        repairs.inc({ way })
        repairedFen.inc({ way }, Number(amountFen))
        timeToTruth.observe({ way }, timeToTruthS)
      },
      exceptionOpened: (kind: string) => exceptionsOpened.inc({ kind }),
    },
    http: {
      merchantAnswered: (result: ResultName, seconds: number) => answered[result].observe(seconds),
      answered: (method: string, route: string, status: number, seconds: number) =>
        observeRequest(seconds, method, route, String(status)),
      refused: (reason: (typeof REFUSALS)[number]) => refusals.inc({ reason }),
    },
    courier: {
      attempted: (outcome: string, seconds: number) => attempts.observe({ outcome }, seconds),
      delivered: (lagS: number) => deliveryLag.observe(lagS),
      died: () => deaths.inc(),
    },
    gateway: {
      call: (channel: string, operation: string, outcome: string, seconds: number) =>
        observeCall(seconds, channel, operation, outcome),
      breaker(channel: string, state: (typeof BREAKER_STATES)[number]) {
        for (const name of BREAKER_STATES) breaker.set({ channel, state: name }, name === state ? 1 : 0)
      },
      budgetWait: (channel: string, seconds: number) => observeBudgetWait(seconds, channel),
      certificateEnds: (name: string, endsAtMs: number): void => void certificateEndsMs.set(name, endsAtMs),
    },
  }
}

export type Metrics = ReturnType<typeof createMetrics>

/** Gauges that are read from the database. Without an answer from it there are none: an old number would be believed. */
function createBacklogGauges(gauge: (name: string, help: string, labelNames?: string[]) => Gauge) {
  const isUp = gauge('unipay_metrics_database_up', '1 where the database told what follows; else those are absent')
  const unsettledOrders = gauge('unipay_unsettled_orders', 'Orders neither settled nor closed, by channel and age', [
    'channel',
    'age',
  ])
  const unsettledFen = gauge('unipay_unsettled_fen', 'Their money, in fen', ['channel', 'age'])
  const exceptions = gauge('unipay_exceptions_open', 'Exceptions that wait for a human, by kind', ['kind'])
  const atRiskFen = gauge('unipay_exceptions_at_risk_fen', 'The money in question in open exceptions, in fen', ['kind'])
  const sweeperLag = gauge(
    'unipay_sweeper_lag_seconds',
    'How long the oldest due order has been due; 0 where none is',
    ['channel'],
  )
  const noticeLag = gauge('unipay_notice_lag_seconds', 'How long the oldest due notice has been due; 0 where none is')
  const noticesPending = gauge('unipay_notices_pending', 'Notices that are to be sent, or sent again')
  const noticesDead = gauge('unipay_notices_dead', 'Notices that were given up and not redelivered')
  const batchesRunning = gauge('unipay_batches_running', 'Batches that are not finished')
  const batchItemsLeft = gauge('unipay_batch_items_left', 'Orders that running batches have yet to ask about')
  const labelled = [unsettledOrders, unsettledFen, exceptions, atRiskFen, sweeperLag]
  const single = [noticeLag, noticesPending, noticesDead, batchesRunning, batchItemsLeft]

  return (backlog: Backlog | null): void => {
    isUp.set(backlog === null ? 0 : 1)
    if (backlog === null) {
      for (const each of labelled) each.reset()
      for (const each of single) each.remove()
      return
    }
    for (const { channel, age, orders, fen } of backlog.unsettled) {
      unsettledOrders.set({ channel, age }, orders)
      unsettledFen.set({ channel, age }, fen)
    }
    for (const { kind, count, atRiskFen: fen } of backlog.exceptions) {
      exceptions.set({ kind }, count)
      atRiskFen.set({ kind }, fen)
    }
    for (const { channel, seconds } of backlog.sweeperLag) sweeperLag.set({ channel }, seconds)
    noticeLag.set(backlog.noticeLagS)
    noticesPending.set(backlog.noticesPending)
    noticesDead.set(backlog.noticesDead)
    batchesRunning.set(backlog.batchesRunning)
    batchItemsLeft.set(backlog.batchItemsLeft)
  }
}

/** Looks each combination of label values up once: for what is counted with every request. */
function observerOf(metric: Histogram) {
  const children = new Map<string, Histogram.Internal<string>>()
  return (seconds: number, ...labelValues: string[]): void => {
    const key = labelValues.join(' ')
    let child = children.get(key)
    if (child === undefined) {
      child = metric.labels(...labelValues)
      children.set(key, child)
    }
    child.observe(seconds)
  }
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
