import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

import { NOTICE_STATES, type Notices } from '../../store/notices.js'
import type { Records } from '../../store/records.js'
import { olderLink, ROWS_MAX, rowIdFrom } from './page-links.js'
import type { Render } from './render.js'
import { queryOf, visitOf } from './visit.js'
import { wordOf } from './words.js'

/** What merchants were told, and telling them again. */
export function registerNoticePages(
  scope: FastifyInstance,
  render: Render,
  deps: Readonly<{ notices: Notices; records: Records }>,
): void {
  scope.get('/notices', async (request, reply) => {
    const state = NOTICE_STATES.find((known) => known === queryOf(request, 'state')) ?? null
    const rows = await deps.notices.list({
      state,
      beforeId: rowIdFrom(queryOf(request, 'before')),
      limit: ROWS_MAX + 1,
    })
    const older = olderLink('/console/notices', { state: state ?? 'all' }, rows)
    return await render.page(request, reply, 'notices', { state: state ?? 'all', rows: rows.slice(0, ROWS_MAX), older })
  })

  scope.get('/notices/:id/redeliver', async (request, reply) => {
    const notice = await noticeOf(request)
    const order = notice === null ? null : await deps.records.findHistory({ id: notice.orderId })
    if (notice === null || order === null) return await notFound(request, reply)
    if (order.notices[0]?.id !== notice.id) return await outdated(request, reply)
    const { words, language } = visitOf(request)
    return await render.page(request, reply, 'confirm', {
      question: words.confirmRedeliver,
      amountFen: order.amountFen,
      currency: order.currency,
      action: `/console/notices/${notice.id}/redeliver`,
      back: '/console/notices',
      facts: [
        [words.order, order.id.toString()],
        [words.state, wordOf(language, notice.state)],
        ['URL', notice.url],
      ],
      fields: {},
      withNote: false,
    })
  })

  scope.post('/notices/:id/redeliver', async (request, reply) => {
    const notice = await noticeOf(request)
    if (notice === null) return await notFound(request, reply)
    const { kind } = await deps.notices.redeliver(notice.id)
    if (kind !== 'redelivered') return await outdated(request, reply)
    const fields = { noticeId: notice.id.toString(), orderId: notice.orderId.toString() }
    request.log.info({ event: 'notice_redelivered', operator: visitOf(request).session.operator, ...fields })
    return await reply.redirect('/console/notices', 303)
  })

  async function noticeOf(request: FastifyRequest) {
    const id = rowIdFrom((request.params as { id: string }).id)
    return id === null ? null : await deps.notices.find(id)
  }

  /** Refused: the merchant would be told a state that is over. */
  async function outdated(request: FastifyRequest, reply: FastifyReply) {
    const { words } = visitOf(request)
    return await render.message(request, reply, 409, words.notices, words.outdated)
  }

  async function notFound(request: FastifyRequest, reply: FastifyReply) {
    const { words } = visitOf(request)
    return await render.message(request, reply, 404, words.notices, words.noSuch)
  }
}
