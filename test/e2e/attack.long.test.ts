import { spawn } from 'node:child_process'
import { Agent, request } from 'node:http'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

import { createWechatSandbox } from '../../src/sandbox/wechat.js'
import { createDatabase, type TestDatabase } from '../support/database.js'
import { type Envelope, newPaymentId, OPS_TOKEN, SECRET, signedBody } from '../support/service.js'
import { type ServiceProcess, startServiceProcess } from '../support/service-process.js'

/**
 * What others wait at most while somebody attacks, on a machine with two cores that plays attacker, victim and others. A
 * machine that is busy besides answers late without any attack: there it is twice what it took just before.
 */
const P99_MS_MAX = 1_000
const ROUNDS_MAX = 3
const CALLERS = 4
const CALLS = 400
/** Connections that are held: more than the service keeps. */
const CONNECTIONS = 10_000
/** How long an attacker may take to have made them. Milliseconds. */
const ATTACK_MS_MAX = 60_000
const ATTACKER = fileURLToPath(new URL('../support/attacker.ts', import.meta.url))

const wechat = createWechatSandbox()
let database: TestDatabase
let service: ServiceProcess
const ids: string[] = []

beforeAll(async () => {
  database = await createDatabase()
  await wechat.listen()
  service = await startServiceProcess({
    DATABASE_URL: database.url,
    SIGN_SECRETS: SECRET,
    OPS_TOKENS: `tester:${OPS_TOKEN}`,
    ROLES: 'api',
    // What is measured is this process, not how long it waits for its turn at the gateway.
    GATEWAY_RATE_PER_S: '5000',
    LOG_LEVEL: 'info',
    ...wechat.merchantSettings(),
  })
  for (let caller = 0; caller < CALLERS; caller++) ids.push(await registerUnpaid())
})
afterAll(async () => {
  await service.stop()
  await wechat.close()
  await database.drop()
})

async function registerUnpaid(): Promise<string> {
  const paymentId = newPaymentId()
  const createTime = new Date(Date.now() - 600_000).toISOString()
  const expiredTime = new Date(Date.now() + 3_600_000).toISOString()
  const response = await fetch(`${service.url}/ops/orders`, {
    method: 'POST',
    headers: { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      paymentId,
      businessNo: `B${paymentId}`,
      channel: 'wechat_pay',
      amount: 1000,
      createTime,
      expiredTime,
    }),
  })
  expect(response.status).toBe(201)
  wechat.putTrade(paymentId, { state: 'NOTPAY', amount: 1000 })
  return paymentId
}

async function sync(id: string, agent: Agent): Promise<Envelope> {
  return await new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    const call = request(`${service.url}/unipay/syncPay`, { method: 'POST', agent, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve(JSON.parse(text) as Envelope))
    })
    call.on('error', reject)
    call.end(signedBody({ paymentId: BigInt(id) }))
  })
}

/** The 99th percentile of honest merchants' calls, half of them over new connections. Every one must be answered rightly. */
async function p99OfOthers(): Promise<number> {
  const tookMs: number[] = []
  await Promise.all(
    ids.map(async (id, caller) => {
      const agent = new Agent({ keepAlive: caller % 2 === 0 })
      for (let index = 0; index < CALLS / CALLERS; index++) {
        const startedMs = performance.now()
        const answer = await sync(id, agent)
        tookMs.push(performance.now() - startedMs)
        expect(answer).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress' } })
      }
      agent.destroy()
    }),
  )
  return tookMs.sort((a, b) => a - b)[Math.floor(tookMs.length * 0.99)] ?? Number.POSITIVE_INFINITY
}

/** Somebody attacks for as long as it takes: `until` resolves once that many connections were made. */
function startAttack(attack: string) {
  const child = spawn(process.execPath, ['--import', 'tsx', ATTACKER, service.url, attack, String(CONNECTIONS)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  let state = { made: 0, open: 0 }
  createInterface({ input: child.stdout }).on('line', (line) => {
    state = JSON.parse(line) as typeof state
  })
  return {
    open: () => state.open,
    until: async (made: number) =>
      await vi.waitFor(() => expect(state.made).toBeGreaterThanOrEqual(made), { timeout: ATTACK_MS_MAX, interval: 50 }),
    async stop(): Promise<void> {
      child.stdin.end()
      await ended
    },
  }
}

/** The same, taken again where something else on this machine got in the way: a service that is at fault fails each time. */
async function p99Within(allowedMs: number): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS_MAX && best >= allowedMs; round++) best = Math.min(best, await p99OfOthers())
  return best
}

async function underAttack(attack: string, connections: number): Promise<void> {
  const before = await p99OfOthers()
  const allowed = Math.max(P99_MS_MAX, 2 * before)
  const attacker = startAttack(attack)
  try {
    // Held connections are all there before others are measured; floods go on while they are.
    await attacker.until(connections)
    const during = await p99Within(allowed)
    const open = attacker.open()
    await attacker.stop()
    const after = await p99Within(allowed)
    process.stdout.write(
      `p99 before, during, after ${attack}: ${[before, during, after].map((ms) => ms.toFixed(0)).join(', ')} ms; ${open} open\n`,
    )
    expect(during).toBeLessThan(allowed)
    expect(after).toBeLessThan(allowed)
  } finally {
    await attacker.stop()
  }
  expect(service.isRunning()).toBe(true)
}

describe('others are answered within their p99, and at once afterwards', () => {
  it.each(['idle connections', 'headers that never end', 'bodies that never end', 'half of each'])(
    'against 10,000 %s',
    async (attack) => await underAttack(attack, CONNECTIONS),
  )

  it.each([
    ['bodies of 1 MiB', 200],
    ['URLs of 100 KB', 1000],
    ['headers by the thousand', 1000],
    ['pipelines of 10,000', 100],
    ['garbage', 2000],
    ['deep JSON', 500],
  ])('against %s, at least %i of them', async (attack, connections) => await underAttack(attack, connections))

  it('and nothing of it was an error here', () => {
    expect(service.lines().filter((line) => line.includes('"level":"error"'))).toEqual([])
  })
})
