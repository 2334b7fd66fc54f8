import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

import { NOTICE_STATES, type Notices } from '../../store/notices.js'
import { sendProblem } from '../problem.js'
import { idParams, listQuery, pageOf, pageSchema } from './page.js'
import { problems } from './problems.js'
import { noticeSchema, noticeView } from './record-schema.js'

export type NoticeRouteDeps = Readonly<{ notices: Notices }>

const tags = ['notices']

export function registerNoticeRoutes(scope: FastifyInstance, deps: NoticeRouteDeps): void {
  const app = scope.withTypeProvider<ZodTypeProvider>()

  app.get(
    '/notices',
    {
      schema: {
        tags,
        operationId: 'notices',
        summary: 'What merchants were told, or not yet, newest first',
        querystring: listQuery('list of notices', { state: z.enum(NOTICE_STATES).optional() }),
        response: { 200: pageSchema(noticeSchema), ...problems() },
      },
    },
    async (request, _reply) => {
      const { state, cursor, limit } = request.query
      const beforeId = cursor === undefined ? null : BigInt(cursor)
      const rows = await deps.notices.list({ state: state ?? null, beforeId, limit: limit + 1 })
      return pageOf(rows, limit, noticeView)
    },
  )

  app.post(
    '/notices/:id/redeliver',
    {
      schema: {
        tags,
        operationId: 'redeliverNotice',
        summary: "Send an order's newest notice again, now; its schedule starts anew",
        description:
          'An older one is refused: the merchant would be told a state that is over. While one of the order is being sent, that send is waited for.',
        params: idParams,
        response: { 200: noticeSchema, ...problems(404, 409, 413, 414, 415) },
      },
    },
    async (request, reply) => {
      const outcome = await deps.notices.redeliver(BigInt(request.params.id))
      if (outcome.kind === 'not_found') return sendProblem(reply, 404, 'Not Found', 'No such notice.')
      if (outcome.kind === 'outdated') {
        const detail =
          'A newer notice of the same order exists: this one tells a state that is over. Send the newer one.'
        return sendProblem(reply, 409, 'Conflict', detail)
      }
      request.log.info({
        event: 'notice_redelivered',
        operator: request.operator,
        noticeId: request.params.id,
        orderId: outcome.notice.orderId.toString(),
      })
      return noticeView(outcome.notice)
    },
  )
}
