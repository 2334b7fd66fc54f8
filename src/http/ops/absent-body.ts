import type { FastifyInstance } from 'fastify'

/**
 * No body is one without fields, also where a client says that it is JSON, as many do whatever they send: Fastify refuses
 * that even on routes that have no use for a body. JSON is parsed as it is everywhere else.
 */
export function takeAbsentBodies(scope: FastifyInstance): void {
  const parseJson = scope.getDefaultJsonParser('error', 'error')
  scope.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, parsed) => {
    if (body === '') parsed(null, undefined)
    else void parseJson(request, body, parsed)
  })
  scope.addHook('preValidation', (request, _reply, done) => {
    if (request.body === undefined) request.body = {}
    done()
  })
}
