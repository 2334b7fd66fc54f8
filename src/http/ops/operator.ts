import { createHash, timingSafeEqual } from 'node:crypto'

import type { FastifyInstance } from 'fastify'

import { sendProblem } from '../problem.js'
import { createFailures } from './failures.js'

export type OpsToken = Readonly<{ name: string; token: string }>

declare module 'fastify' {
  interface FastifyRequest {
    /** The operator's name, from the token; empty outside /ops. */
    operator: string
  }
}

/**
 * Lets only operators in, and knows them by name. Every token is compared, in constant time, whichever matches. After a
 * few wrong ones an address is not listened to for some seconds, right token or not, so that guessing learns nothing.
 */
export function requireOperator(app: FastifyInstance, tokens: readonly OpsToken[]): void {
  const known = tokens.map(({ name, token }) => ({ name, digest: digestOf(token) }))
  const failures = createFailures(() => performance.now())
  app.decorateRequest('operator', '')
  app.addHook('onRequest', async (request, reply) => {
    const waitS = failures.waitS(request.ip)
    if (waitS > 0) {
      void reply.header('retry-after', waitS)
      return sendProblem(reply, 429, 'Too Many Requests', `Too many wrong tokens from here; try again in ${waitS} s.`)
    }
    const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
    const digest = digestOf(given ?? '')
    let operator = ''
    for (const token of known) if (timingSafeEqual(token.digest, digest)) operator = token.name
    if (given === undefined || operator === '') {
      failures.failed(request.ip)
      request.log.warn({ event: 'ops_refused', address: request.ip, tokenGiven: given !== undefined })
      void reply.header('www-authenticate', 'Bearer')
      return sendProblem(reply, 401, 'Unauthorized', 'Send Authorization: Bearer TOKEN with a token of OPS_TOKENS.')
    }
    request.operator = operator
    return undefined
  })
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest()
}
