import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

import { type Decision, REPAIR_OF_ACTION } from '../../domain/decide.js'
import { orderIdFrom } from '../../domain/order.js'
import type { Overview } from '../../store/overview.js'
import type { OrderHistory, Records } from '../../store/records.js'
import type { SyncOrder, SyncOutcome } from '../../sync/sync-order.js'
import { traceparentOf } from '../traceparent.js'
import { moneyText, timeText } from './format.js'
import type { Confirmation, Render } from './render.js'
import { storyOf } from './timeline.js'
import { fieldOf, queryOf, type Visit, visitOf } from './visit.js'
import { wordOf } from './words.js'

export type OrderPageDeps = Readonly<{ overview: Overview; records: Records; syncOrder: SyncOrder }>

type Outcome = Readonly<{ facts: readonly (readonly [string, string])[]; why: string }>

/** Find, one order's story, and what an operator may do about it. */
export function registerOrderPages(scope: FastifyInstance, render: Render, deps: OrderPageDeps): void {
  scope.get('/find', async (request, reply) => {
    const q = queryOf(request, 'q')
    const orders = q === '' ? null : await deps.overview.find(q)
    const [only] = orders ?? []
    if (only !== undefined && orders?.length === 1) return await reply.redirect(`/console/orders/${only.id}`, 303)
    return await render.page(request, reply, 'find', { q, orders })
  })

  scope.get('/orders/:id', async (request, reply) => {
    const history = await historyOf(request)
    if (history === null) return await notFound(request, reply)
    const done = queryOf(request, 'done') === 'sync' ? visitOf(request).words.syncDone : null
    return await render.page(request, reply, 'order', { ...viewOf(history), done, outcome: null })
  })

  scope.get('/orders/:id/story', async (request, reply) => {
    const history = await historyOf(request)
    return history === null
      ? await notFound(request, reply)
      : await render.page(request, reply, 'story', viewOf(history))
  })

  scope.post('/orders/:id/dry-run', async (request, reply) => {
    const outcome = outcomeView(visitOf(request), await sync(request, true))
    if (request.headers['hx-request'] === 'true') return await render.page(request, reply, 'outcome', { outcome })
    const history = await historyOf(request)
    if (history === null) return await notFound(request, reply)
    return await render.page(request, reply, 'order', { ...viewOf(history), done: null, outcome })
  })

  scope.post('/orders/:id/sync', async (request, reply) => {
    const history = await historyOf(request)
    if (history === null) return await notFound(request, reply)
    const visit = visitOf(request)
    const back = `/console/orders/${history.id}`
    if (fieldOf(request, 'confirmed') !== 'yes')
      return await render.page(request, reply, 'confirm', syncQuestion(visit, history, back))
    const outcome = await sync(request, false)
    if (outcome.kind === 'synced') return await reply.redirect(`${back}?done=sync`, 303)
    const view = outcomeView(visit, outcome)
    const after = await historyOf(request)
    return await render.page(request, reply, 'order', { ...viewOf(after ?? history), done: null, outcome: view })
  })

  async function historyOf(request: FastifyRequest): Promise<OrderHistory | null> {
    const id = idOf(request)
    return id === undefined ? null : await deps.records.findHistory({ id })
  }

  async function notFound(request: FastifyRequest, reply: FastifyReply) {
    const { words } = visitOf(request)
    return await render.message(request, reply, 404, words.order, words.notFound)
  }

  async function sync(request: FastifyRequest, dryRun: boolean): Promise<SyncOutcome> {
    const id = idOf(request)
    if (id === undefined) return { kind: 'not_found' }
    return await deps.syncOrder({
      key: { id },
      traceId: request.id,
      traceparent: traceparentOf(request.headers['traceparent']),
      source: 'operator',
      actor: visitOf(request).session.operator,
      clientIp: request.ip,
      dryRun,
    })
  }
}

function idOf(request: FastifyRequest) {
  const { id } = request.params as { id: string }
  return /^\d{1,19}$/.test(id) ? orderIdFrom(BigInt(id)) : undefined
}

function viewOf(history: OrderHistory) {
  return { order: history, orderId: history.id.toString(), events: storyOf(history) }
}

function syncQuestion({ words, language }: Visit, order: OrderHistory, back: string): Confirmation {
  return {
    question: words.sure_sync,
    fen: order.amountFen,
    currency: order.currency,
    action: `${back}/sync`,
    back,
    facts: [
      [words.order, order.id.toString()],
      [words.titleOf, order.title ?? '–'],
      [words.status, wordOf(language, order.status)],
      [words.expires, timeText(order.expiresAt)],
    ],
    fields: {},
  }
}

/** What came of asking, for people. Only `synced` says what would be done. */
function outcomeView({ words, language }: Visit, outcome: SyncOutcome): Outcome {
  const word = (code: string) => wordOf(language, code)
  switch (outcome.kind) {
    case 'not_found':
      return { facts: [], why: words.notFound }
    case 'busy':
      return { facts: [], why: words.busy }
    case 'no_channel':
    case 'channel_not_configured':
      return { facts: [], why: words.noChannel }
    case 'gateway_unknown':
      return { facts: [[words.result, `${outcome.reason}: ${outcome.message}`]], why: words.gatewayUnknown }
    case 'mismatch': {
      const { field, expected, actual, kind } = outcome.mismatch
      return {
        facts: [...told(words, outcome, word), [word(kind), `${field}: ${expected} ≠ ${actual}`]],
        why: words.mismatchWhy,
      }
    }
    case 'synced': {
      const { decision } = outcome
      const exception = decision.exception === null ? '' : ` ${words.needsHuman} ${word(decision.exception)}`
      return {
        facts: [
          ...told(words, outcome, word),
          [words.decision, word(decision.action)],
          [words.wouldRepair, repairText(decision, word) ?? words.no],
        ],
        why: `${words[`why_${decision.action}`]}${exception}`,
      }
    }
  }
}

function told(
  words: Visit['words'],
  { order, trade }: Extract<SyncOutcome, { kind: 'synced' | 'mismatch' }>,
  word: (code: string) => string,
): readonly (readonly [string, string])[] {
  const amountThere = trade.amountFen === null ? '' : ` · ${moneyText(trade.amountFen, trade.currency ?? '')}`
  return [
    [words.stateHere, `${word(order.status)} · ${moneyText(order.amountFen, order.currency)}`],
    [words.stateThere, `${word(trade.state)} (${trade.gatewayState})${amountThere}`],
    [words.gatewayNo, trade.gatewayOrderNo ?? '–'],
  ]
}

function repairText(decision: Decision, word: (code: string) => string): string | null {
  const change = REPAIR_OF_ACTION[decision.action]
  return change === null ? null : `${word(change.way)} → ${word(change.status)}`
}
