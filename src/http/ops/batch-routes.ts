import type { FastifyInstance, FastifyReply } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

import { CHANNELS, ORDER_STATUSES } from '../../domain/order.js'
import { BATCH_RESULTS, BATCH_STATES, type Batch, type Batches, type BatchProgress } from '../../store/batches.js'
import { sendProblem } from '../problem.js'
import { traceparentOf } from '../traceparent.js'
import { onlyFields } from './known-fields.js'
import { idParams, listQuery, pageOf, pageSchema } from './page.js'
import { problems } from './problems.js'
import { fen, moment, zonedTime } from './view-schema.js'

export type BatchRouteDeps = Readonly<{
  batches: Batches
  /** What a batch may ask of the gateways in a second, at most. */
  batchRatePerSMax: number
}>

/** More would make the one statement that chooses them long; the next batch takes the rest. */
export const BATCH_ORDERS_MAX = 100_000

export const newBatchSchema = onlyFields(
  {
    channel: z.enum(CHANNELS).nullish(),
    status: z.enum(ORDER_STATUSES).nullish(),
    createdFrom: zonedTime.nullish(),
    createdTo: zonedTime.nullish().describe('exclusive'),
    limit: z.int().min(1).max(BATCH_ORDERS_MAX).default(10_000),
    ratePerS: z.int().min(1).max(10_000).nullish().describe("orders per second; default half of the gateways' rate"),
    dryRun: z.boolean().default(false),
  },
  'field',
  'batch',
)
  .refine(
    ({ createdFrom, createdTo }) => !createdFrom || !createdTo || Date.parse(createdFrom) < Date.parse(createdTo),
    { path: ['createdFrom'], error: 'is not before createdTo: no order was created in between' },
  )
  .meta({ examples: [{ status: 'progress', createdFrom: '2026-01-31T10:00:00+08:00', dryRun: true }] })

const resultSchema = z.object({ count: z.int(), fen })
const batchLineSchema = z
  .object({
    id: z.string(),
    state: z.enum(BATCH_STATES),
    actor: z.string().describe("the operator's name"),
    traceId: z.string(),
    dryRun: z.boolean(),
    ratePerS: z.int(),
    filter: z.record(z.string(), z.unknown()),
    total: z.int(),
    createTime: moment,
    finishTime: moment.nullable(),
    cancelledBy: z.string().nullable(),
  })
  .meta({ id: 'BatchLine' })
export const batchSchema = batchLineSchema
  .extend({
    done: z.int(),
    results: z.partialRecord(z.enum(BATCH_RESULTS), resultSchema).describe('orders and their money in fen, by result'),
  })
  .meta({ id: 'Batch' })

export function batchLineView(batch: Batch): z.output<typeof batchLineSchema> {
  return {
    id: batch.id.toString(),
    state: batch.state,
    actor: batch.actor,
    traceId: batch.traceId,
    dryRun: batch.dryRun,
    ratePerS: batch.ratePerS,
    filter: { ...batch.filter },
    total: batch.total,
    createTime: batch.createdAt.toISOString(),
    finishTime: batch.finishedAt?.toISOString() ?? null,
    cancelledBy: batch.cancelledBy,
  }
}

export function batchView({ batch, results, done }: BatchProgress): z.output<typeof batchSchema> {
  return {
    ...batchLineView(batch),
    done,
    results: Object.fromEntries(
      Object.entries(results).map(([result, { count, fen }]) => [result, { count, fen: Number(fen) }]),
    ),
  }
}

/** What a batch is made of, from what was asked for. */
export function newBatchOf(
  asked: z.output<typeof newBatchSchema>,
  by: Readonly<{ actor: string; traceId: string; traceparent: string | null }>,
  ratePerSMax: number,
): Parameters<Batches['create']>[0] {
  const { channel, status, createdFrom, createdTo, limit, dryRun } = asked
  return {
    filter: {
      channel: channel ?? null,
      status: status ?? null,
      createdFrom: createdFrom ?? null,
      createdTo: createdTo ?? null,
      limit,
    },
    dryRun,
    ratePerS: Math.min(asked.ratePerS ?? Math.max(1, Math.floor(ratePerSMax / 2)), ratePerSMax),
    ...by,
  }
}

const tags = ['batches']

export function registerBatchRoutes(scope: FastifyInstance, deps: BatchRouteDeps): void {
  const app = scope.withTypeProvider<ZodTypeProvider>()
  const unknown = (reply: FastifyReply) => sendProblem(reply, 404, 'Not Found', 'No such batch.')

  app.post(
    '/batches',
    {
      schema: {
        tags,
        operationId: 'createBatch',
        summary: 'Sync many orders, chosen now; with dryRun, only count what would be done',
        body: newBatchSchema,
        response: { 202: batchSchema, ...problems(413, 415) },
      },
    },
    async (request, reply) => {
      const traceparent = traceparentOf(request.headers['traceparent'])
      const by = { actor: request.operator, traceId: request.id, traceparent }
      const batch = await deps.batches.create(newBatchOf(request.body, by, deps.batchRatePerSMax))
      request.log.info({
        event: 'batch_created',
        operator: batch.actor,
        batchId: batch.id.toString(),
        total: batch.total,
      })
      return await reply.code(202).send(batchView({ batch, results: {}, done: 0 }))
    },
  )

  app.get(
    '/batches',
    {
      schema: {
        tags,
        operationId: 'batches',
        summary: 'What was run over many orders, newest first; how far each is, by its id',
        querystring: listQuery('list of batches', {}),
        response: { 200: pageSchema(batchLineSchema), ...problems() },
      },
    },
    async (request, _reply) => {
      const { cursor, limit } = request.query
      const rows = await deps.batches.list(cursor === undefined ? null : BigInt(cursor), limit + 1)
      return pageOf(rows, limit, batchLineView)
    },
  )

  app.get(
    '/batches/:id',
    {
      schema: {
        tags,
        operationId: 'batch',
        summary: 'Progress, and counts and money by result',
        params: idParams,
        response: { 200: batchSchema, ...problems(404, 414) },
      },
    },
    async (request, reply) => {
      const progress = await deps.batches.find(BigInt(request.params.id))
      return progress === null ? unknown(reply) : batchView(progress)
    },
  )

  app.post(
    '/batches/:id/cancel',
    {
      schema: {
        tags,
        operationId: 'cancelBatch',
        summary: 'Start nothing more; what is under way ends and counts',
        params: idParams,
        response: { 200: batchSchema, ...problems(404, 409, 413, 414, 415) },
      },
    },
    async (request, reply) => {
      const id = BigInt(request.params.id)
      const cancelled = await deps.batches.cancel(id, request.operator)
      if (cancelled !== null) {
        request.log.info({ event: 'batch_cancelled', operator: request.operator, batchId: request.params.id })
        return batchView(cancelled)
      }
      const known = await deps.batches.find(id)
      if (known === null) return unknown(reply)
      return sendProblem(reply, 409, 'Conflict', `It is not running: ${known.batch.state}.`)
    },
  )

  app.post(
    '/batches/:id/resume',
    {
      schema: {
        tags,
        operationId: 'resumeBatch',
        summary: 'Run a paused or cancelled batch on; ask a finished one’s unknown orders again',
        params: idParams,
        response: { 200: batchSchema, ...problems(404, 413, 414, 415) },
      },
    },
    async (request, reply) => {
      const resumed = await deps.batches.resume(BigInt(request.params.id))
      if (resumed === null) return unknown(reply)
      request.log.info({ event: 'batch_resumed', operator: request.operator, batchId: request.params.id })
      return batchView(resumed)
    },
  )
}
