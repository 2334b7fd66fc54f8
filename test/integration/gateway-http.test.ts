import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net'

import { afterEach, describe, expect, it } from 'vitest'

import { createDeadline, type Deadline } from '../../src/gateways/deadline.js'
import { createHttp, type Http, type HttpOptions } from '../../src/gateways/http.js'

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

function httpWith(options: Partial<HttpOptions> = {}): Http {
  const http = createHttp({ timeoutMs: 2_000, connectionsMax: 10, ...options })
  stops.push(() => http.close())
  return http
}

async function portOf(server: Server | TcpServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

/** A server that does with each request what the test says. */
async function serverOf(respond: (request: IncomingMessage, response: ServerResponse) => void) {
  const sockets = new Set<Socket>()
  const server = createServer(respond)
  server.keepAliveTimeout = 60_000
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  const port = await portOf(server)
  stops.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${port}/v3?mchid=1`, server, sockets }
}

async function tcpServerOf(onConnection: (socket: Socket) => void): Promise<number> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined)
    stops.push(() => socket.destroy())
    onConnection(socket)
  })
  stops.push(() => server.close())
  return await portOf(server)
}

const get = (url: string) =>
  ({ method: 'GET', baseUrl: url, path: '', headers: { accept: 'application/json' }, body: null }) as const
function within(ms: number): Deadline {
  const deadline = createDeadline(ms)
  stops.push(deadline.clear)
  return deadline
}

describe('an answer', () => {
  it('comes byte for byte, with lower-case header names, whatever its status', async () => {
    const bytes = Buffer.from([0xef, 0xbb, 0xbf, 0x00, 0xff, 0x0a])
    for (const status of [200, 204, 302, 404, 502]) {
      const { url } = await serverOf((_request, response) => {
        response
          .writeHead(status, { 'Wechatpay-Nonce': 'AbC', Location: '/elsewhere' })
          .end(status === 204 ? '' : bytes)
      })
      const outcome = await httpWith().send(get(url), within(2_000))
      expect(outcome).toMatchObject({ kind: 'answered', status, headers: { 'wechatpay-nonce': 'AbC' } })
      if (outcome.kind === 'answered') expect(outcome.body).toEqual(status === 204 ? Buffer.alloc(0) : bytes)
    }
  })

  it('was asked for with what was given, and nothing of a proxy in the environment', async () => {
    process.env['HTTP_PROXY'] = 'http://127.0.0.1:1'
    stops.push(() => delete process.env['HTTP_PROXY'])
    const seen: { target: string; body: string; headers: IncomingMessage['headers'] }[] = []
    const { url } = await serverOf((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        seen.push({ target: request.url ?? '', body: Buffer.concat(chunks).toString(), headers: request.headers })
        response.end('{}')
      })
    })
    const headers = { accept: 'application/json', 'content-type': 'application/json', 'user-agent': 'u' }
    await httpWith().send(
      { method: 'POST', baseUrl: `${url}&a=%7C%2F`, path: '', headers, body: '{"a": "\\/ü"}' },
      within(2_000),
    )
    expect(seen).toMatchObject([{ target: '/v3?mchid=1&a=%7C%2F', body: '{"a": "\\/ü"}', headers }])
  })

  it.each([
    ['', "/v3/a%7Cb?mchid='1'"],
    ['/', '/v3/x?a=1'],
    ['/behind/a/proxy', '/v3/x'],
    ['/behind/a/proxy/', '/v3/x'],
    ['/gateway.do', ''],
    ['/gateway.do?of=us', ''],
  ])('was asked for at %s with %s, just as it was signed', async (base, path) => {
    const targets: string[] = []
    const { url } = await serverOf((request, response) => {
      targets.push(request.url ?? '')
      response.end('{}')
    })
    const { origin, host } = new URL(url)
    const request = { method: 'GET', baseUrl: `${origin}${base}`, path, headers: {}, body: null } as const
    const gateway = httpWith()
    const { exchange } = await gateway.send(request, within(2_000))
    expect(targets).toEqual([path === '' ? base : `${base.replace(/\/$/, '')}${path}`])
    expect(exchange).toMatchObject({ host, path: targets[0], status: 200 })
    // Recorded as the same where it is not sent at all.
    expect(gateway.unsent(request, 'no key')).toMatchObject({ host, path: targets[0], status: null })
  })

  it('of 1 MiB is read, one byte more is not', async () => {
    for (const [size, kind] of [
      [1024 * 1024, 'answered'],
      [1024 * 1024 + 1, 'lost'],
    ] as const) {
      const { url } = await serverOf((_request, response) => response.end(Buffer.alloc(size, 0x61)))
      expect(await httpWith().send(get(url), within(5_000))).toMatchObject(
        kind === 'lost' ? { kind, reason: 'too_large' } : { kind },
      )
    }
  })
})

describe('never sent', () => {
  it('where nobody listens', async () => {
    const server = createTcpServer()
    const port = await portOf(server)
    await new Promise((resolve) => server.close(resolve))
    expect(await httpWith().send(get(`http://127.0.0.1:${port}/`), within(2_000))).toMatchObject({
      kind: 'not_sent',
      reason: 'unreachable',
      exchange: { status: null },
    })
  })

  it('where the handshake is not finished within a quarter of the time, so that another host has the rest', async () => {
    const port = await tcpServerOf(() => undefined)
    const startedMs = performance.now()
    const outcome = await httpWith({ timeoutMs: 800 }).send(get(`https://127.0.0.1:${port}/`), within(800))
    expect(outcome).toMatchObject({ kind: 'not_sent', reason: 'connect_timeout' })
    expect(performance.now() - startedMs).toBeLessThan(750)
  })

  it('where the other side’s certificate is nobody’s', async () => {
    const port = await tcpServerOf((socket) => socket.end('not TLS at all'))
    expect(await httpWith().send(get(`https://127.0.0.1:${port}/`), within(2_000))).toMatchObject({
      kind: 'not_sent',
      reason: 'unreachable',
    })
  })

  it('where all connections are taken until the deadline', async () => {
    const requests: string[] = []
    const { url } = await serverOf((request) => void requests.push(request.url ?? ''))
    const http = httpWith({ connectionsMax: 1 })
    const first = http.send(get(url), within(1_500))
    expect(await http.send(get(`${url}&second`), within(300))).toMatchObject({ kind: 'not_sent' })
    expect(await first).toMatchObject({ kind: 'lost' })
    expect(requests).toHaveLength(1)
  })
})

describe('sent, and its outcome lost', () => {
  it('no answer within the deadline', async () => {
    const { url } = await serverOf(() => undefined)
    const startedMs = performance.now()
    // Time enough for a busy machine to connect: what is lost is lost after that.
    const http = httpWith({ timeoutMs: 8_000 })
    expect(await http.send(get(url), within(1_000))).toMatchObject({ kind: 'lost', reason: 'timeout' })
    expect(performance.now() - startedMs).toBeLessThan(3_000)
  })

  it('an answer that begins and never ends', async () => {
    const { url } = await serverOf((_request, response) => {
      response.writeHead(200, { 'Content-Length': '100' })
      response.write('half')
    })
    // Time enough for a busy machine to connect: what is lost is lost after that.
    const http = httpWith({ timeoutMs: 8_000 })
    expect(await http.send(get(url), within(1_000))).toMatchObject({ kind: 'lost', reason: 'timeout' })
  })

  it('a connection reset before and in the middle of the answer', async () => {
    const before = await serverOf((request) => request.socket.resetAndDestroy())
    expect(await httpWith().send(get(before.url), within(2_000))).toMatchObject({
      kind: 'lost',
      reason: 'connection_lost',
    })
    const amid = await serverOf((_request, response) => {
      response.writeHead(200, { 'Content-Length': '100' })
      response.write('half', () => response.socket?.destroy())
    })
    expect(await httpWith().send(get(amid.url), within(2_000))).toMatchObject({
      kind: 'lost',
      reason: 'connection_lost',
    })
  })

  it('an answer that is not HTTP', async () => {
    const port = await tcpServerOf((socket) => socket.once('data', () => socket.end('SSH-2.0-OpenSSH_9.2\r\n')))
    expect(await httpWith().send(get(`http://127.0.0.1:${port}/`), within(2_000))).toMatchObject({
      kind: 'lost',
      reason: 'bad_http',
    })
  })

  it('a kept connection that is closed under the request is told apart: the gateway dropped it as idle', async () => {
    let requests = 0
    const { url } = await serverOf((request, response) => {
      requests += 1
      if (requests === 1) response.end('{}')
      else request.socket.resetAndDestroy()
    })
    const http = httpWith({ connectionsMax: 1 })
    expect(await http.send(get(url), within(2_000))).toMatchObject({ kind: 'answered' })
    expect(await http.send(get(url), within(2_000))).toMatchObject({ kind: 'lost', reason: 'idle_connection_lost' })
  })
})

describe('connections', () => {
  it('are kept and used again', async () => {
    const { url, sockets } = await serverOf((_request, response) => response.end('{}'))
    const seen = new Set<Socket>()
    const http = httpWith()
    for (let asked = 0; asked < 5; asked++) {
      await http.send(get(url), within(2_000))
      for (const socket of sockets) seen.add(socket)
    }
    expect(seen.size).toBe(1)
  })

  it('are dropped after 7 idle seconds: before the gateway’s 8', async () => {
    const { url, server } = await serverOf((_request, response) => response.end('{}'))
    const closed = new Promise<number>((resolve) => {
      server.once('connection', (socket: Socket) => socket.once('close', () => resolve(performance.now())))
    })
    await httpWith().send(get(url), within(2_000))
    const idleFromMs = performance.now()
    const idleMs = (await closed) - idleFromMs
    expect(idleMs).toBeGreaterThan(6_000)
    expect(idleMs).toBeLessThan(7_900)
  })

  it('a slow answer is not taken for an idle connection', async () => {
    const { url } = await serverOf((_request, response) => {
      const timer = setTimeout(() => response.end('{}'), 7_500)
      stops.push(() => clearTimeout(timer))
    })
    expect(await httpWith({ timeoutMs: 9_000 }).send(get(url), within(9_000))).toMatchObject({ kind: 'answered' })
  })
})
