import { describe, expect, it } from 'vitest'

import { createMerchantSandbox } from '../../src/sandbox/merchant.js'
import { createDatabase } from '../support/database.js'
import { SECRET, startSandboxes } from '../support/service.js'
import { type ServiceProcess, seededRandom, startServiceProcess } from '../support/service-process.js'

const INSTANCES = 3
/** Bounds on each run: far above what it takes, so that only work that stands still fails it. */
const RUN_MS_MAX = 240_000
const FIRST_ID = 1_753_370_000_000_000_000n

/** Orders that are due now; one in four has expired. */
const FILL = `
INSERT INTO orders (id, business_no, channel, amount_fen, out_trade_no, created_at, expires_at, next_sync_at, notify_url)
SELECT $1::bigint + n, 'B' || n, 'wechat_pay', 1000, ($1::bigint + n)::text, now() - interval '1 hour',
  now() + CASE WHEN n % 4 = 3 THEN interval '-1 minute' ELSE interval '1 hour' END,
  now() - n * interval '1 millisecond', $2
FROM generate_series(0, $3 - 1) AS n`

type Killing = Readonly<{ random: () => number; times: number }> | null

/** Three instances, one database: until no order is due and no notice is pending. */
async function workOff(count: number, killing: Killing) {
  const database = await createDatabase()
  const sandboxes = await startSandboxes()
  const merchant = createMerchantSandbox({ secrets: [SECRET], signType: 'MD5' })
  const { url } = await merchant.listen()
  const pool = database.pool()
  const start = async () =>
    await startServiceProcess({
      DATABASE_URL: database.url,
      DATABASE_POOL_MAX: '12',
      SIGN_SECRETS: SECRET,
      ROLES: 'sweeper,courier',
      GATEWAY_RATE_PER_S: '5000',
      // Short, so that the claims of a killed instance end within the test.
      GATEWAY_TIMEOUT_MS: '1000',
      ...sandboxes.wechat.merchantSettings(),
      ...sandboxes.alipay.merchantSettings(),
    })
  const instances: ServiceProcess[] = []
  let killed = 0
  try {
    for (let n = 0; n < count; n++) {
      // Three in four are paid there; the rest expired unpaid.
      const state = n % 4 === 3 ? 'NOTPAY' : 'SUCCESS'
      sandboxes.wechat.putTrade((FIRST_ID + BigInt(n)).toString(), { state, amount: 1000 })
    }
    await pool.query(FILL, [FIRST_ID.toString(), `${url}/n`, count])
    await pool.query('ANALYZE orders')
    instances.push(...(await Promise.all(Array.from({ length: INSTANCES }, start))))
    const deadline = performance.now() + RUN_MS_MAX
    while (!(await isDone(pool))) {
      if (performance.now() > deadline) throw new Error('the work did not come to its end')
      if (killing === null || killed >= killing.times || killing.random() < 0.5) continue
      const victim = Math.floor(killing.random() * INSTANCES)
      await instances[victim]?.kill()
      killed++
      instances[victim] = await start()
    }
    return { ...(await resultOf(pool, sandboxes.wechat, merchant)), killed }
  } finally {
    await Promise.all(instances.map(async (instance) => await instance.stop()))
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close(), merchant.close()])
    await database.drop()
  }
}

async function isDone(pool: ReturnType<Awaited<ReturnType<typeof createDatabase>>['pool']>): Promise<boolean> {
  // The statement waits, not the test.
  const { rows } = await pool.query<{ left: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM orders WHERE next_sync_at IS NOT NULL)
       OR EXISTS (SELECT 1 FROM notices WHERE state = 'pending') AS left FROM pg_sleep(0.3)`,
  )
  return rows[0]?.left === false
}

async function resultOf(
  pool: ReturnType<Awaited<ReturnType<typeof createDatabase>>['pool']>,
  wechat: Awaited<ReturnType<typeof startSandboxes>>['wechat'],
  merchant: ReturnType<typeof createMerchantSandbox>,
) {
  const { rows: orders } = await pool.query<{ id: string; status: string; syncs: number; repairs: number }>(
    `SELECT id, status,
       (SELECT count(*)::int FROM sync_records s WHERE s.order_id = o.id) AS syncs,
       (SELECT count(*)::int FROM repair_records r WHERE r.order_id = o.id) AS repairs
     FROM orders o ORDER BY id`,
  )
  const { rows: noticeStates } = await pool.query<{ state: string; count: number }>(
    'SELECT state, count(*)::int AS count FROM notices GROUP BY state',
  )
  const told = new Map<string, number>()
  let forged = 0
  for (const { body, verified } of merchant.notices()) {
    if (!verified) forged++
    const id = String(body['paymentId'])
    told.set(id, (told.get(id) ?? 0) + 1)
  }
  return {
    orders,
    noticeStates,
    forged,
    told,
    /** Gateway queries beyond the one (paid) or the two (closed) that each order needs. */
    extraQueries: orders.map(({ id, status }) => wechat.calls(id).query - (status === 'close' ? 2 : 1)),
    queriesAtOnce: Math.max(...orders.map(({ id }) => wechat.calls(id).queriesInFlightMax)),
  }
}

describe('three instances on one database', () => {
  it('5,000 due orders, nobody killed: each asked for once, settled or closed, and told of exactly once', async () => {
    const { orders, noticeStates, told, forged, extraQueries, queriesAtOnce } = await workOff(5_000, null)
    expect(orders).toHaveLength(5_000)
    for (const [n, order] of orders.entries()) {
      expect(order).toMatchObject({ status: n % 4 === 3 ? 'close' : 'success', syncs: 1, repairs: 1 })
      expect(told.get(order.id)).toBe(1)
    }
    expect(noticeStates).toEqual([{ state: 'delivered', count: 5_000 }])
    expect([forged, queriesAtOnce, Math.max(...extraQueries)]).toEqual([0, 1, 0])
  })

  it('20,000 due orders, instances killed and started again at random: all come right, all are told of', async () => {
    const seed = Number(process.env['TEST_SEED'] ?? Date.now() % 2 ** 31)
    process.stdout.write(`TEST_SEED=${seed}\n`)
    const result = await workOff(20_000, { random: seededRandom(seed), times: 8 })
    const { orders, told, forged, extraQueries, queriesAtOnce, killed } = result
    expect(killed).toBeGreaterThan(0)
    for (const [n, order] of orders.entries()) {
      expect(order).toMatchObject({ status: n % 4 === 3 ? 'close' : 'success', syncs: 1, repairs: 1 })
      expect(told.get(order.id)).toBeGreaterThanOrEqual(1)
    }
    expect(result.noticeStates).toEqual([{ state: 'delivered', count: 20_000 }])
    // Each kill can cost at most the syncs that its instance had under way, asked for once more (a close: twice).
    expect(Math.max(...extraQueries)).toBeLessThanOrEqual(2 * killed)
    expect(extraQueries.filter((extra) => extra > 0).length).toBeLessThanOrEqual(killed * 64)
    expect([forged, queriesAtOnce]).toEqual([0, 1])
  })
})
