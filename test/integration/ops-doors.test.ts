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
async function call({ method, path }: Route, headers: Record<string, string> = {}, payload = '') {
  lastHost += 1
  const remoteAddress = `192.0.2.${lastHost}`
  return await service.service.server.inject({ method, url: path, headers, remoteAddress, payload })
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

describe('what a call under /ops does not know', () => {
  const authorization = `Bearer ${OPS_TOKEN}`

  /** Bodies are looked at before parameters; these have what is required of them. */
  const whole: Readonly<Record<string, object>> = {
    '/ops/orders': { paymentId: '1', businessNo: '1', channel: null, amount: 1 },
    '/ops/batches': {},
    '/ops/exceptions/1/resolve': { note: 'seen' },
  }

  it('is refused of every route as a parameter, and nothing is done', async () => {
    const { body: batches } = await service.ops('GET', '/ops/batches')
    const headers = { authorization, 'content-type': 'application/json' }
    for (const route of routes()) {
      for (const name of ['dry_run', '__proto__']) {
        const hasBody = route.method === 'POST' && whole[route.path] !== undefined
        const asked = { ...route, path: `${route.path}?${name}=true` }
        const answer = hasBody
          ? await call(asked, headers, JSON.stringify(whole[route.path]))
          : await call(asked, { authorization })
        expectProblem(route, answer, 400)
        expect(answer.json()).toMatchObject({
          detail: expect.stringContaining(`query: has a parameter ${name}, which no`),
        })
      }
    }
    expect((await service.ops('GET', '/ops/batches')).body).toEqual(batches)
  })

  it('is refused of every route as a field of its body, and nothing is done', async () => {
    const { body: batches } = await service.ops('GET', '/ops/batches')
    const headers = { authorization, 'content-type': 'application/json' }
    for (const route of routes()) {
      // An import is read line by line.
      if (route.method === 'GET' || route.path.endsWith('/import')) continue
      const answer = await call(route, headers, '{"dry_run":true}')
      expectProblem(route, answer, 400)
      expect(answer.json()).toMatchObject({ detail: expect.stringMatching(/^body: has a field dry_run, which no/) })
    }
    expect((await service.ops('GET', '/ops/batches')).body).toEqual(batches)
  })

  it.each([
    ['/ops/exceptions?stat=open', 'stat, which no list of exceptions has'],
    ['/ops/exceptions?stat=', 'stat, which no list of exceptions has'],
    ['/ops/exceptions?KIND=late_payment&state=open', 'KIND, which no list of exceptions has (kind?)'],
    ['/ops/notices?State=dead', 'State, which no list of notices has (state?)'],
    ['/ops/batches?state=running', 'state, which no list of batches has'],
    ['/ops/orders?businessNo=1&business_no=2', 'business_no, which no search for an order has (businessNo?)'],
    ['/ops/orders/1?businessNo=2', 'businessNo, which no such call has'],
  ])('is named, with what was probably meant: %s', async (path, told) => {
    const detail = `query: has a parameter ${told}`
    expect(await service.ops('GET', path)).toMatchObject({ status: 400, body: { title: 'Bad Request', detail } })
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
