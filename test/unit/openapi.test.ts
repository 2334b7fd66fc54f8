import { readFileSync, writeFileSync } from 'node:fs'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { compose, type Service } from '../../src/compose.js'
import { loadConfig } from '../../src/config.js'
import { RESULT_CODES } from '../../src/domain/result-code.js'
import { isSignedBy, signText } from '../../src/domain/sign.js'
import { readBody } from '../../src/http/body.js'
import { isVerified } from '../../src/http/verify-sign.js'

type Media = { schema?: Record<string, unknown>; example?: unknown; examples?: Record<string, { value: unknown }> }
type Operation = {
  operationId: string
  summary: string
  description?: string
  tags: string[]
  security?: unknown
  requestBody?: { required: boolean; content: Record<string, Media> }
  responses: Record<string, { description: string; content?: Record<string, Media> }>
}
type Document = {
  openapi: string
  webhooks: Record<string, Record<string, Operation>>
  paths: Record<string, Record<string, Operation>>
  components: { schemas: object }
}
type Route = Readonly<{ method: string; url: string }>

const CHECKED_IN = new URL('../../docs/openapi.json', import.meta.url)
const SECRET = '123456'
/** What is served and is no interface: pages for people, and what they load. */
const NOT_AN_API = [/^\/docs(\/|$)/, /^\/console(\/|$)/]

const services: Service[] = []
afterAll(async () => await Promise.all(services.map(async (service) => await service.stop())))

/** The service as it is composed for work, with every route that its server comes to know. No request reaches a database. */
async function served(environment: Record<string, string> = {}) {
  const service = await compose(
    loadConfig({
      DATABASE_URL: 'postgresql://nobody@127.0.0.1:1/none',
      MIGRATE_ON_START: 'false',
      SIGN_SECRETS: SECRET,
      OPS_TOKENS: 'tester:test-token-of-ops',
      LOG_LEVEL: 'silent',
      ...environment,
    }),
  )
  services.push(service)
  const routes: Route[] = []
  service.server.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) routes.push({ method: one.toLowerCase(), url })
  })
  const { body, headers, statusCode } = await service.server.inject('/openapi.json')
  expect(statusCode).toBe(200)
  expect(headers['content-type']).toBe('application/json; charset=utf-8')
  const document = JSON.parse(body) as Document
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, path, operation })),
  )
  return { service, text: body, document, operations, routes }
}

let whole: Awaited<ReturnType<typeof served>>
beforeAll(async () => {
  whole = await served()
})

it('docs/openapi.json is byte for byte what the service serves (UPDATE_DOCS=1 writes it)', () => {
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(CHECKED_IN, whole.text)
  else expect(whole.text).toBe(readFileSync(CHECKED_IN, 'utf8'))
})

it('every route that the server knows is in the document, or a page for people', () => {
  const known = whole.routes
    // Fastify answers HEAD wherever it answers GET.
    .filter(({ method }) => method !== 'head')
    .filter(({ url }) => !NOT_AN_API.some((page) => page.test(url)))
    .map(({ method, url }) => `${method} ${url.replaceAll(/:(\w+)/g, '{$1}')}`)
  expect(known).toContain('post /unipay/syncPay')
  expect(whole.operations.map(({ name }) => name).sort()).toEqual([...new Set(known)].sort())
})

it('only what is served is in the document', async () => {
  const { operations, document } = await served({ OPS_TOKENS: '' })
  expect(operations.map(({ name }) => name).sort()).toEqual([
    'get /healthz',
    'get /metrics',
    'get /openapi.json',
    'get /readyz',
    'post /unipay/syncPay',
  ])
  expect(document.components.schemas).toEqual({})
  const worker = await served({ ROLES: 'sweeper' })
  expect(worker.operations.map(({ name }) => name)).not.toContain('post /unipay/syncPay')
})

describe('the document', () => {
  it('is OpenAPI 3.1, and every operation has an id of its own, a tag and words', () => {
    expect(whole.document.openapi).toMatch(/^3\.1\./)
    const ids = whole.operations.map(({ operation }) => operation.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    for (const { name, operation } of whole.operations) {
      expect([name, operation.tags.length, operation.summary.length > 5]).toEqual([name, 1, true])
      for (const [status, { description }] of Object.entries(operation.responses))
        expect([name, status, description.length > 0 && description !== 'Default Response']).toEqual([
          name,
          status,
          true,
        ])
    }
  })

  it('asks for a body only where one is needed', () => {
    const bodies = whole.operations.filter(({ operation }) => operation.requestBody !== undefined)
    expect(Object.fromEntries(bodies.map(({ name, operation }) => [name, operation.requestBody?.required]))).toEqual({
      'post /unipay/syncPay': true,
      'post /ops/orders': true,
      'post /ops/orders/import': true,
      'post /ops/batches': true,
      'post /ops/exceptions/{id}/resolve': true,
    })
  })

  it('says of every JSON body under /ops that it has no other fields, and of no answer, since answers may grow', () => {
    for (const { name, path, operation } of whole.operations.filter(({ path }) => path.startsWith('/ops/'))) {
      const { schema } = operation.requestBody?.content['application/json'] ?? {}
      if (schema !== undefined) expect([name, path, schema['additionalProperties']]).toEqual([name, path, false])
      expect(JSON.stringify(operation.responses)).not.toContain('"additionalProperties":false')
    }
    expect(JSON.stringify(whole.document.components)).not.toContain('"additionalProperties":false')
  })

  it('asks for an operator’s token under /ops and nowhere else', () => {
    for (const { name, path, operation } of whole.operations)
      expect([name, operation.security]).toEqual([name, path.startsWith('/ops/') ? [{ operator: [] }] : undefined])
  })

  it('tells of problem+json for every error under /ops', () => {
    for (const { name, path, operation } of whole.operations.filter(({ path }) => path.startsWith('/ops/')))
      for (const [status, { content }] of Object.entries(operation.responses))
        expect([name, path, status, Object.keys(content ?? {})]).toEqual([
          name,
          path,
          status,
          [Number(status) < 300 ? 'application/json' : 'application/problem+json'],
        ])
  })
})

describe('POST /unipay/syncPay in the document', () => {
  const syncPay = (): Operation => {
    const operation = whole.document.paths['/unipay/syncPay']?.['post']
    if (operation === undefined) throw new Error('it is not there')
    return operation
  }
  const examplesOf = (media: Media | undefined) => Object.values(media?.examples ?? {}).map(({ value }) => value)

  it('has each code of the wire with its message, in the order in which they are checked', () => {
    const rows = [...(syncPay().description ?? '').matchAll(/^\| (\d+) \| (\S+) \| \S.*\|$/gm)]
    expect(rows.map(([, code, message]) => ({ code: Number(code), message }))).toEqual(Object.values(RESULT_CODES))
  })

  it('has examples of requests that verify, the contract’s among them', () => {
    const examples = examplesOf(syncPay().requestBody?.content['application/json'])
    expect(examples).toContainEqual({
      businessNo: 'P0001',
      reqTime: 1_710_465_239,
      sign: '836519d17bd157ebd4f63c83929b92be',
    })
    for (const example of examples) {
      const read = readBody(Buffer.from(JSON.stringify(example)))
      if (read.kind !== 'read') throw new Error(read.detail)
      expect(isVerified(read.body, { secrets: [SECRET], type: 'MD5', required: true })).toBe(true)
    }
    // As a number its id could not even stand in a document: readers would round it.
    expect(JSON.stringify(examples)).toContain('"1753370980523384832"')
  })

  it('has examples of answers, and those of success are signed', () => {
    const examples = examplesOf(syncPay().responses['200']?.content?.['application/json']) as {
      code: number
      data: { gatewayStatus: string; repair: boolean; repairOrderNo: string | null } | null
      sign?: string
    }[]
    expect(examples.length).toBeGreaterThanOrEqual(3)
    for (const { code, data, sign } of examples) {
      expect(data === null).toBe(code !== 0)
      if (data === null) continue
      const { gatewayStatus, repair, repairOrderNo } = data
      expect(isSignedBy(signText({ gatewayStatus, repair, repairOrderNo }), [SECRET], 'MD5', sign ?? '')).toBe(true)
    }
  })

  it('is documentation alone: what it calls impossible is answered by the reader’s own code, not by Fastify', async () => {
    const { body, statusCode } = await whole.service.server.inject({
      method: 'POST',
      url: '/unipay/syncPay',
      headers: { 'content-type': 'application/json' },
      payload: '{"businessNo":"P0001","reqTime":true}',
    })
    expect([statusCode, JSON.parse(body)]).toMatchObject([200, { code: 10005, data: null }])
  })
})

describe('the notice in the document', () => {
  it('has an example that is signed, every field of it explained', () => {
    const media = whole.document.webhooks['notice']?.['post']?.requestBody?.content['application/json']
    const { sign, ...fields } = (media?.example ?? {}) as Parameters<typeof signText>[0] & { sign: string }
    expect(Object.keys(fields)).toContain('payChannels')
    expect(isSignedBy(signText(fields), [SECRET], 'MD5', sign)).toBe(true)
    expect(Object.keys(fields)).toEqual(
      Object.keys(media?.schema?.['properties'] ?? {}).filter((name) => name !== 'sign'),
    )
  })

  it('tells the text that is signed as it is, list and all', () => {
    const { description, requestBody } = whole.document.webhooks['notice']?.['post'] ?? {}
    const told = /…(&\S+&)…/.exec(description ?? '')?.[1] ?? 'nothing'
    const text = signText(requestBody?.content['application/json']?.example as Parameters<typeof signText>[0])
    expect(text).toContain(told)
  })
})
