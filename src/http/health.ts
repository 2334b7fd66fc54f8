import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

export type HealthDeps = Readonly<{
  /** Why this process should get no requests now; null where it should. */
  notReadyReason: () => Promise<string | null>
  metrics: Readonly<{ contentType: string; text: () => Promise<string> }>
}>

const tags = ['service']

/** `/healthz`: the process answers. `/readyz`: it can do its work. `/metrics`: for Prometheus. */
export function registerHealth(scope: FastifyInstance, deps: HealthDeps): void {
  const app = scope.withTypeProvider<ZodTypeProvider>()

  app.get(
    '/healthz',
    {
      schema: {
        operationId: 'healthz',
        tags,
        summary: 'The process answers',
        response: { 200: z.object({ status: z.literal('ok') }) },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'readyz',
        tags,
        summary: 'It can do its work: the database is reachable and migrated, and it is not draining',
        response: {
          200: z.object({ status: z.literal('ready') }),
          503: z.object({ status: z.literal('not_ready'), reason: z.string() }),
        },
      },
    },
    async (_request, reply) => {
      const reason = await deps.notReadyReason()
      return reason === null ? { status: 'ready' as const } : reply.code(503).send({ status: 'not_ready', reason })
    },
  )

  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        tags,
        summary: 'Metrics, for Prometheus',
        response: { 200: { description: 'OK', content: { 'text/plain': { schema: z.string() } } } },
      },
    },
    async (_request, reply) => await reply.type(deps.metrics.contentType).send(await deps.metrics.text()),
  )
}
