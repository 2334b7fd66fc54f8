import type { FastifyInstance } from 'fastify'

import { NOTICE_STATES, type Notices } from '../../store/notices.js'
import type { Records } from '../../store/records.js'
import { olderLink, ROWS_MAX, rowIdFrom } from './page-links.js'
import type { Render } from './render.js'
import { fieldOf, queryOf, visitOf } from './visit.js'
import { wordOf } from './words.js'

/** What merchants were told, and telling them again. */
export function registerNoticePages(
  scope: FastifyInstance,
  render: Render,
  deps: Readonly<{ notices: Notices; records: Records; now: () => number }>,
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

  scope.post('/notices/:id/redeliver', async (request, reply) => {
    const { words, language, session } = visitOf(request)
    const id = rowIdFrom((request.params as { id: string }).id)
    const notice = id === null ? null : await deps.notices.find(id)
    const order = notice === null ? null : await deps.records.findHistory({ id: notice.orderId })
    if (id === null || notice === null || order === null)
      return await render.message(request, reply, 404, words.notices, words.noSuch)
    if (fieldOf(request, 'confirmed') !== 'yes') {
      return await render.page(request, reply, 'confirm', {
        question: words.sure_redeliver,
        fen: order.amountFen,
        currency: order.currency,
        action: `/console/notices/${id}/redeliver`,
        back: '/console/notices',
        facts: [
          [words.order, order.id.toString()],
          [words.state, wordOf(language, notice.state)],
          ['URL', notice.url],
        ],
        fields: {},
      })
    }
    await deps.notices.redeliver(id, new Date(deps.now()))
    const fields = { noticeId: id.toString(), orderId: notice.orderId.toString() }
    request.log.info({ event: 'notice_redelivered', operator: session.operator, ...fields })
    return await reply.redirect('/console/notices', 303)
  })
}
