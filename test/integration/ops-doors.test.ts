import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

type Route = Readonly<{ method: 'GET' | 'POST'; path: string }>

/** Every route under /ops that the built server has, from the tree that Fastify prints; parameters are 1. */
function routes(): Route[] {
  const found: Route[] = []
  const above: string[] = []
  for (const line of service.service.server.printRoutes({ commonPrefix: false }).split('\n')) {
    const [, indent = '', part = '', methods = ''] = /^(.*)[├└]── (\S+)(?: \(([A-Z, ]+)\))?/.exec(line) ?? []
    const depth = indent.length / 4
    above.splice(depth, above.length, part)
    const path = above.join('').replace(/:\w+/g, '1')
    if (!path.startsWith('/ops/')) continue
    for (const method of ['GET', 'POST'] as const)
      if (methods.split(', ').includes(method)) found.push({ method, path })
  }
  return found
}

let lastHost = 0
/** Each call from an address of its own: wrong tokens are counted by address. */
async function call({ method, path }: Route, headers: Record<string, string> = {}) {
  lastHost += 1
  const remoteAddress = `192.0.2.${lastHost}`
  return await service.service.server.inject({ method, url: path, headers, remoteAddress })
}

function expectProblem(route: Route, answer: Awaited<ReturnType<typeof call>>, status: number): void {
  expect([route, answer.statusCode]).toEqual([route, status])
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
  expect(answer.json()).toMatchObject({
    type: expect.any(String),
    title: expect.any(String),
    status,
    traceId: expect.stringMatching(/^[0-9A-Za-z]{12}$/),
  })
}

describe('every route under /ops', () => {
  it('is among those that are looked at here', () => {
    const known = routes().map(({ method, path }) => `${method} ${path}`)
    expect(known).toEqual(
      expect.arrayContaining([
        'POST /ops/orders',
        'POST /ops/orders/import',
        'GET /ops/orders',
        'GET /ops/orders/1',
        'POST /ops/orders/1/sync',
        'POST /ops/batches',
        'GET /ops/batches',
        'GET /ops/batches/1',
        'POST /ops/batches/1/cancel',
        'POST /ops/batches/1/resume',
        'GET /ops/exceptions',
        'POST /ops/exceptions/1/resolve',
        'GET /ops/notices',
        'POST /ops/notices/1/redeliver',
      ]),
    )
  })

  it('answers 401 without a token and with a wrong one, and a problem that is no more than that', async () => {
    for (const route of routes()) {
      for (const authorization of [
        undefined,
        'Bearer wrong',
        `Basic ${OPS_TOKEN}`,
        OPS_TOKEN,
        `Bearer ${OPS_TOKEN}x`,
      ]) {
        const answer = await call(route, authorization === undefined ? {} : { authorization })
        expectProblem(route, answer, 401)
        expect(answer.headers['www-authenticate']).toBe('Bearer')
      }
    }
  })

  it('answers what it does not understand or does not have with a problem', async () => {
    const headers = { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': 'application/json' }
    for (const route of routes()) {
      const answer = await call({ ...route, path: route.path.replace('/1', '/x') }, headers)
      if (answer.statusCode < 300) continue
      expectProblem(route, answer, answer.statusCode)
      expect(answer.statusCode).toBeGreaterThanOrEqual(400)
      expect(answer.statusCode).toBeLessThan(500)
    }
  })
})

describe('every list under /ops', () => {
  const lists = ['/ops/batches', '/ops/exceptions', '/ops/notices'] as const

  it.each(lists)('%s has pages by cursor, which neither repeat nor skip a row', async (path) => {
    for (let n = 0; n < 5; n++) {
      const id = await service.register({ notifyUrl: 'http://127.0.0.1:9/' })
      // A wrong amount makes an exception, a right one a notice.
      service.wechat.putTrade(id, { state: 'SUCCESS', amount: path === '/ops/exceptions' ? 1 : 1000 })
      if (path === '/ops/batches') await service.ops('POST', path, { limit: 1, dryRun: true })
      else await service.sync(id)
    }
    type Page = { items: { id: string }[]; nextCursor: string | null }
    const page = async (query: string) => (await service.ops('GET', `${path}?limit=2${query}`)).body as Page
    const seen: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const next: Page = await page(cursor === '' ? '' : `&cursor=${cursor}`)
      seen.push(...next.items.map(({ id }) => id))
      cursor = next.nextCursor
    }
    const whole = (await service.ops('GET', `${path}?limit=200`)).body as Page
    expect(seen).toEqual(whole.items.map(({ id }) => id))
    expect(seen.length).toBeGreaterThanOrEqual(5)
    expect((await service.ops('GET', `${path}?limit=0`)).status).toBe(400)
    expect((await service.ops('GET', `${path}?cursor=x`)).status).toBe(400)
  })
})
