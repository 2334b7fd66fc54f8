import { errorCodes, type FastifyInstance } from 'fastify'

import { sendProblem } from '../problem.js'
import { NO_FIELDS } from './known-fields.js'

const WANTED = 'There is no body. Send one with Content-Type: application/json; {} is one without fields.'

/**
 * Where no field is taken, no body is one without fields, whatever type a client says that it has, as many do whatever they
 * send: Fastify refuses that. Where fields are taken it is refused: what was to be in it got lost, and a batch without its
 * filter is one over everything. JSON is parsed as it is everywhere else; text is none.
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
  scope.addHook('preValidation', (request, reply, done) => {
    const schema = request.routeOptions.schema?.body
    if (request.body === undefined && schema === NO_FIELDS) request.body = {}
    if (request.body === undefined && schema !== undefined) sendProblem(reply, 400, 'Bad Request', WANTED)
    else done()
  })
}
