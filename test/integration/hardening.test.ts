import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

import { createBoundServer } from '../../src/http/connections.js'
import { type Envelope, OPS_TOKEN, signedBody, startService, type TestService } from '../support/service.js'

let service: TestService

beforeAll(async () => {
  service = await startService({ environment: { TRUST_PROXY: '127.0.0.1', DATABASE_POOL_MAX: '2' } })
})
afterAll(async () => {
  await service.stop()
})

/** Everything that comes back for these bytes, until the connection ends or `isEnough`. */
async function raw(url: string, bytes: string | Buffer, isEnough?: (text: string) => boolean): Promise<string> {
  const { hostname, port } = new URL(url)
  return await new Promise((resolve) => {
    const socket: Socket = connect(Number(port), hostname)
    let text = ''
    const end = () => {
      socket.destroy()
      resolve(text)
    }
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (isEnough?.(text) === true) end()
    })
    socket.on('error', end).on('close', end)
    socket.write(bytes)
  })
}

/** The same for somebody who leaves once his bytes have been read, which the answer to another request shows. */
async function leaving(url: string, bytes: string, leave: (socket: Socket) => void): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  await new Promise<void>((resolve) => socket.write(bytes, () => resolve()))
  await (await fetch(`${url}/healthz`)).text()
  leave(socket)
  await closed
  return text
}

async function call(from: TestService, headers: Record<string, string> = {}) {
  const response = await fetch(`${from.url}/unipay/syncPay`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: signedBody({ businessNo: 'none' }),
  })
  return { status: response.status, headers: response.headers, body: (await response.json()) as Envelope }
}

describe('what is no proper request', () => {
  it.each([
    ['a URL of 100 KB', `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
    [
      'headers beyond 16 KiB',
      `GET /healthz HTTP/1.1\r\nHost: x\r\n${'X-Filler: 0123456789\r\n'.repeat(1000)}\r\n`,
      431,
    ],
    ['garbage', Buffer.from([0, 255, 22, 3, 1, 13, 10, 13, 10]), 400],
    ['a call that names no host', 'POST /unipay/syncPay HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}', 400],
    [
      'two lengths',
      'POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}',
      400,
    ],
    [
      'a length and chunks',
      'POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}',
      400,
    ],
  ])('%s is refused, and its connection closed, without a word about the inside', async (_, bytes, status) => {
    const answer = await raw(service.url, bytes)
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    expect(answer).not.toMatch(/node_modules|at .*\.js|HPE_/)
  })

  it('a body of 1 MiB is answered in the envelope', async () => {
    expect(await service.post(' '.repeat(1024 * 1024))).toMatchObject({ code: 10005, data: null })
  })

  it('a few pipelined requests are answered in order; very many end the connection', async () => {
    const request = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n'
    const few = await raw(service.url, request.repeat(5), (text) => text.split('HTTP/1.1 200').length === 6)
    expect(few.split('HTTP/1.1 200')).toHaveLength(6)
    const many = await raw(service.url, request.repeat(5_000))
    expect(many.split('HTTP/1.1 200').length).toBeLessThan(5_000)
  })
})

it('who leaves in the middle of a request is answered nothing, and costs no line of the log', async () => {
  const lines: string[] = []
  const logging = await startService({ environment: { LOG_LEVEL: 'info' }, onLogLine: (line) => lines.push(line) })
  const half =
    'POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{'
  expect(await leaving(logging.url, half, (socket) => socket.end())).toBe('')
  expect(await leaving(logging.url, half, (socket) => socket.resetAndDestroy())).toBe('')
  // A request that is refused, after them, has its line.
  await logging.post('{')
  await vi.waitFor(() => expect(lines.filter((line) => line.includes('"event":"refused"'))).toHaveLength(1))
  expect(await (await fetch(`${logging.url}/metrics`)).text()).toContain(
    'unipay_merchant_request_duration_seconds_count{code="10005",result="unreadable"} 1',
  )
  await logging.stop()
})

it('a failure here is told by its trace id alone', async () => {
  await service.pool.query('ALTER TABLE orders RENAME TO orders_elsewhere')
  try {
    const traceId = expect.stringMatching(/^\w{12}$/) as string
    expect((await call(service)).body).toEqual({ msg: '系统错误', code: 10001, data: null, traceId })
    const problem = await service.ops('GET', '/ops/orders/1')
    expect(problem.status).toBe(500)
    expect(JSON.stringify(problem.body)).not.toMatch(/relation|orders_|\bat \/|node_modules/)
  } finally {
    await service.pool.query('ALTER TABLE orders_elsewhere RENAME TO orders')
  }
})

describe('connections over the limit', () => {
  it('push out the quietest, and never one whose request is being worked on', async () => {
    let release: () => void = () => undefined
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const server = createBoundServer(
      {},
      (request, response) => {
        request.resume()
        void (request.url === '/held' ? held : Promise.resolve()).then(() => response.end('done'))
      },
      { connectionsMax: 3 },
    )
    const url = await listen(server)
    const started = new Promise<void>((resolve) => server.once('request', () => resolve()))
    const working = raw(url, 'GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    await started
    // Two quiet ones fill the places; further ones push them out, in turn.
    const quiet = [raw(url, 'GET / HTTP'), raw(url, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nslow')]
    await vi.waitFor(async () => {
      const open = await new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)))
      expect(open).toBe(3)
    })
    for (let index = 0; index < 6; index++) expect(await (await fetch(url)).text()).toBe('done')
    expect(await Promise.all([raw(url, 'x'), ...quiet])).toHaveLength(3)
    release()
    expect(await working).toMatch(/^HTTP\/1\.1 200/)
    await shut(server)
  })
})

describe('clients who ask and never read', () => {
  /** Asks for much more than the buffers on the way take, many times over one connection. */
  async function neverReading(url: string): Promise<Socket> {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname).on('error', () => undefined)
    socket.pause()
    await new Promise<void>((resolve) =>
      socket.write('GET /large HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(10), () => resolve()),
    )
    return socket
  }
  const LARGE = 'x'.repeat(4 * 1024 * 1024)
  const answer = (request: IncomingMessage, response: ServerResponse) =>
    response.end(request.url === '/large' ? LARGE : 'done')

  it('lose their connections to those who come', async () => {
    const server = createBoundServer({}, answer, { connectionsMax: 3 })
    const url = await listen(server)
    let asked = 0
    server.on('request', () => (asked += 1))
    const stuck = await Promise.all([neverReading(url), neverReading(url), neverReading(url)])
    await vi.waitFor(() => expect(asked).toBe(30))
    for (let index = 0; index < 5; index++) expect(await (await fetch(url)).text()).toBe('done')
    for (const socket of stuck) socket.destroy()
    await shut(server)
  })

  it('lose them after a while even where there is room', async () => {
    const server = createBoundServer({}, answer, { stalledMs: 300 })
    const url = await listen(server)
    const closed = new Promise<void>((resolve) =>
      server.once('connection', (socket: Socket) => socket.once('close', () => resolve())),
    )
    const stuck = await neverReading(url)
    await closed
    stuck.destroy()
    await shut(server)
  })
})

it('of requests sent without waiting for answers, those beyond 32 cost nothing but their parsing', async () => {
  let answered = 0
  const server = createBoundServer({}, (_request, response) => {
    answered += 1
    setImmediate(() => response.end('done'))
  })
  const url = await listen(server)
  await raw(url, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(5_000))
  expect(answered).toBe(32)
  await shut(server)
})

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function shut(server: Server): Promise<void> {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}

describe('the rate of an address under /unipay', () => {
  it('is not limited by default', async () => {
    const codes = await Promise.all(Array.from({ length: 50 }, async () => (await call(service)).body.msg))
    expect(new Set(codes)).toEqual(new Set(['未查询到支付订单']))
  })

  it('over it, the answer is 200 with code 20000 and Retry-After; other addresses and routes are served', async () => {
    const limited = await startService({ environment: { UNIPAY_RATE_PER_S: '1', TRUST_PROXY: 'loopback' } })
    try {
      const from = { 'x-forwarded-for': '203.0.113.7' }
      const answers = [await call(limited, from), await call(limited, from), await call(limited, from)]
      const refused = answers[2]
      expect(refused).toMatchObject({ status: 200, body: { code: 20000, msg: '请求过于频繁，请稍后再试', data: null } })
      expect(refused?.body).not.toHaveProperty('sign')
      expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0)
      expect((await call(limited, { 'x-forwarded-for': '203.0.113.8' })).body.msg).toBe('未查询到支付订单')
      expect((await fetch(`${limited.url}/readyz`)).status).toBe(200)
      expect(await (await fetch(`${limited.url}/metrics`)).text()).toMatch(
        /unipay_requests_refused_total\{reason="rate"\} 1/,
      )
    } finally {
      await limited.stop()
    }
  })

  it('an address that a stranger claims is not believed', async () => {
    const limited = await startService({ environment: { UNIPAY_RATE_PER_S: '1' } })
    try {
      const answers = []
      for (let index = 0; index < 3; index++)
        answers.push(await call(limited, { 'x-forwarded-for': `203.0.113.${index}` }))
      expect(answers[2]?.body.msg).toBe('请求过于频繁，请稍后再试')
    } finally {
      await limited.stop()
    }
  })
})

describe('behind a proxy that tells ports beside addresses', () => {
  const bearer = { authorization: `Bearer ${OPS_TOKEN}` }

  it('an address is one, from whichever of its connections it asks', async () => {
    const limited = await startService({ environment: { UNIPAY_RATE_PER_S: '1', TRUST_PROXY: 'loopback' } })
    try {
      // Through a second proxy, whose port the first one tells.
      const from = (port: number) => ({ 'x-forwarded-for': `203.0.113.10:${port}, 127.0.0.2:${port}` })
      const merchant = [await call(limited, from(1)), await call(limited, from(2)), await call(limited, from(3))]
      expect(merchant[2]?.body.msg).toBe('请求过于频繁，请稍后再试')
      const operator = []
      for (let port = 1; port <= 14; port++) {
        const headers = { ...from(port), authorization: 'Bearer wrong' }
        operator.push((await fetch(`${limited.url}/ops/batches`, { headers })).status)
      }
      expect(operator).toEqual([...Array.from({ length: 10 }, () => 401), ...Array.from({ length: 4 }, () => 429)])
      const other = { ...bearer, 'x-forwarded-for': '203.0.113.11:1, 127.0.0.2:1' }
      expect((await fetch(`${limited.url}/ops/batches`, { headers: other })).status).toBe(200)
    } finally {
      await limited.stop()
    }
  })

  it.each([
    ['[2001:db8:1111:2222:3333:4444:5555:6666]:40000', '2001:db8:1111:2222:3333:4444:5555:6666'],
    ['unknown', '127.0.0.1'],
    [`fe80::1%${'x'.repeat(60)}`, '127.0.0.1'],
  ])('an operator’s sync from %s is recorded, from %s', async (forwarded, address) => {
    const paymentId = await service.registerPaid()
    const headers = { ...bearer, 'x-forwarded-for': forwarded }
    const { status } = await fetch(`${service.url}/ops/orders/${paymentId}/sync`, { method: 'POST', headers })
    expect(status).toBe(200)
    expect((await service.history(paymentId)).syncs).toMatchObject([{ clientIp: address }])
  })
})

describe('a database that does not keep up', () => {
  it('makes the process refuse early, in each wire’s own words, and stop refusing once it does', async () => {
    const { pool } = service.service.database
    const taken = [await pool.connect(), await pool.connect()]
    // Requests go on arriving, none of them waiting for the one before: one that waits gives up after 3 s, and a look at
    // that moment finds nobody waiting.
    const arrivals: Promise<void>[] = []
    let isRefused = false
    await vi.waitFor(
      () => {
        arrivals.push(
          service.ops('GET', '/ops/orders/1').then(({ status }) => {
            isRefused ||= status === 503
          }),
        )
        expect(isRefused).toBe(true)
      },
      { timeout: 10_000, interval: 100 },
    )
    const refused = await call(service)
    expect(refused).toMatchObject({ status: 200, body: { code: 20000, msg: '系统繁忙，请稍后再试' } })
    expect(refused.headers.get('retry-after')).toBe('2')
    expect((await fetch(`${service.url}/healthz`)).status).toBe(200)
    for (const client of taken) client.release()
    await Promise.all(arrivals)
    await vi.waitFor(async () => expect((await call(service)).body.msg).toBe('未查询到支付订单'), { timeout: 10_000 })
  })
})

it('a flood of looks at whether it is ready takes no more of the database than one look', async () => {
  const before = service.service.database.load().handedOut
  const statuses = await Promise.all(
    Array.from({ length: 200 }, async () => (await fetch(`${service.url}/readyz`)).status),
  )
  expect(new Set(statuses)).toEqual(new Set([200]))
  expect(service.service.database.load().handedOut - before).toBeLessThan(200)
})

describe('browsers', () => {
  it('are told not to guess, frame, store or load from elsewhere', async () => {
    for (const path of ['/console', '/console/sign-in', '/docs', '//docs', '/%63onsole', '/%64ocs']) {
      const page = await fetch(`${service.url}${path}`)
      expect(page.headers.get('content-security-policy')).toMatch(/default-src 'none'.*frame-ancestors 'none'/)
      expect(page.headers.get('x-content-type-options')).toBe('nosniff')
      expect(page.headers.get('x-frame-options')).toBe('DENY')
      expect(page.headers.get('referrer-policy')).toMatch(/^(?:no-referrer|same-origin)$/)
    }
    const api = await fetch(`${service.url}/healthz`)
    expect(api.headers.get('x-content-type-options')).toBe('nosniff')
    expect(api.headers.get('content-security-policy')).toBeNull()
    expect(api.headers.get('x-powered-by') ?? api.headers.get('server')).toBeNull()
  })
})
