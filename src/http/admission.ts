import type { FastifyInstance } from 'fastify'

import { sendProblem } from './problem.js'
import { createRateLimit } from './rate-limit.js'
import { errorReply } from './reply.js'
import type { Overload } from './shed-load.js'

/** What an address may do at once after a pause: this many seconds' worth of its rate. */
const BURST_S = 2
/** When to come back to a process that had too much to do: it drains within its deadlines or is replaced. Seconds. */
const OVERLOAD_RETRY_S = 2

export type Refusal = 'rate' | Overload

export type AdmissionDeps = Readonly<{
  /** What one address may ask of /unipay in a second; 0: anything. */
  merchantRatePerS: number
  /** What there is too much of now; null where there is room. */
  overload: () => Overload | null
  onRefused: (refusal: Refusal) => void
  monotonicMs: () => number
}>

/**
 * Refuses merchants' requests before their bodies are read. HTTP still says 200, since the SDK loses the message of
 * anything else: code 20000 tells that the gateway was not asked and nothing changed, Retry-After when to try again.
 */
export function admitMerchants(scope: FastifyInstance, deps: AdmissionDeps): void {
  const { merchantRatePerS: ratePerS, overload, onRefused, monotonicMs } = deps
  const limit = ratePerS === 0 ? null : createRateLimit({ ratePerS, burst: ratePerS * BURST_S, monotonicMs })
  scope.addHook('onRequest', (request, reply, done) => {
    const overloaded = overload()
    const waitS = overloaded === null ? (limit?.take(request.ip) ?? 0) : OVERLOAD_RETRY_S
    if (waitS === 0) return done()
    onRefused(overloaded ?? 'rate')
    void reply.header('retry-after', waitS).type('application/json; charset=utf-8')
    void reply.send(errorReply(overloaded === null ? 'tooMany' : 'overloaded', request))
    return undefined
  })
}

/** The same for operators, in HTTP's own words. Their requests are few; it is imports and floods that are put off. */
export function admitOperators(scope: FastifyInstance, { overload, onRefused }: AdmissionDeps): void {
  scope.addHook('onRequest', async (_request, reply) => {
    const overloaded = overload()
    if (overloaded === null) return undefined
    onRefused(overloaded)
    void reply.header('retry-after', OVERLOAD_RETRY_S)
    return sendProblem(
      reply,
      503,
      'Service Unavailable',
      `Too much work at the moment; try again in ${OVERLOAD_RETRY_S} s.`,
    )
  })
}
