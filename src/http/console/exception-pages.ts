import type { FastifyInstance } from 'fastify'

import { EXCEPTION_KINDS } from '../../domain/decide.js'
import type { Exceptions } from '../../store/exceptions.js'
import type { Records } from '../../store/records.js'
import { olderLink, ROWS_MAX, rowIdFrom } from './page-links.js'
import type { Render } from './render.js'
import { fieldOf, queryOf, visitOf } from './visit.js'
import { wordOf } from './words.js'

const NOTE_LENGTH_MAX = 1000

/** The findings that a human must look at, and closing them with a reason. */
export function registerExceptionPages(
  scope: FastifyInstance,
  render: Render,
  deps: Readonly<{ exceptions: Exceptions; records: Records; now: () => number }>,
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
    return await render.page(request, reply, 'exceptions', {
      state,
      kind,
      kinds: EXCEPTION_KINDS,
      rows: rows.slice(0, ROWS_MAX),
      older,
    })
  })

  scope.post('/exceptions/:id/resolve', async (request, reply) => {
    const { words, language, session } = visitOf(request)
    const id = rowIdFrom((request.params as { id: string }).id)
    const row = id === null ? null : await deps.exceptions.find(id)
    if (id === null || row === null) return await render.message(request, reply, 404, words.exceptions, words.noSuch)
    const note = fieldOf(request, 'note')
    if (note === '' || note.length > NOTE_LENGTH_MAX || note.includes('\0') || !note.isWellFormed())
      return await render.message(request, reply, 400, words.exceptions, words.noteNeeded)
    if (fieldOf(request, 'confirmed') !== 'yes') {
      return await render.page(request, reply, 'confirm', {
        question: words.confirmResolve,
        fen: row.atRiskFen,
        currency: 'CNY',
        action: `/console/exceptions/${id}/resolve`,
        back: '/console/exceptions',
        facts: [
          [words.kind, wordOf(language, row.kind)],
          [words.order, row.orderId.toString()],
          [words.note, note],
        ],
        fields: { note },
      })
    }
    const outcome = await deps.exceptions.resolve(id, session.operator, note, new Date(deps.now()))
    if (outcome.kind !== 'resolved')
      return await render.message(request, reply, 409, words.exceptions, words.alreadyResolved)
    const fields = { exceptionId: id.toString(), orderId: row.orderId.toString(), kind: row.kind }
    request.log.info({ event: 'exception_resolved', operator: session.operator, ...fields })
    return await reply.redirect('/console/exceptions?state=resolved', 303)
  })
}
