import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

import type { Records } from '../../store/records.js'
import type { Register } from '../../store/registration.js'
import { sendProblem } from '../problem.js'
import { type OpsToken, requireOperator } from './operator.js'
import { historyView, newOrderOf, newOrderSchema, orderView, paymentIdSchema } from './order-schema.js'

export type OpsDeps = Readonly<{
  tokens: readonly OpsToken[]
  register: Register
  records: Records
  now: () => number
}>

/** The operators' routes: conventional HTTP statuses, errors as problem+json, every caller known by name. */
export function registerOps(scope: FastifyInstance, deps: OpsDeps): void {
  requireOperator(scope, deps.tokens)
  const app = scope.withTypeProvider<ZodTypeProvider>()

  app.post('/orders', { schema: { body: newOrderSchema } }, async (request, reply) => {
    const registered = await deps.register(newOrderOf(request.body), new Date(deps.now()))
    if (registered.kind === 'conflict') {
      return sendProblem(
        reply,
        409,
        'Conflict',
        `A different order has this id or number: ${registered.field} differs.`,
      )
    }
    return reply.code(registered.kind === 'created' ? 201 : 200).send(orderView(registered.row))
  })

  app.get(
    '/orders/:paymentId',
    { schema: { params: z.object({ paymentId: paymentIdSchema }) } },
    async (request, reply) => {
      const history = await deps.records.findHistory({ id: BigInt(request.params.paymentId) })
      return history === null ? sendProblem(reply, 404, 'Not Found', 'No such order.') : historyView(history)
    },
  )

  app.get(
    '/orders',
    { schema: { querystring: z.object({ businessNo: z.string().min(1).max(100) }) } },
    async (request, reply) => {
      const history = await deps.records.findHistory({ businessNo: request.query.businessNo })
      return history === null ? sendProblem(reply, 404, 'Not Found', 'No such order.') : historyView(history)
    },
  )
}
