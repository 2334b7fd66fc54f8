import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

import { EXCEPTION_KINDS } from '../../domain/decide.js'
import { EXCEPTION_STATES, type Exceptions } from '../../store/exceptions.js'
import { sendProblem } from '../problem.js'
import { onlyFields } from './known-fields.js'
import { idParams, listQuery, pageOf, pageSchema } from './page.js'
import { problems } from './problems.js'
import { exceptionSchema, exceptionView, noteSchema } from './record-schema.js'

export type ExceptionRouteDeps = Readonly<{ exceptions: Exceptions; now: () => number }>

const tags = ['exceptions']

export function registerExceptionRoutes(scope: FastifyInstance, deps: ExceptionRouteDeps): void {
  const app = scope.withTypeProvider<ZodTypeProvider>()

  app.get(
    '/exceptions',
    {
      schema: {
        tags,
        operationId: 'exceptions',
        summary: 'Findings that a human must look at, newest first',
        querystring: listQuery('list of exceptions', {
          state: z.enum(EXCEPTION_STATES).optional(),
          kind: z.enum(EXCEPTION_KINDS).optional(),
        }),
        response: { 200: pageSchema(exceptionSchema), ...problems() },
      },
    },
    async (request, _reply) => {
      const { state, kind, cursor, limit } = request.query
      const rows = await deps.exceptions.list({
        state: state ?? null,
        kind: kind ?? null,
        beforeId: cursor === undefined ? null : BigInt(cursor),
        limit: limit + 1,
      })
      return pageOf(rows, limit, exceptionView)
    },
  )

  app.post(
    '/exceptions/:id/resolve',
    {
      schema: {
        tags,
        operationId: 'resolveException',
        summary: 'Close a finding, with the reason; the same finding does not open again',
        params: idParams,
        body: onlyFields({ note: noteSchema }, 'field', 'resolution').meta({
          examples: [{ note: 'The merchant confirmed the amount; refunded by hand.' }],
        }),
        response: { 200: exceptionSchema, ...problems(404, 409, 413, 414, 415) },
      },
    },
    async (request, reply) => {
      const id = BigInt(request.params.id)
      const outcome = await deps.exceptions.resolve(id, request.operator, request.body.note, new Date(deps.now()))
      if (outcome.kind === 'not_found') return sendProblem(reply, 404, 'Not Found', 'No such exception.')
      if (outcome.kind === 'already_resolved') {
        const by = outcome.row.resolvedBy ?? 'somebody'
        return sendProblem(reply, 409, 'Conflict', `It was resolved by ${by} already; that resolution stays.`)
      }
      request.log.info({
        event: 'exception_resolved',
        operator: request.operator,
        exceptionId: request.params.id,
        orderId: outcome.row.orderId.toString(),
        kind: outcome.row.kind,
      })
      return exceptionView(outcome.row)
    },
  )
}
