import { describe, expect, it } from 'vitest'

import { createMerchantSandbox } from '../../src/sandbox/merchant.js'
import { createDatabase } from '../support/database.js'
import { SECRET, startSandboxes } from '../support/service.js'
import { type ServiceProcess, seededRandom, startServiceProcess } from '../support/service-process.js'

const INSTANCES = 3
const ORDERS = 20_000
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

/** While at least so many orders are due, there is work for everybody. */
const PLENTY = 1_000
/** Between two looks at what each instance did; one that has not synced anything within it stood idle. Seconds. */
const LOOK_S = 1

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
      // Short where instances are killed, so that their claims end within the test; else what is usual, so that nothing
      // is asked for again because a busy machine was late.
      GATEWAY_TIMEOUT_MS: killing === null ? '8000' : '1000',
      ...sandboxes.wechat.merchantSettings(),
      ...sandboxes.alipay.merchantSettings(),
    })
  const instances: ServiceProcess[] = []
  let killed = 0
  /** Of each look while there was plenty to do: how many orders each instance had synced since the last one. */
  const looks: number[][] = []
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
    let before: number[] | null = null
    for (let left = await workLeft(pool); left.orders > 0 || left.notices > 0; left = await workLeft(pool)) {
      if (performance.now() > deadline) throw new Error('the work did not come to its end')
      if (killing === null) {
        const synced = await Promise.all(instances.map(syncedBy))
        if (before !== null && left.due >= PLENTY) looks.push(synced.map((count, n) => count - (before?.[n] ?? 0)))
        before = synced
        continue
      }
      if (killed >= killing.times || killing.random() < 0.5) continue
      const victim = Math.floor(killing.random() * INSTANCES)
      await instances[victim]?.kill()
      killed++
      instances[victim] = await start()
    }
    return { ...(await resultOf(pool, sandboxes.wechat, merchant)), killed, looks }
  } finally {
    await Promise.all(instances.map(async (instance) => await instance.stop()))
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close(), merchant.close()])
    await database.drop()
  }
}

type WorkLeft = { orders: number; due: number; notices: number }

async function workLeft(pool: ReturnType<Awaited<ReturnType<typeof createDatabase>>['pool']>): Promise<WorkLeft> {
  // The statement waits, not the test.
  await pool.query('SELECT pg_sleep($1)', [LOOK_S])
  const { rows } = await pool.query<WorkLeft>(
    `SELECT (SELECT count(*) FROM orders WHERE next_sync_at IS NOT NULL)::int AS orders,
       (SELECT count(*) FROM orders WHERE next_sync_at <= clock_timestamp())::int AS due,
       (SELECT count(*) FROM notices WHERE state = 'pending')::int AS notices`,
  )
  const left = rows[0]
  if (left === undefined) throw new Error('no answer')
  return left
}

/** The orders that this instance has synced since its start, as its metrics tell. */
async function syncedBy({ url }: ServiceProcess): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const counts = text.matchAll(/^unipay_sync_duration_seconds_count\{[^}]*source="sweeper"[^}]*\} (\d+)$/gm)
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
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
  const { rows: misses } = await pool.query<{ outcome: string; reason: string; count: number }>(
    `SELECT outcome, split_part(error_msg, ':', 1) AS reason, count(*)::int AS count FROM sync_records
     WHERE outcome <> 'synced' GROUP BY 1, 2`,
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
    /** The syncs that learned nothing, and why: their orders came due once more. */
    misses,
    forged,
    told,
    /** Gateway queries beyond the one (paid) or the two (closed) that each order needs. */
    extraQueries: orders.map(({ id, status }) => wechat.calls(id).query - (status === 'close' ? 2 : 1)),
    queriesAtOnce: Math.max(...orders.map(({ id }) => wechat.calls(id).queriesInFlightMax)),
  }
}

describe('three instances on one database', () => {
  it('20,000 due orders, nobody killed: each asked for once, settled or closed, told of exactly once, and nobody idle', async () => {
    const result = await workOff(ORDERS, null)
    const { orders, noticeStates, told, forged, extraQueries, queriesAtOnce, looks, misses } = result
    expect(orders).toHaveLength(ORDERS)
    expect(misses).toEqual([])
    for (const [n, order] of orders.entries()) {
      expect(order).toMatchObject({ status: n % 4 === 3 ? 'close' : 'success', syncs: 1, repairs: 1 })
      expect(told.get(order.id)).toBe(1)
    }
    expect(noticeStates).toEqual([{ state: 'delivered', count: ORDERS }])
    expect([forged, queriesAtOnce, Math.max(...extraQueries)]).toEqual([0, 1, 0])
    console.log(`orders of each instance, second by second: ${JSON.stringify(looks)}`)
    expect(looks.length).toBeGreaterThan(1)
    for (const look of looks) for (const synced of look) expect(synced).toBeGreaterThan(0)
    const shares = Array.from({ length: INSTANCES }, (_, n) => looks.reduce((sum, look) => sum + (look[n] ?? 0), 0))
    const all = shares.reduce((sum, share) => sum + share, 0)
    // A third each, give or take what a busy machine gives to whom.
    for (const share of shares) expect(share / all).toBeGreaterThan(0.2)
  })

  it('20,000 due orders, instances killed and started again at random: all come right, all are told of', async () => {
    const seed = Number(process.env['TEST_SEED'] ?? Date.now() % 2 ** 31)
    console.log(`TEST_SEED=${seed}`)
    const result = await workOff(ORDERS, { random: seededRandom(seed), times: 8 })
    const { orders, told, forged, extraQueries, queriesAtOnce, killed, misses } = result
    expect(killed).toBeGreaterThan(0)
    for (const [n, order] of orders.entries()) {
      expect(order).toMatchObject({ status: n % 4 === 3 ? 'close' : 'success', repairs: 1 })
      expect(told.get(order.id)).toBeGreaterThanOrEqual(1)
    }
    // One sync that learned the truth for each order; beside it only those that a late answer left without one.
    const missed = misses.reduce((sum, { count }) => sum + count, 0)
    expect(orders.reduce((sum, { syncs }) => sum + syncs, 0)).toBe(ORDERS + missed)
    console.log(`killed ${killed} times; syncs that learned nothing: ${JSON.stringify(misses)}`)
    expect(result.noticeStates).toEqual([{ state: 'delivered', count: ORDERS }])
    // Each kill can cost at most the syncs that its instance had under way, asked for once more (a close: twice).
    // A sync that learned nothing has asked three times at most.
    expect(Math.max(...extraQueries)).toBeLessThanOrEqual(2 * killed + 3 * missed)
    expect(extraQueries.filter((extra) => extra > 0).length).toBeLessThanOrEqual(killed * 64 + missed)
    expect([forged, queriesAtOnce]).toEqual([0, 1])
  })
})
