import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

import { type Decision, REPAIR_OF_ACTION } from '../../domain/decide.js'
import { orderIdFrom } from '../../domain/order.js'
import { withoutInvisible } from '../../domain/visible-text.js'
import { FOUND_MAX, type Overview } from '../../store/overview.js'
import type { OrderHistory, Records } from '../../store/records.js'
import type { SyncOrder, SyncOutcome } from '../../sync/sync-order.js'
import { traceparentOf } from '../traceparent.js'
import { moneyFor, timeText } from './format.js'
import { rowIdFrom } from './page-links.js'
import type { Confirmation, Render } from './render.js'
import { storyOf } from './timeline.js'
import { queryOf, type Visit, visitOf } from './visit.js'
import { wordOf } from './words.js'

export type OrderPageDeps = Readonly<{ overview: Overview; records: Records; syncOrder: SyncOrder }>

type Outcome = Readonly<{ facts: readonly (readonly [string, string])[]; why: string; isDry: boolean }>

/** Find, one order's story, and what an operator may do about it. */
export function registerOrderPages(scope: FastifyInstance, render: Render, deps: OrderPageDeps): void {
  scope.get('/find', async (request, reply) => {
    const q = queryOf(request, 'q')
    const orders = q === '' ? null : await find(q)
    const [only] = orders ?? []
    if (only !== undefined && orders?.length === 1) return await reply.redirect(`/console/orders/${only.id}`, 303)
    return await render.page(request, reply, 'find', { q, orders, isCut: orders?.length === FOUND_MAX })
  })

  /** As it was typed; else without what cannot be seen, since numbers are pasted out of chats and tables. */
  async function find(q: string) {
    const found = await deps.overview.find(q)
    const plain = withoutInvisible(q)
    return found.length > 0 || plain === q ? found : await deps.overview.find(plain)
  }

  scope.get('/orders/:id', async (request, reply) => {
    const history = await historyOf(request)
    if (history === null) return await notFound(request, reply)
    return await orderPage(request, reply, history, null)
  })

  scope.get('/orders/:id/story', async (request, reply) => {
    const history = await historyOf(request)
    return history === null
      ? await notFound(request, reply)
      : await render.page(request, reply, 'story', viewOf(history, visitOf(request)))
  })

  scope.post('/orders/:id/dry-run', async (request, reply) => {
    const outcome = outcomeView(visitOf(request), await sync(request, true), true)
    if (request.headers['hx-request'] === 'true') return await render.page(request, reply, 'outcome', { outcome })
    const history = await historyOf(request)
    return history === null ? await notFound(request, reply) : await orderPage(request, reply, history, outcome)
  })

  scope.get('/orders/:id/sync', async (request, reply) => {
    const history = await historyOf(request)
    if (history === null) return await notFound(request, reply)
    return await render.page(request, reply, 'confirm', syncQuestion(visitOf(request), history))
  })

  scope.post('/orders/:id/sync', async (request, reply) => {
    const outcome = await sync(request, false)
    const history = await historyOf(request)
    if (history === null) return await notFound(request, reply)
    if (outcome.kind === 'synced') return await reply.redirect(`/console/orders/${history.id}?done=sync`, 303)
    return await orderPage(request, reply, history, outcomeView(visitOf(request), outcome, false))
  })

  async function orderPage(
    request: FastifyRequest,
    reply: FastifyReply,
    history: OrderHistory,
    outcome: Outcome | null,
  ) {
    const visit = visitOf(request)
    return await render.page(request, reply, 'order', {
      ...viewOf(history, visit),
      back: `/console/orders/${history.id}`,
      open: history.exceptions.filter(({ state }) => state === 'open'),
      done: queryOf(request, 'done') === 'sync' ? visit.words.syncDone : null,
      outcome,
    })
  }

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
  const id = rowIdFrom((request.params as { id: string }).id)
  return id === null ? undefined : orderIdFrom(id)
}

function viewOf(history: OrderHistory, { language }: Visit) {
  return { order: history, orderId: history.id.toString(), events: storyOf(history, language) }
}

function syncQuestion({ words, language }: Visit, order: OrderHistory): Confirmation {
  const back = `/console/orders/${order.id}`
  return {
    question: words.confirmSync,
    amountFen: order.amountFen,
    currency: order.currency,
    action: `${back}/sync`,
    back,
    facts: [
      [words.order, order.id.toString()],
      [words.titleOf, order.title ?? '–'],
      [words.status, wordOf(language, order.status)],
      [words.channel, wordOf(language, order.channel ?? 'no_channel')],
      [words.expires, timeText(order.expiresAt)],
    ],
    fields: {},
    withNote: false,
  }
}

/** What came of asking, for people. Only `synced` says what would be done. */
function outcomeView({ words, language }: Visit, outcome: SyncOutcome, isDry: boolean): Outcome {
  const word = (code: string) => wordOf(language, code)
  switch (outcome.kind) {
    case 'not_found':
      return { facts: [], why: words.notFound, isDry }
    case 'busy':
      return { facts: [], why: words.busy, isDry }
    case 'no_channel':
    case 'channel_not_configured':
      return { facts: [], why: words.noChannel, isDry }
    case 'gateway_unknown': {
      const facts = [[words.result, `${outcome.reason}: ${outcome.message}`]] as const
      return { facts, why: withAsked(words, words.gatewayUnknown, outcome), isDry }
    }
    case 'mismatch': {
      const { field, expected, actual, kind } = outcome.mismatch
      return {
        facts: [...told(words, language, outcome), [word(kind), `${field}: ${expected} ≠ ${actual}`]],
        why: withAsked(words, words.mismatchWhy, outcome),
        isDry,
      }
    }
    case 'synced': {
      const { decision } = outcome
      const exception = decision.exception === null ? '' : ` ${words.needsHuman} ${word(decision.exception)}`
      return {
        facts: [
          ...told(words, language, outcome),
          [words.decision, word(decision.action)],
          [words.wouldRepair, repairText(decision, word) ?? words.no],
        ],
        why: `${words[`why_${decision.action}`]}${exception}`,
        isDry,
      }
    }
  }
}

/** Nothing changed here; whether something did at the gateway is another matter. */
function withAsked(words: Visit['words'], why: string, { isCloseAsked }: Readonly<{ isCloseAsked: boolean }>): string {
  return isCloseAsked ? `${why} ${words.closeAsked}` : why
}

function told(
  words: Visit['words'],
  language: Visit['language'],
  { order, trade }: Extract<SyncOutcome, { kind: 'synced' | 'mismatch' }>,
): readonly (readonly [string, string])[] {
  const amountThere =
    trade.amountFen === null ? '' : ` · ${moneyFor(language, trade.amountFen, trade.currency ?? undefined)}`
  return [
    [words.stateHere, `${wordOf(language, order.status)} · ${moneyFor(language, order.amountFen, order.currency)}`],
    [words.stateThere, `${wordOf(language, trade.state)} (${trade.gatewayState})${amountThere}`],
    [words.gatewayNo, trade.gatewayOrderNo ?? '–'],
  ]
}

function repairText(decision: Decision, word: (code: string) => string): string | null {
  const change = REPAIR_OF_ACTION[decision.action]
  return change === null ? null : `${word(change.way)} → ${word(change.status)}`
}
