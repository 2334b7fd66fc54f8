import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

import type { OrderId } from '../../domain/order.js'
import type { Records } from '../../store/records.js'
import type { Register } from '../../store/registration.js'
import type { SyncOrder } from '../../sync/sync-order.js'
import { sendProblem } from '../problem.js'
import { traceparentOf } from '../traceparent.js'
import { onlyFields } from './known-fields.js'
import { conflictText, newOrderOf, newOrderSchema, orderSchema, orderView, paymentIdSchema } from './order-schema.js'
import { problems } from './problems.js'
import { historySchema, historyView } from './record-schema.js'
import { nothingChanged, syncedSchema, syncedView } from './sync-view.js'

export type OrderRouteDeps = Readonly<{
  register: Register
  records: Records
  syncOrder: SyncOrder
  now: () => number
}>

const params = z.object({ paymentId: paymentIdSchema })
const tags = ['orders']

export function registerOrderRoutes(scope: FastifyInstance, deps: OrderRouteDeps): void {
  const app = scope.withTypeProvider<ZodTypeProvider>()

  app.post(
    '/orders',
    {
      schema: {
        tags,
        operationId: 'registerOrder',
        summary: 'Register one order; the same one again is no error',
        body: newOrderSchema,
        response: { 200: orderSchema, 201: orderSchema, ...problems(409, 413, 415) },
      },
    },
    async (request, reply) => {
      const registered = await deps.register(newOrderOf(request.body))
      if (registered.kind === 'conflict') {
        return sendProblem(reply, 409, 'Conflict', `${conflictText(registered)}.`)
      }
      return await reply.code(registered.kind === 'created' ? 201 : 200).send(orderView(registered.row))
    },
  )

  app.get(
    '/orders/:paymentId',
    {
      schema: {
        tags,
        operationId: 'order',
        summary: 'The order and its whole story, newest first',
        params,
        response: { 200: historySchema, ...problems(404, 414) },
      },
    },
    async (request, reply) => {
      const history = await deps.records.findHistory({ id: BigInt(request.params.paymentId) })
      return history === null ? sendProblem(reply, 404, 'Not Found', 'No such order.') : historyView(history)
    },
  )

  app.get(
    '/orders',
    {
      schema: {
        tags,
        operationId: 'orderByBusinessNo',
        summary: "The order and its whole story, by the merchant's order number",
        querystring: onlyFields({ businessNo: z.string().min(1).max(100) }, 'parameter', 'search for an order'),
        response: { 200: historySchema, ...problems(404) },
      },
    },
    async (request, reply) => {
      const { businessNo } = request.query
      // PostgreSQL takes no NUL in a parameter, and no order has one in its number.
      const history = businessNo.includes('\0') ? null : await deps.records.findHistory({ businessNo })
      return history === null ? sendProblem(reply, 404, 'Not Found', 'No such order.') : historyView(history)
    },
  )

  app.post(
    '/orders/:paymentId/sync',
    {
      schema: {
        tags,
        operationId: 'syncOrder',
        summary: 'Ask the gateway about one order and repair it; with dryRun=true, only say what would be done and why',
        params,
        querystring: onlyFields({ dryRun: z.enum(['true', 'false']).default('false') }, 'parameter', 'sync'),
        response: { 200: syncedSchema, ...problems(404, 409, 413, 414, 415, 422, 502) },
      },
    },
    async (request, reply) => {
      const dryRun = request.query.dryRun === 'true'
      const outcome = await deps.syncOrder({
        key: { id: BigInt(request.params.paymentId) as OrderId },
        traceId: request.id,
        traceparent: traceparentOf(request.headers['traceparent']),
        source: 'operator',
        actor: request.operator,
        clientIp: request.ip,
        dryRun,
      })
      switch (outcome.kind) {
        case 'synced':
        case 'mismatch':
          return syncedView(outcome, { traceId: request.id, dryRun })
        case 'not_found':
          return sendProblem(reply, 404, 'Not Found', 'No such order.')
        case 'busy':
          return sendProblem(reply, 409, 'Conflict', 'The order is being synced right now; look again in a moment.')
        case 'no_channel':
          return sendProblem(
            reply,
            422,
            'Unprocessable Content',
            'The order has no asynchronous channel: nobody to ask.',
          )
        case 'channel_not_configured':
          return sendProblem(
            reply,
            422,
            'Unprocessable Content',
            `The channel ${outcome.order.channel ?? ''} is not configured here.`,
          )
        case 'gateway_unknown':
          return sendProblem(
            reply,
            502,
            'Bad Gateway',
            `${outcome.reason}: ${outcome.message}. ${nothingChanged(outcome)}`,
          )
      }
    },
  )
}
