import { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'

import type { FastifyInstance, FastifyRequest } from 'fastify'

import type { BatchProgress } from '../../store/batches.js'
import { eventOf, STREAM_OVER } from './event-stream.js'
import type { Render } from './render.js'

/** Between two looks at a batch that is watched. Milliseconds. */
const LOOK_MS = 500
/** A stream ends after this and the page opens another, so that none outlives its session by much. */
const STREAM_MS_MAX = 60_000
const STREAMS_MAX = 50

/** Live progress, as server-sent events: the part of the page that changes, until the batch stands still. */
export function registerBatchStream(
  scope: FastifyInstance,
  render: Render,
  progressOf: (request: FastifyRequest) => Promise<Pick<BatchProgress, 'batch'> | null>,
): void {
  const streams = new Set<AbortController>()
  // A server that leaves waits for nobody who only watches.
  scope.addHook('preClose', async () => {
    for (const stream of streams) stream.abort()
  })

  async function* events(request: FastifyRequest, stream: AbortController) {
    const untilMs = performance.now() + STREAM_MS_MAX
    while (!stream.signal.aborted && performance.now() < untilMs) {
      const progress = await progressOf(request)
      if (progress !== null) yield eventOf(render.html(request, 'progress', progress))
      if (progress?.batch.state !== 'running') {
        yield STREAM_OVER
        return
      }
      // Aborted: whoever watched is gone, or the server leaves.
      await pause(LOOK_MS, undefined, { signal: stream.signal }).catch(() => undefined)
    }
  }

  scope.get('/batches/:id/events', async (request, reply) => {
    if (streams.size >= STREAMS_MAX) return await reply.code(503).header('retry-after', 5).send()
    const stream = new AbortController()
    streams.add(stream)
    reply.raw.once('close', () => {
      stream.abort()
      streams.delete(stream)
    })
    return await reply.type('text/event-stream; charset=utf-8').send(Readable.from(events(request, stream)))
  })
}
