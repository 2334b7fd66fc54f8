import { readFileSync } from 'node:fs'
import { STATUS_CODES } from 'node:http'

import type { FastifyDynamicSwaggerOptions, SwaggerTransform, SwaggerTransformObject } from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import { jsonSchemaTransform, jsonSchemaTransformObject, type ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

import { ROOT } from '../root.js'
import { NOTICE_DOCUMENT } from './notice-document.js'
import { NO_FIELDS } from './ops/known-fields.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the document says of a route beside, or in place of, what its schema checks. JSON Schema. */
    documentation?: Readonly<Record<string, unknown>>
  }
}

/** What is served for browsers; it is no interface, and the document leaves it out. */
export const PAGES = /^\/(?:console|docs)(?:\/|$)/

const { version } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as {
  version: string
}

const ABOUT = `Settles payment orders whose true state became unclear: asks WeChat Pay or Alipay, believes only answers whose
signature verifies, and repairs the order in PostgreSQL. Only verified evidence changes an order: a time-out, an unsigned
error, an unknown state means "we do not know", nothing changes, and the answer says so.

Ids are strings, since a JSON number of 19 digits loses some of them in most languages. Money is in fen. Times are RFC 3339.
Errors under /ops are RFC 9457 problems; every answer carries a traceId, which leads to the log and the records. A field
or parameter that a call under /ops does not have is refused (400) and named; under /unipay unknown fields are ignored.`

const TAGS = [
  { name: 'merchants', description: 'What merchants call, and are told.' },
  { name: 'orders', description: 'One order: registered, looked at, synced.' },
  { name: 'batches', description: 'Many orders at once, durably and within the rate of the gateways.' },
  { name: 'exceptions', description: 'What only a human may decide.' },
  { name: 'notices', description: 'What merchants are told after a repair.' },
  { name: 'service', description: 'The process itself. Open to whoever reaches the port.' },
]

/** `GET /openapi.json`: the document, byte for byte as docs/openapi.json has it where everything is served. */
export function registerOpenapi(scope: FastifyInstance): void {
  const documentText = once(() => `${JSON.stringify(scope.swagger(), null, 2)}\n`)
  scope.withTypeProvider<ZodTypeProvider>().get(
    '/openapi.json',
    {
      schema: {
        operationId: 'openapi',
        tags: ['service'],
        summary: 'This document',
        response: { 200: z.looseObject({ openapi: z.string() }) },
      },
    },
    async (_request, reply) => await reply.type('application/json; charset=utf-8').send(documentText() as never),
  )
}

/** What `make` made the first time it was called. */
export function once<Made>(make: () => Made): () => Made {
  let made: { value: Made } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

type Responses = Record<string, Record<string, unknown>>

const describeRoute: SwaggerTransform = (given) => {
  if (PAGES.test(given.url)) return { schema: { hide: true }, url: given.url }
  const asked = given.schema?.body === NO_FIELDS ? { ...given, schema: { ...given.schema, body: undefined } } : given
  const { schema, url } = jsonSchemaTransform(asked)
  const described = {
    ...schema,
    ...given.route.config?.documentation,
    ...(url.startsWith('/ops/') ? { security: [{ operator: [] }] } : {}),
  }
  return { url, schema: { ...described, response: whole((described.response ?? {}) as Responses) } }
}

/** Every answer with words of its own, so that the document never says "Default Response". */
function whole(responses: Responses): Responses {
  const entries = Object.entries(responses).map(([status, response]) => {
    if ('content' in response) return [status, response] as const
    const description = response['description'] ?? STATUS_CODES[status]
    return [status, { description, content: { 'application/json': { schema: response } } }] as const
  })
  return Object.fromEntries(entries)
}

/** The schemas that have names are kept where they are spoken of; those of routes that are not served here go. */
const finishDocument: SwaggerTransformObject = (given) => {
  const document = JSON.parse(JSON.stringify(jsonSchemaTransformObject(given)), withoutNoise) as {
    paths: Record<string, unknown>
    components: { schemas: Record<string, unknown> }
  }
  const { schemas } = document.components
  const used = new Set<string>()
  const collect = (part: unknown): void => {
    for (const [, name = ''] of JSON.stringify(part).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (used.has(name)) continue
      used.add(name)
      collect(schemas[name])
    }
  }
  collect(document.paths)
  const kept = Object.fromEntries([...used].sort().map((name) => [name, schemas[name]]))
  return { ...document, components: { ...document.components, schemas: kept } } as ReturnType<SwaggerTransformObject>
}

/** What zod writes and nobody needs: bounds of doubles, `date-time` once more as a pattern, and that answers never grow. */
function withoutNoise(key: string, value: unknown): unknown {
  if (key === 'minimum' && value === Number.MIN_SAFE_INTEGER) return undefined
  if (key === 'maximum' && value === Number.MAX_SAFE_INTEGER) return undefined
  if (key === 'responses' || key === 'schemas') return JSON.parse(JSON.stringify(value), withoutClosing) as unknown
  if (typeof value === 'object' && value !== null && 'format' in value && value.format === 'date-time') {
    return { ...value, pattern: undefined }
  }
  return value
}

function withoutClosing(key: string, value: unknown): unknown {
  return key === 'additionalProperties' && value === false ? undefined : value
}

/**
 * For @fastify/swagger, which collects every route that is registered after it. The document is made of the schemas that
 * the routes are checked with, when it is first asked for.
 */
export const DOCUMENT_OPTIONS: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: { title: 'unipay-sync', version, description: ABOUT, license: { name: 'MIT', identifier: 'MIT' } },
    tags: TAGS,
    webhooks: { notice: NOTICE_DOCUMENT } as never,
    components: {
      securitySchemes: {
        operator: { type: 'http', scheme: 'bearer', description: 'A token of OPS_TOKENS. It names its operator.' },
      },
    },
  },
  convertConstToEnum: false,
  transform: describeRoute,
  transformObject: finishDocument,
}
