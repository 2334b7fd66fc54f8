import { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

import { CHANNELS, ORDER_STATUSES } from '../../domain/order.js'
import type { Batches, BatchFilter, BatchProgress } from '../../store/batches.js'
import type { BatchSelection } from '../../store/overview.js'
import { timeFromForm, timeText } from './format.js'
import { rowIdFrom } from './page-links.js'
import type { Render } from './render.js'
import { fieldOf, visitOf } from './visit.js'
import { type Language, type Words, wordOf } from './words.js'

export type BatchPageDeps = Readonly<{
  batches: Batches
  selection: BatchSelection
  /** What a batch may ask of the gateways in a second, at most. */
  batchRatePerSMax: number
}>

/** As /ops has it: more would make the one statement that chooses the orders long. */
const ORDERS_MAX = 100_000
const ORDERS_DEFAULT = 500
const BATCHES_SHOWN_MAX = 20

/** Between two looks at a batch that is watched. Milliseconds. */
const LOOK_MS = 500
/** A stream ends after this and the page opens another, so that none outlives its session by much. */
const STREAM_MS_MAX = 60_000
const STREAMS_MAX = 50

type Asked = Readonly<{ filter: BatchFilter; ratePerS: number; dryRun: boolean }>

/** An operator's runs over many orders: start, watch, pause, resume. */
export function registerBatchPages(scope: FastifyInstance, render: Render, deps: BatchPageDeps): void {
  scope.get('/batches', async (request, reply) => {
    const rows = await deps.batches.list(null, BATCHES_SHOWN_MAX)
    const ratePerS = Math.max(1, Math.floor(deps.batchRatePerSMax / 2))
    const form = { channels: CHANNELS, statuses: ORDER_STATUSES, limit: ORDERS_DEFAULT, limitMax: ORDERS_MAX, ratePerS }
    return await render.page(request, reply, 'batches', { rows, ...form, ratePerSMax: deps.batchRatePerSMax })
  })

  scope.post('/batches', async (request, reply) => {
    const { words, language, session } = visitOf(request)
    const asked = askedOf(request, deps.batchRatePerSMax)
    if (asked === null) return await render.message(request, reply, 400, words.batches, words.badForm)
    if (fieldOf(request, 'confirmed') !== 'yes') {
      const { orders, fen } = await deps.selection.matching(asked.filter)
      return await render.page(request, reply, 'confirm', {
        question: words.confirmBatchStart,
        fen,
        currency: 'CNY',
        action: '/console/batches',
        back: '/console/batches',
        facts: [[words.orders, orders.toString()], ...askedFacts(words, language, asked)],
        fields: fieldsOf(request),
      })
    }
    const batch = await deps.batches.create({ ...asked, actor: session.operator, traceId: request.id })
    const logged = { event: 'batch_created', operator: session.operator, batchId: batch.id.toString() }
    request.log.info({ ...logged, total: batch.total, dryRun: batch.dryRun })
    return await reply.redirect(`/console/batches/${batch.id}`, 303)
  })

  scope.get('/batches/:id', async (request, reply) => {
    const progress = await progressOf(request)
    return progress === null ? await notFound(request, reply) : await render.page(request, reply, 'batch', progress)
  })

  for (const act of ['pause', 'resume'] as const) {
    scope.post(`/batches/:id/${act}`, async (request, reply) => {
      const progress = await progressOf(request)
      if (progress === null) return await notFound(request, reply)
      const { words, session } = visitOf(request)
      const { id } = progress.batch
      const back = `/console/batches/${id}`
      if (fieldOf(request, 'confirmed') !== 'yes') {
        const left = await deps.selection.left(id)
        return await render.page(request, reply, 'confirm', {
          question: act === 'pause' ? words.confirmPause : words.confirmResume,
          fen: left.fen,
          currency: 'CNY',
          action: `${back}/${act}`,
          back,
          facts: [[words.orders, left.orders.toString()]],
          fields: {},
        })
      }
      await (act === 'pause' ? deps.batches.cancel(id, session.operator) : deps.batches.resume(id))
      request.log.info({ event: `batch_${act}d`, operator: session.operator, batchId: id.toString() })
      return await reply.redirect(back, 303)
    })
  }

  registerStream(scope, render, progressOf)

  async function progressOf(request: FastifyRequest): Promise<BatchProgress | null> {
    const id = rowIdFrom((request.params as { id: string }).id)
    return id === null ? null : await deps.batches.find(id)
  }

  async function notFound(request: FastifyRequest, reply: FastifyReply) {
    const { words } = visitOf(request)
    return await render.message(request, reply, 404, words.batches, words.noSuch)
  }
}

/** Live progress, as server-sent events: the part of the page that changes, until the batch stands still. */
function registerStream(
  scope: FastifyInstance,
  render: Render,
  progressOf: (request: FastifyRequest) => Promise<BatchProgress | null>,
): void {
  const streams = new Set<AbortController>()
  // A server that leaves waits for nobody who only watches.
  scope.addHook('preClose', async () => {
    for (const stream of streams) stream.abort()
  })

  async function* events(request: FastifyRequest, stream: AbortController) {
    const untilMs = performance.now() + STREAM_MS_MAX
    try {
      while (!stream.signal.aborted && performance.now() < untilMs) {
        const progress = await progressOf(request)
        if (progress === null) return
        const html = render.html(request, 'progress', progress)
        yield `${html
          .split('\n')
          .map((line) => `data: ${line}`)
          .join('\n')}\n\n`
        if (progress.batch.state !== 'running') return
        // Aborted: whoever watched is gone, or the server leaves.
        await pause(LOOK_MS, undefined, { signal: stream.signal }).catch(() => undefined)
      }
    } finally {
      streams.delete(stream)
    }
  }

  scope.get('/batches/:id/events', async (request, reply) => {
    if (streams.size >= STREAMS_MAX) return await reply.code(503).header('retry-after', 5).send()
    const stream = new AbortController()
    streams.add(stream)
    request.raw.once('close', () => stream.abort())
    return await reply.type('text/event-stream; charset=utf-8').send(Readable.from(events(request, stream)))
  })
}

/** What the form asks for; null where a field is not one of its own. Empty fields mean any. */
function askedOf(request: FastifyRequest, ratePerSMax: number): Asked | null {
  const pick = <T extends string>(name: string, known: readonly T[]): T | null | undefined => {
    const text = fieldOf(request, name)
    return text === '' ? null : known.find((value) => value === text)
  }
  const whole = (name: string, max: number): number | undefined => {
    const text = fieldOf(request, name)
    return /^\d{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= max ? Number(text) : undefined
  }
  const time = (name: string): string | null | undefined => {
    const text = fieldOf(request, name)
    return text === '' ? null : timeFromForm(text)?.toISOString()
  }
  const channel = pick('channel', CHANNELS)
  const status = pick('status', ORDER_STATUSES)
  const createdFrom = time('createdFrom')
  const createdTo = time('createdTo')
  const limit = whole('limit', ORDERS_MAX)
  const ratePerS = whole('ratePerS', ratePerSMax)
  if (channel === undefined || status === undefined || createdFrom === undefined || createdTo === undefined) return null
  if (limit === undefined || ratePerS === undefined) return null
  return {
    filter: { channel, status, createdFrom, createdTo, limit },
    ratePerS,
    dryRun: fieldOf(request, 'dryRun') === 'yes',
  }
}

const FIELDS = ['channel', 'status', 'createdFrom', 'createdTo', 'limit', 'ratePerS', 'dryRun'] as const

function fieldsOf(request: FastifyRequest): Readonly<Record<string, string>> {
  return Object.fromEntries(FIELDS.map((name) => [name, fieldOf(request, name)]))
}

function askedFacts(
  words: Words,
  language: Language,
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
