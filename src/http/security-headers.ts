import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'

import { pathOf } from './path.js'

/** Pages for people: nothing but what this service serves is loaded, run, framed or posted to. */
const PAGE = /^\/+(?:console|docs)(?:[/?#]|$)/
const PAGE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

const PAGE_HEADERS = {
  'content-security-policy': PAGE_POLICY,
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
}

/** What browsers are told about every answer. A route that needs more may say so itself. */
export function setSecurityHeaders(request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
  void reply.header('x-content-type-options', 'nosniff')
  if (PAGE.test(pathOf(request))) void reply.headers(PAGE_HEADERS)
  done()
}
