import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

import { EXCEPTION_KINDS } from '../../domain/decide.js'
import type { Exceptions } from '../../store/exceptions.js'
import { noteSchema } from '../ops/record-schema.js'
import { moneyFor, timeText } from './format.js'
import { olderLink, ROWS_MAX, rowIdFrom } from './page-links.js'
import type { Confirmation, Render } from './render.js'
import { fieldOf, queryOf, type Visit, visitOf } from './visit.js'
import { wordOf } from './words.js'

type Finding = NonNullable<Awaited<ReturnType<Exceptions['find']>>>

/** The findings that a human must look at, and closing them with a reason. */
export function registerExceptionPages(
  scope: FastifyInstance,
  render: Render,
  deps: Readonly<{ exceptions: Exceptions; now: () => number }>,
): void {
  scope.get('/exceptions', async (request, reply) => {
    const asked = queryOf(request, 'state')
    const state = asked === 'resolved' || asked === 'all' ? asked : 'open'
    const kind = EXCEPTION_KINDS.find((known) => known === queryOf(request, 'kind')) ?? null
    const rows = await deps.exceptions.list({
      state: state === 'all' ? null : state,
      kind,
      beforeId: rowIdFrom(queryOf(request, 'before')),
      limit: ROWS_MAX + 1,
    })
    const older = olderLink('/console/exceptions', { state, kind: kind ?? '' }, rows)
    const visit = visitOf(request)
    return await render.page(request, reply, 'exceptions', {
      state,
      kind,
      kinds: EXCEPTION_KINDS,
      rows: rows.slice(0, ROWS_MAX).map((row) => ({ ...row, compared: comparedOf(visit, row.evidence) })),
      older,
    })
  })

  scope.get('/exceptions/:id/resolve', async (request, reply) => {
    const row = await findingOf(request)
    if (row === null) return await notFound(request, reply)
    const visit = visitOf(request)
    if (row.state !== 'open') return await refuse(request, reply, 409, visit.words.alreadyResolved)
    return await render.page(request, reply, 'confirm', resolveQuestion(visit, row))
  })

  scope.post('/exceptions/:id/resolve', async (request, reply) => {
    const { words, session } = visitOf(request)
    const row = await findingOf(request)
    if (row === null) return await notFound(request, reply)
    const note = noteSchema.safeParse(fieldOf(request, 'note'))
    if (!note.success) return await refuse(request, reply, 400, words.noteNeeded)
    const outcome = await deps.exceptions.resolve(row.id, session.operator, note.data, new Date(deps.now()))
    if (outcome.kind !== 'resolved') return await refuse(request, reply, 409, words.alreadyResolved)
    const fields = { exceptionId: row.id.toString(), orderId: row.orderId.toString(), kind: row.kind }
    request.log.info({ event: 'exception_resolved', operator: session.operator, ...fields })
    return await reply.redirect('/console/exceptions?state=resolved', 303)
  })

  async function findingOf(request: FastifyRequest): Promise<Finding | null> {
    const id = rowIdFrom((request.params as { id: string }).id)
    return id === null ? null : await deps.exceptions.find(id)
  }

  async function refuse(request: FastifyRequest, reply: FastifyReply, status: number, say: string) {
    return await render.message(request, reply, status, visitOf(request).words.exceptions, say)
  }

  async function notFound(request: FastifyRequest, reply: FastifyReply) {
    return await refuse(request, reply, 404, visitOf(request).words.noSuch)
  }
}

function resolveQuestion(visit: Visit, row: Finding): Confirmation {
  const { words, language } = visit
  return {
    question: words.confirmResolve,
    amountFen: row.atRiskFen,
    currency: 'CNY',
    action: `/console/exceptions/${row.id}/resolve`,
    back: '/console/exceptions',
    facts: [
      [words.kind, wordOf(language, row.kind)],
      [words.order, row.orderId.toString()],
      ...comparedOf(visit, row.evidence),
      [words.opened, timeText(row.openedAt)],
    ],
    fields: {},
    withNote: true,
  }
}

/** What differs between here and there, out of the evidence; whatever is missing in it is left out. */
function comparedOf({ words, language }: Visit, evidence: unknown): readonly (readonly [string, string])[] {
  const facts = (typeof evidence === 'object' && evidence !== null ? evidence : {}) as Readonly<Record<string, unknown>>
  const text = (name: string): string | null => {
    const value = facts[name]
    return typeof value === 'string' ? value : null
  }
  const line = (
    state: string | null,
    own: string | null,
    fen: string | null,
    currency: string | null,
    no: string | null,
  ) =>
    [
      state === null ? null : `${wordOf(language, state)}${own === null ? '' : ` (${own})`}`,
      fen === null || !/^\d{1,18}$/.test(fen) ? null : moneyFor(language, BigInt(fen), currency ?? undefined),
      no,
    ]
      .filter((part) => part !== null)
      .join(' · ')
  const here = line(text('statusHere'), null, text('amountHereFen'), null, text('gatewayOrderNoHere'))
  const there = line(
    text('stateThere'),
    text('gatewayState'),
    text('amountThereFen'),
    text('currencyThere'),
    text('gatewayOrderNoThere'),
  )
  return [
    ...(here === '' ? [] : [[words.stateHere, here] as const]),
    ...(there === '' ? [] : [[words.stateThere, there] as const]),
  ]
}
