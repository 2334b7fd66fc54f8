import type { FastifyInstance } from 'fastify'

export type HealthDeps = Readonly<{
  /** Why this process should get no requests now; null where it should. */
  notReadyReason: () => Promise<string | null>
  metrics: Readonly<{ contentType: string; text: () => Promise<string> }>
}>

/** `/healthz`: the process answers. `/readyz`: it can do its work. `/metrics`: for Prometheus. */
export function registerHealth(app: FastifyInstance, deps: HealthDeps): void {
  app.get('/healthz', async () => ({ status: 'ok' }))
  app.get('/readyz', async (_request, reply) => {
    const reason = await deps.notReadyReason()
    return reason === null ? { status: 'ready' } : reply.code(503).send({ status: 'not_ready', reason })
  })
  app.get('/metrics', async (_request, reply) => reply.type(deps.metrics.contentType).send(await deps.metrics.text()))
}
