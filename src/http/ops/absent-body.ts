import { errorCodes, type FastifyInstance } from 'fastify'

/**
 * No body is one without fields, whatever type a client says that it has, as many do whatever they send: Fastify refuses
 * that even on routes that have no use for a body. JSON is parsed as it is everywhere else; text is none.
 */
export function takeAbsentBodies(scope: FastifyInstance): void {
  const parseJson = scope.getDefaultJsonParser('error', 'error')
  scope.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, parsed) => {
    if (body === '') parsed(null, undefined)
    else void parseJson(request, body, parsed)
  })
  scope.removeContentTypeParser('text/plain')
  scope.addContentTypeParser<string>('*', { parseAs: 'string' }, (_request, body, parsed) => {
    parsed(body === '' ? null : new errorCodes.FST_ERR_CTP_INVALID_MEDIA_TYPE(), undefined)
  })
  scope.addHook('preValidation', (request, _reply, done) => {
    if (request.body === undefined) request.body = {}
    done()
  })
}
