import { request } from 'node:http'

import { afterAll, beforeAll, expect, it } from 'vitest'

import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

type Content = Record<string, { example?: unknown; examples?: Record<string, { value: unknown }> }>
type Document = {
  paths: Record<
    string,
    Record<
      string,
      { requestBody?: { content: Content }; responses: Record<string, { content?: Record<string, unknown> }> }
    >
  >
}
type Variation = Readonly<{ id?: string; query?: string; type?: string; body?: string; token?: string }>

let service: TestService
let document: Document
beforeAll(async () => {
  service = await startService()
  document = (await (await fetch(`${service.url}/openapi.json`)).json()) as Document
})
afterAll(async () => await service.stop())

const json = 'application/json'
/** One thing is odd in each; the rest is as the document says. */
const VARIATIONS: readonly Variation[] = [
  {},
  { token: '' },
  { token: 'wrong' },
  ...['0', '999999', 'abc', '-1', '1.5', '9223372036854775808', '%00', '%', 'x'.repeat(300)].map((id) => ({ id })),
  ...['limit=0', 'limit=abc', 'cursor=-1', 'cursor=1', 'state=none', 'kind=none', 'dryRun=maybe', 'dryRun=true'].map(
    (query) => ({ query }),
  ),
  ...['businessNo=', 'businessNo=%00', 'businessNo=1&businessNo=2', '__proto__=1', '%'].map((query) => ({ query })),
  ...['', '{', '{}', '[]', 'null', '"', '{"__proto__":1}', '\0', ' '.repeat(1024 * 1024 + 1)].map((body) => ({
    type: json,
    body,
  })),
  ...['', 'text/plain', 'application/xml', 'application/json; charset=gbk', 'nonsense'].map((type) => ({ type })),
  { type: 'application/x-ndjson', body: '{\n\0\n' },
  { type: 'text/csv', body: 'paymentId\n"' },
]

type Question = Readonly<{
  method: string
  path: string
  localAddress: string
  headers: Record<string, string>
  body: string
}>

async function ask({ body, headers, ...rest }: Question): Promise<{ status: number; type: string }> {
  const { hostname, port } = new URL(service.url)
  return await new Promise((resolve, reject) => {
    const asking = request({
      hostname,
      port,
      ...rest,
      headers: { ...headers, 'content-length': Buffer.byteLength(body) },
    })
    asking.once('error', reject)
    asking.once('response', (answer) => {
      answer.resume()
      const type = answer.headers['content-type']?.split(';')[0] ?? ''
      answer.once('end', () => resolve({ status: answer.statusCode ?? 0, type }))
    })
    asking.end(body)
  })
}

it('whatever is asked, the answer has a status and a type that the document tells of', async () => {
  const untold: string[] = []
  const seen = new Set<number>()
  let asked = 0
  for (const [route, methods] of Object.entries(document.paths)) {
    for (const [method, { requestBody, responses }] of Object.entries(methods)) {
      const [example] = Object.entries(requestBody?.content ?? {}).map(([type, { example: only, examples }]) => {
        const value = only ?? Object.values(examples ?? {})[0]?.value
        return { type, body: typeof value === 'string' ? value : JSON.stringify(value) }
      })
      for (const variation of VARIATIONS) {
        const { id = '1', query = '', token = OPS_TOKEN, type = example?.type, body = example?.body } = variation
        asked += 1
        const answer = await ask({
          method,
          path: `${route.replaceAll(/\{\w+\}/g, id)}?${query}`,
          // Of another address each time: a few wrong tokens would close the door to all.
          localAddress: `127.1.${asked >> 8}.${asked & 255}`,
          headers: {
            ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
            ...(type === undefined || type === '' ? {} : { 'content-type': type }),
          },
          body: method === 'get' ? '' : (body ?? ''),
        })
        seen.add(answer.status)
        const told = Object.keys(responses[answer.status]?.content ?? {})
        if (answer.status === 500 || !told.includes(answer.type))
          untold.push(`${method} ${route} ${JSON.stringify(variation).slice(0, 60)}: ${answer.status} ${answer.type}`)
      }
    }
  }
  expect(untold).toEqual([])
  expect([...seen]).toEqual(expect.arrayContaining([200, 201, 202, 400, 401, 404, 409, 413, 414, 415]))
})
