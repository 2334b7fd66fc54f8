// A gateway that is away for hours: it is left alone, and what came due meanwhile is caught up with at its rate.
import { expect, it } from 'vitest'

import { createDatabase } from '../support/database.js'
import { breachesOf } from '../support/invariants.js'
import { SECRET, startSandboxes } from '../support/service.js'
import { startServiceProcess } from '../support/service-process.js'
import { proxyHttp } from '../support/tcp-proxy.js'

const ORDERS = 3_000
const RATE_PER_S = 100
/** The outage: this many steps of a quarter of an hour, each of which takes a real second. */
const STEPS = 16
const STEP = '15 minutes'
const FIRST_ID = 1_753_380_000_000_000_000n
/** The breaker's: calls until it opens, and one at a time after each pause; a call has at most 5 tries. */
const CALLS_BEFORE_OPEN = 30
const PROBE_EVERY_S = 5
const TRIES_MAX = 5
/** Half of the channel's places (GATEWAY_CONCURRENCY 64): under way when the breaker opens. */
const PLACES = 32
/**
 * What lies between a request's leave and its arrival varies by this much on a busy machine. The rate is kept where requests
 * leave, in every second (the caller's own tests hold that); here, where they arrive, only windows shorter by this can tell.
 */
const JITTER_MS = 500

/** Orders that come due one after the other in the hours to come. */
const FILL = `
INSERT INTO orders (id, business_no, channel, amount_fen, out_trade_no, created_at, expires_at, next_sync_at)
SELECT $1::bigint + n, 'B' || n, 'wechat_pay', 1000, ($1::bigint + n)::text, now() - interval '10 minutes',
  now() + interval '1 day', now() + (n * $2::float8 / $3) * interval '${STEP}'
FROM generate_series(0, $3 - 1) AS n`
const LET_TIME_PASS = `UPDATE orders SET next_sync_at = next_sync_at - interval '${STEP}',
  created_at = created_at - interval '${STEP}', expires_at = expires_at - interval '${STEP}' WHERE next_sync_at IS NOT NULL`

it('four hours without the gateway: it is left alone, then asked about every order at its rate, oldest first', async () => {
  const [database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
  const { wechat } = sandboxes
  const { proxy, url } = await proxyHttp(wechat.merchantSettings()['WECHAT_BASE_URLS'] ?? '')
  const pool = database.pool()
  const ids = Array.from({ length: ORDERS }, (_, n) => (FIRST_ID + BigInt(n)).toString())
  for (const id of ids) wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  await pool.query(FILL, [FIRST_ID.toString(), STEPS, ORDERS])
  await pool.query('ANALYZE orders')
  proxy.setMode('closed')
  const service = await startServiceProcess({
    DATABASE_URL: database.url,
    SIGN_SECRETS: SECRET,
    ROLES: 'sweeper',
    GATEWAY_RATE_PER_S: String(RATE_PER_S),
    ...wechat.merchantSettings(),
    WECHAT_BASE_URLS: url.replace(/\/$/, ''),
  }).catch(async (cause: unknown) => {
    await proxy.close()
    throw cause
  })
  const due = async (waitS: number) => {
    const { rows } = await pool.query<{ id: string }>(
      `SELECT id FROM orders, (SELECT pg_sleep($1)) AS waited WHERE next_sync_at <= clock_timestamp() ORDER BY next_sync_at, id`,
      [waitS],
    )
    return rows.map(({ id }) => id)
  }
  try {
    for (let step = 0; step < STEPS; step++) {
      await pool.query(LET_TIME_PASS)
      await due(1)
    }
    const attempts = proxy.attempts()
    expect(attempts).toBeGreaterThan(0)
    expect(attempts).toBeLessThanOrEqual((CALLS_BEFORE_OPEN + PLACES + STEPS / PROBE_EVERY_S + 1) * TRIES_MAX)

    // What failed just now waits for its next try; everything else has been waiting for hours.
    const backlog = await due(0)
    expect(backlog.length).toBeGreaterThan(0.95 * ORDERS)
    proxy.setMode('open')
    const openedMs = Date.now()
    const deadline = performance.now() + 120_000
    for (let left = backlog; left.length > 0; left = await due(0.2)) {
      if (performance.now() > deadline) throw new Error(`${left.length} orders are still due`)
    }
    const asked = wechat.requests().map(({ outTradeNo, at }) => ({ id: outTradeNo ?? '', atMs: Date.parse(at) }))
    const [first, last] = [asked[0]?.atMs ?? 0, asked.at(-1)?.atMs ?? 0]
    const drainedS = (last - first) / 1000
    const within = (ms: number) =>
      Math.max(...asked.map(({ atMs }) => asked.filter((one) => one.atMs >= atMs && one.atMs < atMs + ms).length))
    const fullest = within(1000 - JITTER_MS)
    console.log(
      `outage: ${attempts} connections in ${STEPS} s (4 h simulated); probed ${first - openedMs} ms after the gateway was back; ` +
        `${backlog.length} due orders asked for in ${drainedS} s (ideal ${backlog.length / RATE_PER_S} s), at most ${fullest} within ${1000 - JITTER_MS} ms`,
    )
    expect(first - openedMs).toBeLessThan((PROBE_EVERY_S + 2) * 1000)
    expect(drainedS).toBeLessThanOrEqual((backlog.length / RATE_PER_S) * 1.1)
    // Nor faster than the rate lets them through: the one second that may come at once at the start is left out.
    expect(drainedS).toBeGreaterThanOrEqual((backlog.length / RATE_PER_S - 1) * 0.98)
    expect(fullest).toBeLessThanOrEqual(RATE_PER_S)
    const position = new Map(backlog.map((id, index) => [id, index]))
    const order = asked.flatMap(({ id }) => position.get(id) ?? [])
    for (const [index, place] of order.entries()) expect(Math.abs(index - place)).toBeLessThanOrEqual(3 * PLACES)
    const { rows } = await pool.query(
      `SELECT count(*)::int AS left FROM orders WHERE id = ANY($1::bigint[]) AND status <> 'success'`,
      [backlog],
    )
    expect(rows).toEqual([{ left: 0 }])
    expect(await breachesOf(pool)).toEqual([])
  } finally {
    await service.kill()
    await proxy.close()
    await Promise.all([wechat.close(), sandboxes.alipay.close()])
    await database.drop()
  }
})
