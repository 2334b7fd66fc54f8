// The built service, killed (SIGKILL) at random moments while it repairs orders; the next process and one more sync of
// each order must find everything as if nothing had happened. FAULT_SEED=… repeats the moments.
import { setTimeout as pause } from 'node:timers/promises'

import { afterAll, beforeAll, expect, it } from 'vitest'

import { createDatabase, type TestDatabase, untilDisconnected } from '../support/database.js'
import { breachesOf } from '../support/invariants.js'
import {
  type Envelope,
  type Sandboxes,
  SECRET,
  signedBody,
  startSandboxes,
  startService,
  type TestService,
} from '../support/service.js'
import { type ServiceProcess, seededRandom, startServiceProcess } from '../support/service-process.js'

const KILLS = 300
/** Processes at a time, each with orders of its own, so that starting one does not leave the machine idle. */
const LANES = 4
const ORDERS_PER_LIFE = 12
const CALLERS = 8
/** A life ends within this long after its first call: some orders are then done, some half done, some untouched. */
const LIFE_MS_MAX = 250

let database: TestDatabase
let sandboxes: Sandboxes
let control: TestService
beforeAll(async () => {
  ;[database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
  control = await startService({ database, sandboxes, environment: { GATEWAY_RATE_PER_S: '10000' } })
})
afterAll(async () => {
  await control.stop()
  await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  await database.drop()
})

const figures = { kills: 0, orders: 0, doneBefore: 0, leased: 0, closedThereOnly: 0, untouched: 0, answers: 0 }

/** By turns: paid, expired and unpaid, expired and paid just before the close. */
async function newOrder(index: number): Promise<string> {
  const isExpired = index % 3 > 0
  const channel = index % 2 === 0 ? 'wechat_pay' : 'ali_pay'
  const id = await control.register({
    channel,
    notifyUrl: 'http://127.0.0.1:9/notices',
    ...(isExpired ? { expiredTime: new Date(Date.now() - 60_000).toISOString() } : {}),
  })
  const gateway = channel === 'ali_pay' ? sandboxes.alipay : sandboxes.wechat
  const [payable, paid] = channel === 'ali_pay' ? ['WAIT_BUYER_PAY', 'TRADE_SUCCESS'] : ['NOTPAY', 'SUCCESS']
  gateway.putTrade(id, {
    state: (isExpired ? payable : paid) ?? '',
    amount: 1000,
    ...(index % 3 === 2 ? { payOn: 'close' as const } : {}),
  })
  return id
}

const tradeOf = (id: string) => sandboxes.wechat.getTrade(id) ?? sandboxes.alipay.getTrade(id)

async function call(process: ServiceProcess, id: string): Promise<Envelope | undefined> {
  try {
    const response = await fetch(`${process.url}/unipay/syncPay`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: signedBody({ paymentId: BigInt(id) }),
    })
    return (await response.json()) as Envelope
  } catch {
    // The process was killed before it had answered: nobody knows, which is what this is about.
    return undefined
  }
}

async function live(process: ServiceProcess, ids: readonly string[], random: () => number): Promise<void> {
  let next = 0
  const callers = Array.from({ length: CALLERS }, async () => {
    for (let id = ids[next++]; id !== undefined && process.isRunning(); id = ids[next++]) {
      if ((await call(process, id)) !== undefined) figures.answers += 1
    }
  })
  await pause(random() * LIFE_MS_MAX)
  await process.kill()
  await Promise.all(callers)
}

/** What the kill left behind, and its leases ended: they would end by themselves, later than this test wants to wait. */
async function takeStock(ids: readonly string[]): Promise<void> {
  const { rows } = await control.pool.query<{ id: string; status: string; leased: boolean }>(
    'SELECT id, status, lease_token IS NOT NULL AS leased FROM orders WHERE id = ANY($1::bigint[])',
    [ids],
  )
  for (const { id, status, leased } of rows) {
    const isClosedThere = ['CLOSED', 'TRADE_CLOSED'].includes(tradeOf(id)?.state ?? '')
    if (status !== 'progress') figures.doneBefore += 1
    else if (isClosedThere) figures.closedThereOnly += 1
    else if (leased) figures.leased += 1
    else figures.untouched += 1
  }
  figures.kills += 1
  figures.orders += ids.length
  await control.pool.query(
    'UPDATE orders SET lease_expires_at = clock_timestamp() WHERE id = ANY($1::bigint[]) AND lease_token IS NOT NULL',
    [ids],
  )
}

async function oneMoreSync(process: ServiceProcess, ids: readonly string[]): Promise<void> {
  const answers = await Promise.all(ids.map(async (id) => await call(process, id)))
  expect(answers.map((answer) => answer?.code)).toEqual(ids.map(() => 0))
  const { rows } = await control.pool.query<{ id: string; status: string; repairs: number; notices: number }>(
    `SELECT id, status, (SELECT count(*)::int FROM repair_records r WHERE r.order_id = o.id) AS repairs,
       (SELECT count(*)::int FROM notices n WHERE n.order_id = o.id) AS notices
     FROM orders o WHERE id = ANY($1::bigint[])`,
    [ids],
  )
  expect(rows).toHaveLength(ids.length)
  for (const { id, ...row } of rows) {
    const isPaid = tradeOf(id)?.paidAt !== null
    expect({ id, ...row }).toEqual({ id, status: isPaid ? 'success' : 'close', repairs: 1, notices: 1 })
  }
}

async function lane(number: number, lives: number, seed: number): Promise<void> {
  const random = seededRandom(seed + number)
  const name = `lane ${number}`
  const url = new URL(database.url)
  url.searchParams.set('application_name', name)
  const environment = {
    DATABASE_URL: url.href,
    SIGN_SECRETS: SECRET,
    ROLES: 'api',
    MIGRATE_ON_START: 'false',
    GATEWAY_RATE_PER_S: '10000',
    LOG_LEVEL: 'info',
    ...sandboxes.wechat.merchantSettings(),
    ...sandboxes.alipay.merchantSettings(),
  }
  let unfinished: readonly string[] = []
  for (let life = 0; life <= lives; life++) {
    const process = await startServiceProcess(environment)
    try {
      await oneMoreSync(process, unfinished)
      if (life === lives) return
      unfinished = await Promise.all(Array.from({ length: ORDERS_PER_LIFE }, async (_, index) => await newOrder(index)))
      await live(process, unfinished, random)
      await untilDisconnected(control.pool, name)
      await takeStock(unfinished)
    } finally {
      await process.kill()
    }
  }
}

it('killed at 300 random moments while repairing: nothing is lost, doubled or half done', async () => {
  const seed = Number(process.env['FAULT_SEED'] ?? Date.now() % 1_000_000)
  const startedMs = performance.now()
  try {
    await Promise.all(Array.from({ length: LANES }, async (_, number) => await lane(number, KILLS / LANES, seed)))
  } finally {
    const seconds = Math.round((performance.now() - startedMs) / 1000)
    console.log(`crash matrix (FAULT_SEED=${seed}, ${seconds} s): ${JSON.stringify(figures)}`)
  }
  expect(figures.kills).toBe(KILLS)
  // The kills did strike in the middle.
  expect(figures.leased + figures.closedThereOnly).toBeGreaterThan(KILLS / 2)
  expect(await breachesOf(control.pool)).toEqual([])
})
