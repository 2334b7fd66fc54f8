// PostgreSQL goes away under load: killed and restarted, half-open, cut around a commit. What is told is true or 10001.
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { Pool } from 'pg'
import { expect, it } from 'vitest'

import { leaseMsFor } from '../../src/compose.js'
import { STATEMENT_WAIT_MS_MAX } from '../../src/store/client.js'
import { type EmbeddedPostgres, startEmbedded } from '../../src/store/embedded.js'
import { migrate } from '../../src/store/migrate.js'
import type { TestDatabase } from '../support/database.js'
import { breachesOf } from '../support/invariants.js'
import { startSandboxes, startService, type TestService } from '../support/service.js'
import { seededRandom } from '../support/service-process.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

const KILLS = 20
const CALLERS = 12
const ORDERS_PER_ROUND = 40
const READY_MS_MAX = 5_000
const GATEWAY_TIMEOUT_MS = 500
/**
 * Past the gateway's three calls: the lease, the commit, its second try, its re-reading, and the record of the failure,
 * each with every bound used up.
 */
const ANSWER_MS_MAX = 3 * GATEWAY_TIMEOUT_MS + 7 * STATEMENT_WAIT_MS_MAX

/** A PostgreSQL of its own, safe to kill: durable, in a folder that goes away with the test. */
async function startOwnDatabase() {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'unipay-kill-'))
  await chmod(dataDir, 0o711)
  let server: EmbeddedPostgres = await startEmbedded({ dataDir })
  const migrated = await migrate({ connectionString: server.url })
  if (migrated.kind === 'refused') throw new Error(migrated.message)
  const pools: Pool[] = []
  const { url } = server
  const database: TestDatabase = {
    url,
    name: 'unipay',
    pool(config = {}) {
      const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 5_000, ...config })
      pool.on('error', () => undefined)
      pools.push(pool)
      return pool
    },
    async drop() {
      await Promise.all(pools.filter((pool) => !pool.ended).map(async (pool) => await pool.end()))
      await server.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
  const pid = async () =>
    Number((await readFile(path.join(dataDir, 'postgres/cluster/postmaster.pid'), 'utf8')).split('\n')[0])
  return {
    database,
    async killAndRestart(): Promise<void> {
      process.kill(await pid(), 'SIGKILL')
      server = await startEmbedded({ dataDir })
    },
  }
}

async function newOrders(service: TestService, count: number): Promise<string[]> {
  return await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const isExpired = index % 2 === 1
      const id = await service.register({
        notifyUrl: 'http://127.0.0.1:9/notices',
        ...(isExpired ? { expiredTime: new Date(Date.now() - 60_000).toISOString() } : {}),
      })
      service.wechat.putTrade(id, { state: isExpired ? 'NOTPAY' : 'SUCCESS', amount: 1000 })
      return id
    }),
  )
}

async function untilReady(service: TestService): Promise<number> {
  const startedMs = performance.now()
  for (;;) {
    const ready = await fetch(`${service.url}/readyz`)
    await ready.arrayBuffer()
    const tookMs = performance.now() - startedMs
    if (ready.status === 200) return tookMs
    if (tookMs > READY_MS_MAX) throw new Error(`not ready ${READY_MS_MAX} ms after the database was back`)
    await pause(20)
  }
}

/** Every order comes to its end; leases left behind are waited for no longer than they live. */
async function settleAll(service: TestService, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const { code } = await service.sync(id)
    if (code === 10007) {
      await service.pool.query(
        'UPDATE orders SET lease_expires_at = clock_timestamp() WHERE id = $1 AND lease_token IS NOT NULL',
        [id],
      )
      expect((await service.sync(id)).code).toBe(0)
    } else expect(code).toBe(0)
  }
}

it('PostgreSQL killed (kill -9) and restarted 20 times under load: no wrong state, no stuck lease, ready by itself', async () => {
  const seed = Number(process.env['FAULT_SEED'] ?? Date.now() % 1_000_000)
  const random = seededRandom(seed)
  const [{ database, killAndRestart }, sandboxes] = await Promise.all([startOwnDatabase(), startSandboxes()])
  const environment = { GATEWAY_TIMEOUT_MS: String(GATEWAY_TIMEOUT_MS), GATEWAY_RATE_PER_S: '10000' }
  const service = await startService({ database, sandboxes, environment })
  const codes = new Map<number, number>()
  let slowestReadyMs = 0
  let slowestAnswerMs = 0
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const ids = await newOrders(service, ORDERS_PER_ROUND)
      let isOver = false
      const callers = Array.from({ length: CALLERS }, async () => {
        while (!isOver) {
          const startedMs = performance.now()
          const { code } = await service.sync(ids[Math.floor(random() * ids.length)] ?? '')
          slowestAnswerMs = Math.max(slowestAnswerMs, performance.now() - startedMs)
          codes.set(code, (codes.get(code) ?? 0) + 1)
        }
      })
      await pause(random() * 150)
      await killAndRestart()
      slowestReadyMs = Math.max(slowestReadyMs, await untilReady(service))
      isOver = true
      await Promise.all(callers)
      const { rows } = await service.pool.query<{ leftMs: number | null }>(
        `SELECT max(extract(epoch FROM lease_expires_at - clock_timestamp()))::float8 * 1000 AS "leftMs" FROM orders`,
      )
      expect(rows[0]?.leftMs ?? 0).toBeLessThanOrEqual(leaseMsFor(GATEWAY_TIMEOUT_MS))
      await settleAll(service, ids)
      for (const id of ids) {
        const { status } = (await service.history(id)).order
        expect(status).toBe(sandboxes.wechat.getTrade(id)?.state === 'SUCCESS' ? 'success' : 'close')
      }
      expect(await breachesOf(service.pool)).toEqual([])
    }
  } finally {
    console.log(
      `database killed ${KILLS} times (FAULT_SEED=${seed}): answers by code ${JSON.stringify(Object.fromEntries(codes))}, ` +
        `ready again after at most ${Math.round(slowestReadyMs)} ms, slowest answer ${Math.round(slowestAnswerMs)} ms`,
    )
    await service.stop()
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
    await database.drop()
  }
  for (const code of codes.keys()) expect([0, 10007, 10001]).toContain(code)
  expect(slowestAnswerMs).toBeLessThan(ANSWER_MS_MAX)
})

it.each([
  ['before the lease', null],
  ['before the commit', 'commit_sync'],
] as const)(
  'a half-open connection to PostgreSQL %s: 10001 within the bounds, and well again by itself',
  async (_, text) => {
    const own = await startOwnDatabase()
    const sandboxes = await startSandboxes()
    const { proxy, url } = await proxyDatabase(own.database.url)
    const environment = { GATEWAY_TIMEOUT_MS: String(GATEWAY_TIMEOUT_MS), DATABASE_URL: url }
    const service = await startService({ database: own.database, sandboxes, environment })
    try {
      const [id = ''] = await newOrders(service, 1)
      const silenced =
        text === null ? proxy.setMode('silent') : proxy.cutOn(text, 'before').then(() => proxy.setMode('silent'))
      const startedMs = performance.now()
      expect(await service.sync(id)).toMatchObject({ code: 10001, data: null })
      const tookMs = performance.now() - startedMs
      await silenced
      console.log(`half-open, answered after ${Math.round(tookMs)} ms (at most ${ANSWER_MS_MAX})`)
      expect(tookMs).toBeLessThan(ANSWER_MS_MAX)
      proxy.setMode('open')
      expect(await untilReady(service)).toBeLessThan(READY_MS_MAX)
      await settleAll(service, [id])
      expect((await service.history(id)).repairs).toHaveLength(1)
      expect(await breachesOf(service.pool)).toEqual([])
    } finally {
      await service.stop()
      await proxy.close()
      await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
      await own.database.drop()
    }
  },
)

it('commits whose answers are lost, 50 times under load: each answer tells what the database holds', async () => {
  const own = await startOwnDatabase()
  const sandboxes = await startSandboxes()
  const { proxy, url } = await proxyDatabase(own.database.url)
  const service = await startService({ database: own.database, sandboxes, environment: { DATABASE_URL: url } })
  try {
    const ids = await newOrders(service, 50)
    for (let cut = 0; cut < ids.length; cut++) void proxy.cutOn('commit_sync', cut % 2 === 0 ? 'after' : 'before')
    const answers = await Promise.all(ids.map(async (id) => ({ id, ...(await service.sync(id)) })))
    for (const { id, code, data } of answers) {
      const { repairs } = await service.history(id)
      if (code === 0) expect(repairs.map(({ repairOrderNo }) => repairOrderNo)).toEqual([data?.repairOrderNo])
      else expect(code).toBe(10001)
    }
    await settleAll(service, ids)
    for (const id of ids) expect((await service.history(id)).repairs).toHaveLength(1)
    expect(await breachesOf(service.pool)).toEqual([])
  } finally {
    await service.stop()
    await proxy.close()
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
    await own.database.drop()
  }
})
