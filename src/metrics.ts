import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Seconds, from one quick statement to the longest sync. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const BREAKER_STATES = ['closed', 'half_open', 'open'] as const

/** Every metric of the service, with its unit in its name. Label values come from fixed lists, never from requests. */
export function createMetrics() {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'unipay_' })
  const registers = [registry]
  const counter = (name: string, help: string, labelNames: string[]) =>
    new Counter({ name, help, labelNames, registers })
  const histogram = (name: string, help: string, labelNames: string[]) =>
    new Histogram({ name, help, labelNames, buckets: SECONDS, registers })

  const syncs = histogram('unipay_sync_duration_seconds', 'Syncs by source, channel and outcome', [
    'source',
    'channel',
    'outcome',
  ])
  const repairs = counter('unipay_repairs_total', 'Repairs by way', ['way'])
  const repairedFen = counter('unipay_repaired_fen_total', 'Money of repaired orders, in fen, by way', ['way'])
  const timeToTruth = new Histogram({
    name: 'unipay_time_to_truth_seconds',
    help: 'From an order to its repair',
    labelNames: ['way'],
    buckets: [5, 15, 30, 60, 300, 900, 1800, 3600, 14_400, 86_400],
    registers,
  })
  const exceptions = counter('unipay_exceptions_opened_total', 'Exceptions opened by kind', ['kind'])
  const calls = histogram('unipay_gateway_call_duration_seconds', 'Gateway calls by channel, operation and outcome', [
    'channel',
    'operation',
    'outcome',
  ])
  const budgetWait = histogram('unipay_gateway_budget_wait_seconds', 'Waits for a place in the channel budget', [
    'channel',
  ])
  const breaker = new Gauge({
    name: 'unipay_gateway_breaker_state',
    help: '1 for the state the breaker is in',
    labelNames: ['channel', 'state'],
    registers,
  })

  const attempts = histogram('unipay_notice_attempt_duration_seconds', 'Sends of notices by outcome', ['outcome'])
  const noticeLag = new Histogram({
    name: 'unipay_notice_lag_seconds',
    help: 'How long a delivered notice had been due',
    buckets: [0.5, 1, 5, 15, 60, 300, 3600],
    registers,
  })
  const deaths = counter('unipay_notice_deaths_total', 'Notices given up after their last send', [])

  const refusals = counter('unipay_requests_refused_total', 'Requests refused before they were read, by reason', [
    'reason',
  ])

  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    sync: {
      synced: (source: string, channel: string, outcome: string, seconds: number) =>
        syncs.observe({ source, channel, outcome }, seconds),
      repaired(way: string, amountFen: bigint, timeToTruthS: number) {
        repairs.inc({ way })
        repairedFen.inc({ way }, Number(amountFen))
        timeToTruth.observe({ way }, timeToTruthS)
      },
      exceptionOpened: (kind: string) => exceptions.inc({ kind }),
    },
    http: { refused: (reason: string) => refusals.inc({ reason }) },
    courier: {
      attempted: (outcome: string, seconds: number) => attempts.observe({ outcome }, seconds),
      delivered: (lagS: number) => noticeLag.observe(lagS),
      died: () => deaths.inc(),
    },
    gateway: {
      call: (channel: string, operation: string, outcome: string, seconds: number) =>
        calls.observe({ channel, operation, outcome }, seconds),
      breaker(channel: string, state: (typeof BREAKER_STATES)[number]) {
        for (const name of BREAKER_STATES) breaker.set({ channel, state: name }, name === state ? 1 : 0)
      },
      budgetWait: (channel: string, seconds: number) => budgetWait.observe({ channel }, seconds),
    },
  }
}

export type Metrics = ReturnType<typeof createMetrics>
