import type { FastifyReply, FastifyRequest } from 'fastify'

import { RESULT_CODES, type ResultName } from '../domain/result-code.js'

export type RequestObserver = Readonly<{
  merchantAnswered(result: ResultName, seconds: number): void
  answered(method: string, route: string, status: number, seconds: number): void
}>

/** What a merchant is told without a sync, which would have its own line. A flood's refusals are counted only. */
const LOGGED: ReadonlySet<ResultName> = new Set([
  'unreadable',
  'invalid',
  'unsigned',
  'outOfWindow',
  'orderNotNamed',
  'noSuchRoute',
])

/**
 * Counts every answer: a merchant's by its code, another's by its route and status, never by its path. A merchant's
 * request that no sync came of is logged here, so that each has one line.
 */
export function createObserve(observer: RequestObserver) {
  return (request: FastifyRequest, reply: FastifyReply): void => {
    const seconds = reply.elapsedTime / 1000
    // What the router itself refuses, a path that cannot be read, is no request that was decorated.
    const result = request.result ?? null
    if (result === null) {
      const { method, route } = routeOf(request)
      observer.answered(method, route, reply.statusCode, seconds)
      return
    }
    observer.merchantAnswered(result, seconds)
    if (!LOGGED.has(result)) return
    const { code } = RESULT_CODES[result]
    request.log.info({ event: 'refused', code, result, address: request.ip, durationMs: Math.round(seconds * 1000) })
  }
}

/** The route as it was registered. A path that is none, and its method, may be anything. */
function routeOf(request: FastifyRequest): { method: string; route: string } {
  const { url } = request.routeOptions
  if (url === undefined) return { method: 'other', route: 'other' }
  // The console's files have their version in the path.
  return { method: request.method, route: url.replace(/^(\/console\/assets)\/[^/]+/, '$1') }
}
