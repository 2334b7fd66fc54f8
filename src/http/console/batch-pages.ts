import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

import { CHANNELS, ORDER_STATUSES } from '../../domain/order.js'
import { type Batch, type Batches, type BatchFilter, type BatchProgress, UNTOLD_RESULTS } from '../../store/batches.js'
import type { BatchSelection } from '../../store/overview.js'
import { newTraceId } from '../../trace-id.js'
import { BATCH_ORDERS_MAX } from '../ops/batch-routes.js'
import { registerBatchStream } from './batch-stream.js'
import { timeFromForm, timeText } from './format.js'
import { rowIdFrom } from './page-links.js'
import type { Render } from './render.js'
import { fieldOf, queryOf, type Visit, visitOf } from './visit.js'
import { type Words, wordOf } from './words.js'

export type BatchPageDeps = Readonly<{
  batches: Batches
  selection: BatchSelection
  /** What a batch may ask of the gateways in a second, at most. */
  batchRatePerSMax: number
}>

const ORDERS_DEFAULT = 500
const BATCHES_SHOWN_MAX = 20

type Asked = Readonly<{ filter: BatchFilter; ratePerS: number; dryRun: boolean }>

/** What may be done about a batch, by its state. `resume` of one that is done asks again where nothing was learned. */
const ACTS = {
  pause: ['running'],
  resume: ['paused', 'cancelled', 'done'],
  cancel: ['running', 'paused'],
} as const satisfies Record<string, readonly Batch['state'][]>
type Act = keyof typeof ACTS

/** An operator's runs over many orders: start, watch, pause, resume, cancel. */
export function registerBatchPages(scope: FastifyInstance, render: Render, deps: BatchPageDeps): void {
  scope.get('/batches', async (request, reply) => {
    const rows = await deps.batches.list(null, BATCHES_SHOWN_MAX)
    const ratePerS = Math.max(1, Math.floor(deps.batchRatePerSMax / 2))
    const form = { limit: ORDERS_DEFAULT, limitMax: BATCH_ORDERS_MAX, ratePerS, ratePerSMax: deps.batchRatePerSMax }
    return await render.page(request, reply, 'batches', { rows, channels: CHANNELS, statuses: ORDER_STATUSES, ...form })
  })

  scope.get('/batches/new', async (request, reply) => {
    const visit = visitOf(request)
    const asked = askedOf((name) => queryOf(request, name), deps.batchRatePerSMax)
    if (typeof asked === 'string') return await badField(request, reply, asked)
    const { orders, fen } = await deps.selection.matching(asked.filter)
    return await render.page(request, reply, 'confirm', {
      question: asked.dryRun ? visit.words.confirmBatchDry : visit.words.confirmBatch,
      amountFen: fen,
      currency: 'CNY',
      action: orders === 0 ? null : '/console/batches',
      back: '/console/batches',
      facts: [[visit.words.orders, orders.toString()], ...askedFacts(visit, asked)],
      // The trace id goes with the question, so that an answer that is sent twice makes one batch.
      fields: { ...fieldsOf((name) => queryOf(request, name)), traceId: newTraceId() },
      withNote: false,
    })
  })

  scope.post('/batches', async (request, reply) => {
    const { session } = visitOf(request)
    const asked = askedOf((name) => fieldOf(request, name), deps.batchRatePerSMax)
    const traceId = fieldOf(request, 'traceId')
    if (typeof asked === 'string') return await badField(request, reply, asked)
    if (!/^[0-9A-Za-z]{12}$/.test(traceId)) return await badField(request, reply, 'traceId')
    const batch = await deps.batches.create({ ...asked, actor: session.operator, traceId, traceparent: null })
    const logged = { event: 'batch_created', operator: session.operator, batchId: batch.id.toString() }
    request.log.info({ ...logged, total: batch.total, dryRun: batch.dryRun })
    return await reply.redirect(`/console/batches/${batch.id}`, 303)
  })

  scope.get('/batches/:id', async (request, reply) => {
    const progress = await progressOf(request)
    if (progress === null) return await notFound(request, reply)
    return await render.page(request, reply, 'batch', progressView(progress))
  })

  for (const act of ['pause', 'cancel', 'resume'] as const) {
    scope.get(`/batches/:id/${act}`, async (request, reply) => {
      const progress = await progressOf(request)
      if (progress === null) return await notFound(request, reply)
      const { id, state } = progress.batch
      if (!isPossible(act, state)) return await notNow(request, reply, state)
      const { words, language } = visitOf(request)
      const left = await deps.selection.left(id)
      return await render.page(request, reply, 'confirm', {
        question: words[`confirm_${act}`],
        amountFen: left.fen,
        currency: 'CNY',
        action: act === 'resume' && left.orders === 0 ? null : `/console/batches/${id}/${act}`,
        back: `/console/batches/${id}`,
        facts: [
          [words.batch, id.toString()],
          [words.state, wordOf(language, state)],
          [words.left, left.orders.toString()],
        ],
        fields: {},
        withNote: false,
      })
    })

    scope.post(`/batches/:id/${act}`, async (request, reply) => {
      const progress = await progressOf(request)
      if (progress === null) return await notFound(request, reply)
      const { id, state } = progress.batch
      const { session } = visitOf(request)
      // Another operator may have been here between the question and the answer.
      const changed = isPossible(act, state) ? await perform(act, id, session.operator) : null
      if (changed === null) return await notNow(request, reply, (await deps.batches.find(id))?.batch.state ?? state)
      request.log.info({ event: LOGGED[act], operator: session.operator, batchId: id.toString() })
      return await reply.redirect(`/console/batches/${id}`, 303)
    })
  }

  registerBatchStream(scope, render, async (request) => {
    const progress = await progressOf(request)
    return progress === null ? null : progressView(progress)
  })

  async function perform(act: Act, id: bigint, operator: string): Promise<BatchProgress | null> {
    return act === 'resume' ? await deps.batches.resume(id) : await deps.batches[act](id, operator)
  }

  async function progressOf(request: FastifyRequest): Promise<BatchProgress | null> {
    const id = rowIdFrom((request.params as { id: string }).id)
    return id === null ? null : await deps.batches.find(id)
  }

  async function notFound(request: FastifyRequest, reply: FastifyReply) {
    const { words } = visitOf(request)
    return await render.message(request, reply, 404, words.batches, words.noSuch)
  }

  async function notNow(request: FastifyRequest, reply: FastifyReply, state: string) {
    const { words, language } = visitOf(request)
    return await render.message(request, reply, 409, words.batches, `${words.notNow} ${wordOf(language, state)}`)
  }

  async function badField(request: FastifyRequest, reply: FastifyReply, name: string) {
    const { words } = visitOf(request)
    const bounds = { limit: ` (1–${BATCH_ORDERS_MAX})`, ratePerS: ` (1–${deps.batchRatePerSMax})` }[name] ?? ''
    const label = name in LABELS ? words[LABELS[name as keyof typeof LABELS]] : name
    return await render.message(request, reply, 400, words.batches, `${words.badField} ${label}${bounds}`)
  }
}

const LOGGED = { pause: 'batch_paused', cancel: 'batch_cancelled', resume: 'batch_resumed' } as const satisfies Record<
  Act,
  string
>

function isPossible(act: Act, state: Batch['state']): boolean {
  return (ACTS[act] as readonly Batch['state'][]).includes(state)
}

function progressView(progress: BatchProgress) {
  const untold = UNTOLD_RESULTS.reduce((sum, result) => sum + (progress.results[result]?.count ?? 0), 0)
  const { state } = progress.batch
  const acts = (Object.keys(ACTS) as Act[]).filter((act) => isPossible(act, state) && (state !== 'done' || untold > 0))
  return { ...progress, acts }
}

/** What the form asks for; the name of a field where that is not one of its own values. Empty fields mean any. */
function askedOf(field: (name: string) => string, ratePerSMax: number): Asked | string {
  const pick = <T extends string>(name: string, known: readonly T[]): T | null | undefined =>
    field(name) === '' ? null : known.find((value) => value === field(name))
  const whole = (name: string, max: number): number | undefined => {
    const text = field(name)
    return /^\d{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= max ? Number(text) : undefined
  }
  const time = (name: string): string | null | undefined =>
    field(name) === '' ? null : timeFromForm(field(name))?.toISOString()
  const channel = pick('channel', CHANNELS)
  const status = pick('status', ORDER_STATUSES)
  const createdFrom = time('createdFrom')
  const createdTo = time('createdTo')
  const limit = whole('limit', BATCH_ORDERS_MAX)
  const ratePerS = whole('ratePerS', ratePerSMax)
  if (channel === undefined) return 'channel'
  if (status === undefined) return 'status'
  if (createdFrom === undefined) return 'createdFrom'
  if (createdTo === undefined) return 'createdTo'
  if (limit === undefined) return 'limit'
  if (ratePerS === undefined) return 'ratePerS'
  return { filter: { channel, status, createdFrom, createdTo, limit }, ratePerS, dryRun: field('dryRun') === 'yes' }
}

const LABELS = {
  channel: 'channel',
  status: 'status',
  createdFrom: 'from',
  createdTo: 'to',
  limit: 'limit',
  ratePerS: 'ratePerS',
  dryRun: 'onlyDry',
} as const satisfies Record<string, keyof Words>

function fieldsOf(field: (name: string) => string): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.keys(LABELS).map((name) => [name, field(name)]))
}

function askedFacts(
  { words, language }: Visit,
  { filter, ratePerS, dryRun }: Asked,
): readonly (readonly [string, string])[] {
  const word = (code: string | null) => (code === null ? words.any : wordOf(language, code))
  const time = (text: string | null) => (text === null ? words.any : timeText(new Date(text)))
  return [
    [words.channel, word(filter.channel)],
    [words.status, word(filter.status)],
    [words.from, time(filter.createdFrom)],
    [words.to, time(filter.createdTo)],
    [words.ratePerS, ratePerS.toString()],
    [words.onlyDry, dryRun ? words.yes : words.no],
  ]
}
