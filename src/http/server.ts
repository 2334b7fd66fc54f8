import { STATUS_CODES } from 'node:http'

import swagger from '@fastify/swagger'
import Fastify, { type FastifyError, type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import { hasZodFastifySchemaValidationErrors, serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'

import type { Log } from '../log.js'
import { newTraceId } from '../trace-id.js'
import { type AdmissionDeps, admitMerchants, admitOperators } from './admission.js'
import { onClientError } from './client-errors.js'
import { createBoundServer } from './connections.js'
import { type ConsoleDeps, registerConsole } from './console/routes.js'
import { registerDocs } from './docs/routes.js'
import { forwardedAddresses } from './forwarded.js'
import { type HealthDeps, registerHealth } from './health.js'
import { createObserve, type RequestObserver } from './observe-requests.js'
import { DOCUMENT_OPTIONS, registerOpenapi } from './openapi.js'
import { type OpsDeps, registerOps } from './ops/routes.js'
import { pathOf } from './path.js'
import { sendProblem } from './problem.js'
import { errorReply } from './reply.js'
import { setSecurityHeaders } from './security-headers.js'
import { registerSyncPay, type SyncPayDeps } from './sync-pay.js'

export type ServerDeps = Readonly<{
  log: Log
  /** Null where this process does not serve merchants. */
  syncPay: SyncPayDeps | null
  health: HealthDeps
  /** Null where no operator's token is set: /ops is not served then. */
  ops: OpsDeps | null
  /** The operators' page; null with /ops. */
  consolePage: ConsoleDeps | null
  admission: AdmissionDeps
  observer: RequestObserver
  /** Proxies whose X-Forwarded-For is believed: addresses, networks, or proxy-addr's names for them. */
  trustedProxies: readonly string[]
}>

const HTTP_LIMITS = {
  // A client has 30 s to send its request, and an idle connection is kept for 72 s, longer than usual balancers keep theirs.
  requestTimeout: 30_000,
  keepAliveTimeout: 72_000,
  // Headers, the URL among them, come at once or not at all; Node looks for those that did not every second.
  headersTimeout: 10_000,
  maxHeaderSize: 16_384,
  connectionsCheckingInterval: 1_000,
} as const

/** The merchants' paths, however many slashes the SDK puts before them. */
const MERCHANT_PATH = /^\/+unipay(?:[/?#]|$)/
/** The router's own refusals of a path. */
const UNROUTABLE: ReadonlySet<string> = new Set(['FST_ERR_BAD_URL', 'FST_ERR_MAX_PARAM_LENGTH'])

/** The HTTP server, not listening yet. Every body, header and wait has its limit here. */
export function buildServer(deps: ServerDeps) {
  const observe = createObserve(deps.observer)
  const app = Fastify({
    loggerInstance: deps.log,
    genReqId: newTraceId,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'traceId' }),
    requestIdHeader: false,
    bodyLimit: 1024 * 1024,
    serverFactory: (answer) =>
      createBoundServer(HTTP_LIMITS, (request, response) => {
        const forwarded = request.headers['x-forwarded-for']
        // Before anybody reads it: `request.ip` is made of it, and stands in limits, records and the log.
        if (typeof forwarded === 'string') request.headers['x-forwarded-for'] = forwardedAddresses(forwarded)
        answer(request, response)
      }),
    trustProxy: deps.trustedProxies.length === 0 ? false : [...deps.trustedProxies],
    return503OnClosing: false,
    clientErrorHandler: onClientError,
    routerOptions: { ignoreDuplicateSlashes: true, maxParamLength: 200 },
    frameworkErrors: (error, request, reply) => {
      void onError(error, request, reply)
      // Such a request never gets to the hooks.
      observe(request, reply)
    },
  })
  app.decorateRequest('result', null)
  app.addHook('onRequest', setSecurityHeaders)
  app.addHook('onResponse', (request, reply, done) => {
    observe(request, reply)
    done()
  })
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  app.setErrorHandler(onError)
  app.setNotFoundHandler(onNotFound)
  void app.register(swagger, DOCUMENT_OPTIONS)
  const { syncPay, ops, consolePage } = deps
  if (syncPay !== null) {
    void app.register(
      (merchant, _options, done) => {
        admitMerchants(merchant, deps.admission)
        registerSyncPay(merchant, syncPay)
        done()
      },
      { prefix: '/unipay' },
    )
  }
  if (ops !== null) {
    void app.register(
      (operator, _options, done) => {
        admitOperators(operator, deps.admission)
        registerOps(operator, ops)
        done()
      },
      { prefix: '/ops' },
    )
  }
  if (consolePage !== null) {
    void app.register(async (page) => await registerConsole(page, consolePage), { prefix: '/console' })
  }
  void app.register((scope, _options, done) => {
    registerHealth(scope, deps.health)
    registerOpenapi(scope)
    registerDocs(scope)
    done()
  })
  return app
}

function onNotFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (MERCHANT_PATH.test(pathOf(request))) return sendEnvelope(reply, errorReply('noSuchRoute', request))
  return sendProblem(reply, 404, 'Not Found', `${request.method} ${request.url.slice(0, 200)} is not served here`)
}

/** The one error handler: what a client did wrong is told; what went wrong here is logged, and told by trace id alone. */
function onError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const status = error.statusCode ?? 500
  // Its body was found unreadable first; that there is nobody here to read it says more.
  if (request.is404 && status < 500 && !UNROUTABLE.has(error.code)) return onNotFound(request, reply)
  const isMerchant = MERCHANT_PATH.test(pathOf(request))
  // Who left before his request was here in full is answered nothing.
  if (isMerchant && request.raw.destroyed && !request.raw.complete) return reply.hijack()
  if (status >= 500) request.log.error({ event: 'request_failed', method: request.method, err: error })
  if (isMerchant) {
    if (status >= 500) return sendEnvelope(reply, errorReply('unexpected', request))
    if (UNROUTABLE.has(error.code)) return sendEnvelope(reply, errorReply('noSuchRoute', request))
    return sendEnvelope(reply, errorReply('unreadable', request, UNREADABLE[error.code] ?? '请求无法读取'))
  }
  if (status >= 500)
    return sendProblem(reply, 500, 'Internal Server Error', 'The log has the reason under this traceId.')
  if (hasZodFastifySchemaValidationErrors(error)) {
    const place = error.validationContext === 'querystring' ? 'query' : 'body'
    // What is unknown explains what is missing, so it is told first.
    const errors = error.validation
      .toSorted((one, other) => Number(isUnknown(other)) - Number(isUnknown(one)))
      .map(({ instancePath, message }) => `${instancePath.slice(1).replaceAll('/', '.') || place}: ${message ?? ''}`)
    return sendProblem(reply, 400, 'Bad Request', errors[0], errors)
  }
  return sendProblem(reply, status, STATUS_CODES[status] ?? 'Refused', refusalOf(error, request))
}

function isUnknown({ keyword }: Readonly<{ keyword: string }>): boolean {
  return keyword === 'unrecognized_keys'
}

/** What was wrong with a body that never reached its reader. */
const UNREADABLE: Readonly<Record<string, string>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'Content-Type必须是application/json',
  FST_ERR_CTP_BODY_TOO_LARGE: '请求体超过64KiB',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'Content-Length与请求体不符',
}

/** The same for operators, who are told what to send instead. */
function refusalOf({ code, message }: FastifyError, request: FastifyRequest): string {
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    const types = request.routeOptions.schema?.consumes ?? ['application/json']
    return `Send Content-Type: ${types.join(' or ')}.`
  }
  if (code === 'FST_ERR_CTP_INVALID_JSON_BODY') return 'The body is no JSON, or has a field __proto__.'
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return 'The body is larger than 1 MiB.'
  return message
}

function sendEnvelope(reply: FastifyReply, body: string): FastifyReply {
  return reply.code(200).type('application/json; charset=utf-8').send(body)
}

export type Server = ReturnType<typeof buildServer>
