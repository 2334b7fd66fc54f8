// The built service as a process: it starts or ends, and it leaves without losing anything.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import http from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'

import { tmpdir } from 'node:os'
import path from 'node:path'

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

import { createMerchantSandbox } from '../../src/sandbox/merchant.js'
import { createDatabase, type TestDatabase } from '../support/database.js'
import { breachesOf } from '../support/invariants.js'
import {
  type Envelope,
  newPaymentId,
  type Sandboxes,
  SECRET,
  signedBody,
  startSandboxes,
  startService,
  type TestService,
} from '../support/service.js'
import { MAIN, type ServiceProcess, startServiceProcess } from '../support/service-process.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

/** What main.ts promises of any drain. */
const DRAIN_MS_MAX = 10_000
const WAIT = { timeout: 10_000, interval: 10 }

/** Orders that are paid there and due here, by the hundred. */
const FILL = `
INSERT INTO orders (id, business_no, channel, amount_fen, out_trade_no, created_at, expires_at, next_sync_at, notify_url)
SELECT id, 'B' || id, 'wechat_pay', 1000, id::text, now() - interval '10 min', now() + interval '10 min', $2, $3
FROM unnest($1::bigint[]) AS id`

let database: TestDatabase
let sandboxes: Sandboxes
let control: TestService
beforeAll(async () => {
  ;[database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
  control = await startService({ database, sandboxes })
})
afterAll(async () => {
  await control.stop()
  await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  await database.drop()
})

async function startProcess(environment: Record<string, string> = {}): Promise<ServiceProcess> {
  return await startServiceProcess({
    DATABASE_URL: database.url,
    SIGN_SECRETS: SECRET,
    ROLES: 'api',
    ...sandboxes.wechat.merchantSettings(),
    ...sandboxes.alipay.merchantSettings(),
    ...environment,
  })
}

async function paidOrder(order: Parameters<TestService['register']>[0] = {}): Promise<string> {
  const id = await control.register(order)
  sandboxes.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  return id
}

async function paidOrders(count: number, when: 'due' | 'not due', notifyUrl: string): Promise<string[]> {
  const ids = Array.from({ length: count }, newPaymentId)
  for (const id of ids) sandboxes.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  await control.pool.query(FILL, [ids, when === 'due' ? new Date(0) : new Date(Date.now() + 3_600_000), notifyUrl])
  return ids
}

async function call({ url }: ServiceProcess, id: string): Promise<Envelope> {
  const response = await fetch(`${url}/unipay/syncPay`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: signedBody({ paymentId: BigInt(id) }),
  })
  return (await response.json()) as Envelope
}

/** SIGTERM, and how long the process took to end with which status. */
async function drain(service: ServiceProcess): Promise<{ status: number | null; tookMs: number }> {
  const startedMs = performance.now()
  const status = await service.stop()
  return { status, tookMs: performance.now() - startedMs }
}

describe('a start that is refused', () => {
  it('because its port is taken ends the process: nothing sweeps on without being seen', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    try {
      const { port } = other.address() as AddressInfo
      await expect(startProcess({ PORT: String(port), ROLES: 'api,sweeper,courier' })).rejects.toMatchObject({
        message: expect.stringContaining('EADDRINUSE'),
        cause: { message: 'the service ended at its start' },
      })
    } finally {
      other.close()
    }
  })
})

/** What a merchant's client behind a balancer does: it keeps its connection or not, and takes a new one only while we are ready. */
async function keepCalling(
  service: ServiceProcess,
  balancer: Balancer,
  ids: () => string | undefined,
  keepAlive: boolean,
) {
  const agent = new http.Agent({ keepAlive, maxSockets: 1 })
  const answers: { id: string; code: number }[] = []
  let isKept = false
  for (let id = ids(); id !== undefined && (isKept || balancer.isReady()); id = ids()) {
    const { code, isLast } = await post(`${service.url}/unipay/syncPay`, id, agent)
    answers.push({ id, code })
    // Node's agent asks for a kept connection also where it drops it afterwards: what is said is not what is done.
    isKept = keepAlive && !isLast
  }
  agent.destroy()
  return answers
}

async function post(url: string, id: string, agent: http.Agent): Promise<{ code: number; isLast: boolean }> {
  return await new Promise((resolve, reject) => {
    const request = http.request(url, { method: 'POST', agent, headers: { 'content-type': 'application/json' } })
    request.on('error', reject)
    request.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('error', reject)
      response.on('end', () => {
        const { code } = JSON.parse(text) as Envelope
        resolve({ code, isLast: response.headers.connection === 'close' })
      })
    })
    request.end(signedBody({ paymentId: BigInt(id) }))
  })
}

type Balancer = Readonly<{ isReady: () => boolean; checks: () => readonly boolean[]; stop: () => Promise<void> }>

/** Asks for readiness all the time, as a balancer does every second or so, and sends nobody new where it is off. */
function startBalancer(service: ServiceProcess): Balancer {
  const checks: boolean[] = [true]
  let isStopped = false
  const watching = (async () => {
    while (!isStopped) {
      checks.push(
        await fetch(`${service.url}/readyz`, { headers: { connection: 'close' } }).then(
          async (response) => {
            await response.arrayBuffer()
            return response.ok
          },
          () => false,
        ),
      )
    }
  })()
  return {
    isReady: () => checks.at(-1) === true,
    checks: () => checks,
    async stop() {
      isStopped = true
      await watching
    },
  }
}

it('SIGTERM while its own PostgreSQL is still starting leaves none behind', async () => {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'unipay-start-'))
  await chmod(dataDir, 0o711)
  const service = spawn(process.execPath, [MAIN], {
    env: { PATH: process.env['PATH'] ?? '', HOST: '127.0.0.1', PORT: '0', SIGN_SECRETS: SECRET, DATA_DIR: dataDir },
    stdio: 'ignore',
  })
  try {
    const lock = path.join(dataDir, 'postgres/cluster/postmaster.pid')
    const pid = await vi.waitFor(
      async () => {
        const found = Number((await readFile(lock, 'utf8')).split('\n')[0])
        if (found > 0) return found
        throw new Error('not yet')
      },
      { timeout: 30_000, interval: 1 },
    )
    service.kill('SIGTERM')
    await once(service, 'exit')
    await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'), WAIT)
  } finally {
    service.kill('SIGKILL')
    await rm(dataDir, { recursive: true, force: true })
  }
})

describe.concurrent('SIGTERM', () => {
  it('under load: no failed request, no lost work, over within 10 s', async () => {
    const merchant = createMerchantSandbox({ secrets: [SECRET], signType: 'MD5' })
    const notifyUrl = `${(await merchant.listen()).url}/n`
    const due = await paidOrders(300, 'due', notifyUrl)
    const called = await paidOrders(200, 'not due', notifyUrl)
    // Some answers come late, so that calls and sweeps are under way at every moment of the drain.
    const late = [...due, ...called].filter((_, index) => index % 3 === 0)
    sandboxes.wechat.addFaults(
      late.map((outTradeNo) => ({ on: 'query', fault: 'delay', ms: 700, times: 3, outTradeNo })),
    )
    const service = await startProcess({ ROLES: 'api,sweeper,courier' })
    const balancer = startBalancer(service)
    let next = 0
    const clients = Array.from(
      { length: 24 },
      async (_, client) => await keepCalling(service, balancer, () => called[next++ % called.length], client % 3 > 0),
    )
    try {
      await vi.waitFor(() => expect(next).toBeGreaterThan(60), WAIT)
      const { status, tookMs } = await drain(service)
      await balancer.stop()
      const answers = (await Promise.all(clients)).flat()
      console.log(`drained in ${Math.round(tookMs)} ms with ${answers.length} answers`)
      expect(status).toBe(0)
      expect(tookMs).toBeLessThan(DRAIN_MS_MAX)
      // Not one connection broke (that would have thrown), and each answer tells what is so.
      for (const { code } of answers) expect([0, 10007]).toContain(code)
      const { rows } = await control.pool.query(
        `SELECT id FROM orders WHERE id = ANY($1::bigint[]) AND (lease_token IS NOT NULL
           OR next_sync_at > now() + interval '10 s' AND NOT EXISTS (SELECT 1 FROM sync_records WHERE order_id = orders.id))`,
        [due],
      )
      expect(rows).toEqual([])
      const claimed = await control.pool.query('SELECT id FROM notices WHERE claim_token IS NOT NULL')
      expect(claimed.rows).toEqual([])
      const told = merchant.notices().map(({ body }) => String(body['paymentId']))
      expect(new Set(told).size).toBe(told.length)
    } finally {
      await service.kill()
      await balancer.stop()
      await Promise.allSettled(clients)
      await merchant.close()
    }
    expect(await breachesOf(control.pool)).toEqual([])
  })

  it('while a gateway hangs: its callers are answered, and the leases are given back', async () => {
    const [service, id] = await Promise.all([startProcess(), paidOrder()])
    const hold = sandboxes.wechat.holdNext('query', id)
    try {
      const answer = call(service, id)
      await hold.arrived
      const { status, tookMs } = await drain(service)
      expect(status).toBe(0)
      expect(tookMs).toBeLessThan(DRAIN_MS_MAX)
      // Its call is ended, and tried once more where its deadline leaves time for that.
      expect([0, 20000]).toContain((await answer).code)
      hold.release()
      expect(await control.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success' } })
    } finally {
      hold.release()
      await service.kill()
    }
  })

  it('while a client sends its request drop by drop: it is not waited for', async () => {
    const service = await startProcess()
    const { hostname, port } = new URL(service.url)
    const slow = connect(Number(port), hostname)
    slow.on('error', () => undefined)
    try {
      await new Promise<void>((resolve) =>
        slow.write('POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{', () => resolve()),
      )
      // Whoever is served after it knows that it has arrived.
      expect((await fetch(`${service.url}/healthz`)).status).toBe(200)
      const { status, tookMs } = await drain(service)
      expect(status).toBe(0)
      expect(tookMs).toBeLessThan(DRAIN_MS_MAX)
    } finally {
      slow.destroy()
      await service.kill()
    }
  })

  it('while the database does not answer: over within 10 s all the same, and the order comes right later', async () => {
    const { proxy, url } = await proxyDatabase(database.url)
    const [service, id] = await Promise.all([startProcess({ DATABASE_URL: url }), paidOrder()])
    const hold = sandboxes.wechat.holdNext('query', id)
    try {
      const answer = call(service, id).then(
        ({ code }) => code,
        () => 'cut off',
      )
      await hold.arrived
      proxy.setMode('silent')
      hold.release()
      const { tookMs } = await drain(service)
      expect(tookMs).toBeLessThan(DRAIN_MS_MAX)
      expect(await answer).toBe('cut off')
      await control.pool.query('UPDATE orders SET lease_expires_at = clock_timestamp() WHERE id = $1', [id])
      expect(await control.sync(id)).toMatchObject({ code: 0, data: { repair: true } })
    } finally {
      await service.kill()
      await proxy.close()
    }
  })

  it('twice: the second one ends the process at once', async () => {
    const [service, id] = await Promise.all([startProcess(), paidOrder()])
    const hold = sandboxes.wechat.holdNext('query', id)
    try {
      const answer = call(service, id).catch(() => 'cut off')
      await hold.arrived
      const first = drain(service)
      await vi.waitFor(() => expect(service.lines().join()).toContain('"draining"'), WAIT)
      const { status, tookMs } = await drain(service)
      expect(status).toBe(1)
      expect(tookMs).toBeLessThan(1_000)
      await first
      expect(await answer).toBe('cut off')
    } finally {
      hold.release()
      await service.kill()
    }
  })
})
