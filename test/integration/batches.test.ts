import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { createLog } from '../../src/log.js'
import { createBatches } from '../../src/store/batches.js'
import { createBatchRunner } from '../../src/sync/batch.js'
import { startService, type TestService } from '../support/service.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

type Batch = {
  id: string
  state: string
  actor: string
  total: number
  done: number
  dryRun: boolean
  cancelledBy: string | null
  results: Record<string, { count: number; fen: number }>
}

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

/** Runs this process's batches until none is left. */
async function run(): Promise<void> {
  for (let rounds = 0; await service.service.batchRunner.runOnce(); rounds++) {
    if (rounds > 200) throw new Error('the batch does not come to an end')
  }
}

async function create(body: Record<string, unknown>): Promise<Batch> {
  const { status, body: made } = await service.ops('POST', '/ops/batches', body)
  expect(status).toBe(202)
  return made as Batch
}

async function batch(id: string): Promise<Batch> {
  return (await service.ops('GET', `/ops/batches/${id}`)).body as Batch
}

/** What was put off is due now, and what is under way stays so: the tests' way to let time pass. */
async function makeItemsDue(id: string, within = '6 seconds'): Promise<void> {
  await service.pool.query(
    'UPDATE batch_items SET due_at = now() WHERE batch_id = $1 AND due_at < now() + $2::interval',
    [id, within],
  )
}

/** Orders of one minute of their own, so that a batch can choose exactly them. */
let minute = Date.parse('2026-01-01T00:00:00Z')
async function orders(trades: readonly (Record<string, unknown> | null)[]) {
  minute += 60_000
  const window = { createdFrom: new Date(minute).toISOString(), createdTo: new Date(minute + 60_000).toISOString() }
  const ids: string[] = []
  for (const [index, trade] of trades.entries()) {
    const id = await service.register({ createTime: new Date(minute + index).toISOString(), amount: 1000 + index })
    if (trade !== null) service.wechat.putTrade(id, { amount: 1000 + index, state: 'NOTPAY', ...trade })
    ids.push(id)
  }
  return { ids, window }
}

const WINDOW_EMPTY = 'createdFrom: is not before createdTo: no order was created in between'

/** A further instance, whose connections to the database can be cut. */
async function serviceBehindProxy() {
  const { proxy, url } = await proxyDatabase(service.database.url)
  const own = await startService({
    database: service.database,
    sandboxes: service,
    environment: { DATABASE_URL: url },
  })
  return { own, proxy }
}

describe('a batch', () => {
  it('first dry, then real: the same counts and money by result, and only the real one changes orders', async () => {
    const { ids, window } = await orders([
      { state: 'SUCCESS' },
      { state: 'SUCCESS' },
      { state: 'CLOSED' },
      {},
      { state: 'SUCCESS', amount: 1 },
    ])
    const expected = {
      settled: { count: 2, fen: 2001 },
      closed_local: { count: 1, fen: 1002 },
      waiting: { count: 1, fen: 1003 },
      mismatch: { count: 1, fen: 1004 },
    }
    const dry = await create({ ...window, dryRun: true })
    expect(dry).toMatchObject({ state: 'running', actor: 'tester', total: 5, done: 0, dryRun: true })
    await run()
    expect(await batch(dry.id)).toMatchObject({ state: 'done', total: 5, done: 5, results: expected })
    for (const id of ids) expect(await service.history(id)).toMatchObject({ order: { status: 'progress' }, syncs: [] })

    const real = await create({ ...window, status: 'progress' })
    await run()
    expect(await batch(real.id)).toMatchObject({ state: 'done', results: expected })
    const statuses = await Promise.all(ids.map(async (id) => (await service.history(id)).order.status))
    expect(statuses).toEqual(['success', 'success', 'close', 'progress', 'progress'])
    const { syncs, repairs } = await service.history(ids[0] ?? '')
    expect(syncs).toMatchObject([{ source: 'batch', actor: 'tester' }])
    expect(repairs).toMatchObject([{ actor: 'tester' }])
  })

  it('takes no more orders than its limit, and only those of its filter', async () => {
    const { window } = await orders([{}, {}, {}])
    expect(await create({ ...window, limit: 2, dryRun: true })).toMatchObject({ total: 2 })
    expect(await create({ ...window, channel: 'ali_pay', dryRun: true })).toMatchObject({ total: 0 })
    expect(await create({ ...window, status: 'close', dryRun: true })).toMatchObject({ total: 0 })
    await run()
    expect(await service.ops('POST', '/ops/batches', { limit: 0 })).toMatchObject({ status: 400 })
    expect(await service.ops('GET', '/ops/batches/999999')).toMatchObject({ status: 404 })
  })

  it.each([
    ['', { dry_run: true }, 'body: has a field dry_run, which no batch has (dryRun?)'],
    ['', { stauts: 'progress' }, 'body: has a field stauts, which no batch has'],
    ['?dryRun=true', {}, 'query: has a parameter dryRun, which no such call has'],
    ['', { createdFrom: '2026-01-02T00:00:00+08:00', createdTo: '2026-01-01T16:00:00Z' }, WINDOW_EMPTY],
    ['', { createdFrom: '2026-01-02T00:00:00Z', createdTo: '2026-01-01T00:00:00Z' }, WINDOW_EMPTY],
  ])('asked for with what it does not know, or of no time at all (%j, %j), is none', async (query, body, detail) => {
    const before = (await service.ops('GET', '/ops/batches')).body
    expect(await service.ops('POST', `/ops/batches${query}`, body)).toMatchObject({ status: 400, body: { detail } })
    expect((await service.ops('GET', '/ops/batches')).body).toEqual(before)
  })

  it('cancelled starts nothing more, and resumed does the rest', async () => {
    const { window } = await orders(Array.from({ length: 6 }, () => ({ state: 'SUCCESS' })))
    const { id } = await create({ ...window, ratePerS: 1 })
    await service.service.batchRunner.runOnce()
    expect(await service.ops('POST', `/ops/batches/${id}/cancel`)).toMatchObject({
      status: 200,
      body: { state: 'cancelled', cancelledBy: 'tester' },
    })
    await run()
    const halted = await batch(id)
    expect(halted.state).toBe('cancelled')
    expect(halted.done).toBeLessThan(6)
    expect(await service.ops('POST', `/ops/batches/${id}/cancel`)).toMatchObject({ status: 409 })
    await service.pool.query('UPDATE batches SET rate_per_s = 100 WHERE id = $1', [id])
    expect(await service.ops('POST', `/ops/batches/${id}/resume`)).toMatchObject({ body: { state: 'running' } })
    await run()
    expect(await batch(id)).toMatchObject({ state: 'done', results: { settled: { count: 6, fen: 6015 } } })
  })

  it('asks again, when resumed, about orders whose gateway could not tell', async () => {
    const { ids, window } = await orders([{ state: 'SUCCESS' }])
    service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 1, outTradeNo: ids[0] ?? '' }])
    const { id } = await create(window)
    await run()
    expect(await batch(id)).toMatchObject({ state: 'done', results: { unknown: { count: 1, fen: 1000 } } })
    await service.ops('POST', `/ops/batches/${id}/resume`)
    await run()
    const after = await batch(id)
    expect(after.results).toEqual({ settled: { count: 1, fen: 1000 } })
  })

  it('whose runner died after a commit and before its report counts that repair, once', async () => {
    const { ids, window } = await orders([{ state: 'SUCCESS' }])
    const { id } = await create(window)
    // What a runner leaves behind that is killed there: its claim, the item taken, the sync committed, no result.
    const { rows } = await service.pool.query<{ trace_id: string }>(
      `UPDATE batch_items SET tries = 1, due_at = now() + interval '1 hour' WHERE batch_id = $1 RETURNING trace_id`,
      [id],
    )
    await service.pool.query(
      'UPDATE batches SET claim_token = gen_random_uuid(), claim_expires_at = now() WHERE id = $1',
      [id],
    )
    await service.service.syncOrder({
      key: { id: BigInt(ids[0] ?? 0) as never },
      traceId: rows[0]?.trace_id ?? '',
      traceparent: null,
      source: 'batch',
      actor: 'tester',
      clientIp: null,
      dryRun: false,
    })
    await run()
    expect(await batch(id)).toMatchObject({ state: 'done', results: { settled: { count: 1, fen: 1000 } } })
    expect((await service.history(ids[0] ?? '')).syncs).toHaveLength(1)
  })

  it('counts a repair, once, whose commit was done although its answer was lost', async () => {
    const { own, proxy } = await serviceBehindProxy()
    try {
      const { ids, window } = await orders([{ state: 'SUCCESS' }])
      const { id } = await create(window)
      // The commit's second try finds no database either.
      const isLost = proxy.cutOn('commit_sync', 'after').then(() => proxy.setMode('closed'))
      await own.service.batchRunner.runOnce()
      await isLost
      await expect.poll(async () => await own.service.batchRunner.runOnce().catch(() => false)).toBe(false)
      proxy.setMode('open')
      const { runOnce } = own.service.batchRunner
      for (let rounds = 0; (await runOnce()) && rounds < 100; rounds++) await makeItemsDue(id)
      expect(await batch(id)).toMatchObject({ state: 'done', results: { settled: { count: 1, fen: 1000 } } })
      expect(await service.history(ids[0] ?? '')).toMatchObject({ syncs: [{}], repairs: [{}] })
    } finally {
      await own.stop()
      await proxy.close()
    }
  })

  describe('of an order whose sync threw and left a record of that', () => {
    /** Until the test lets it, nothing of the order can be repaired. */
    async function refuseRepairs(orderId: string): Promise<() => Promise<void>> {
      await service.pool.query(
        `ALTER TABLE repair_records ADD CONSTRAINT refused CHECK (order_id <> ${orderId}) NOT VALID`,
      )
      return async () => void (await service.pool.query('ALTER TABLE repair_records DROP CONSTRAINT refused'))
    }

    async function finish(id: string, { batchRunner }: TestService['service']): Promise<void> {
      await makeItemsDue(id)
      for (let rounds = 0; (await batchRunner.runOnce()) && rounds < 100; rounds++) await makeItemsDue(id)
    }

    it('asks again', async () => {
      const { ids, window } = await orders([{ state: 'SUCCESS' }])
      const orderId = ids[0] ?? ''
      const allowRepairs = await refuseRepairs(orderId)
      const { id } = await create(window)
      await service.service.batchRunner.runOnce()
      await expect.poll(async () => (await service.history(orderId)).syncs).toMatchObject([{ outcome: 'failed' }])
      await allowRepairs()
      await finish(id, service.service)
      expect(await batch(id)).toMatchObject({ state: 'done', results: { settled: { count: 1, fen: 1000 } } })
      expect(await service.history(orderId)).toMatchObject({
        syncs: [{ outcome: 'synced' }, { outcome: 'failed' }],
        repairs: [{}],
      })
    })

    it('does not take that record for the commit of a later try, which was lost with the lease', async () => {
      const { own, proxy } = await serviceBehindProxy()
      try {
        const { ids, window } = await orders([{ state: 'SUCCESS' }])
        const orderId = ids[0] ?? ''
        const allowRepairs = await refuseRepairs(orderId)
        const { id } = await create(window)
        await own.service.batchRunner.runOnce()
        await expect.poll(async () => (await service.history(orderId)).syncs).toMatchObject([{ outcome: 'failed' }])
        await allowRepairs()
        const hold = service.wechat.holdNext('query', orderId)
        await expect
          .poll(async () => {
            await makeItemsDue(id)
            await own.service.batchRunner.runOnce()
            return service.wechat.calls(orderId).query
          })
          .toBe(2)
        await hold.arrived
        await service.pool.query('UPDATE orders SET lease_token = gen_random_uuid() WHERE id = $1', [orderId])
        const isCut = proxy.cutOn('commit_sync', 'before')
        hold.release()
        await isCut
        await own.service.batchRunner.runOnce()
        await service.pool.query('UPDATE orders SET lease_expires_at = now() WHERE id = $1', [orderId])
        await finish(id, own.service)
        expect(await batch(id)).toMatchObject({ state: 'done', results: { settled: { count: 1, fen: 1000 } } })
        expect(await service.history(orderId)).toMatchObject({ order: { status: 'success' }, repairs: [{}] })
      } finally {
        await own.stop()
        await proxy.close()
      }
    })
  })

  it('asks again about an order whose sync throws, a bounded number of times', async () => {
    const { window } = await orders([null])
    const { id } = await create(window)
    let asked = 0
    const runner = createBatchRunner({
      batches: createBatches(service.pool, { channels: ['wechat_pay'], takenMs: 34_000 }),
      gateways: { wechat_pay: { availability: () => 'closed' } },
      syncOrder: async () => {
        asked += 1
        throw new Error('the database went away')
      },
      concurrency: 8,
      log: createLog('silent'),
      monotonicMs: () => performance.now(),
    })
    for (let rounds = 0; (await runner.runOnce()) && rounds < 100; rounds++) await makeItemsDue(id)
    expect(await batch(id)).toMatchObject({ state: 'done', results: { failed: { count: 1, fen: 1000 } } })
    expect(asked).toBe(12)
  })

  it.each(['open', 'not configured'] as const)(
    'whose gateway is %s keeps no place from another gateway’s, and goes on once it can',
    async (state) => {
      const waiting: Batch[] = []
      // More than a process runs at once.
      while (waiting.length < 6) waiting.push(await create((await orders([{ state: 'SUCCESS' }])).window))
      const { window } = await orders([])
      const alipayId = await service.register({ channel: 'ali_pay', createTime: window.createdFrom })
      service.alipay.putTrade(alipayId, { state: 'TRADE_SUCCESS', amount: 1000 })
      const alipay = await create(window)
      const reachable = { availability: () => 'closed' as const }
      const runner = createBatchRunner({
        batches: createBatches(service.pool, { channels: ['wechat_pay', 'ali_pay'], takenMs: 34_000 }),
        gateways: {
          ali_pay: reachable,
          ...(state === 'open' ? { wechat_pay: { availability: () => state } } : {}),
        },
        syncOrder: service.service.syncOrder,
        concurrency: 8,
        log: createLog('silent'),
        monotonicMs: () => performance.now(),
      })
      for (let rounds = 0; rounds < 12; rounds++) await runner.runOnce()
      expect(await batch(alipay.id)).toMatchObject({ state: 'done', results: { settled: { count: 1, fen: 1000 } } })
      await runner.drain()
      for (const { id } of waiting) expect(await batch(id)).toMatchObject({ state: 'running', done: 0 })
      await run()
      for (const { id } of waiting) {
        expect(await batch(id)).toMatchObject({ state: 'done', results: { settled: { count: 1, fen: 1000 } } })
      }
    },
  )

  it('that is given back and claimed again asks no sooner for what was put off', async () => {
    const { window } = await orders([{ state: 'SUCCESS' }])
    const { id } = await create(window)
    const batches = createBatches(service.pool, { channels: ['wechat_pay'], takenMs: 34_000 })
    const claimed = async () => {
      const claim = await batches.claim(0n)
      if (claim?.batch.id !== BigInt(id)) throw new Error('another batch')
      return claim
    }
    const first = await claimed()
    const [item] = await batches.take(first, ['wechat_pay'], 8)
    expect(item?.tries).toBe(1)
    await batches.renew(first, [], item === undefined ? [] : [item.orderId], 60)
    await batches.release(first)
    const second = await claimed()
    expect(await batches.take(second, ['wechat_pay'], 8)).toEqual([])
    // Of a runner that died nobody knows what it had put off and what it was at.
    await service.pool.query('UPDATE batches SET claim_expires_at = now() WHERE id = $1', [id])
    const third = await claimed()
    expect(await batches.take(third, ['wechat_pay'], 8)).toMatchObject([{ tries: 2 }])
    await batches.release(third)
    await makeItemsDue(id, '1 minute')
    await run()
  })

  it('does not keep a process from leaving in good order while the database is away', async () => {
    const { own, proxy } = await serviceBehindProxy()
    try {
      const { ids, window } = await orders([{ state: 'SUCCESS' }])
      await create(window)
      const hold = service.wechat.holdNext('query', ids[0] ?? '')
      await own.service.batchRunner.runOnce()
      await hold.arrived
      proxy.setMode('closed')
      hold.release()
      await own.service.batchRunner.drain()
    } finally {
      await own.stop()
      await proxy.close()
    }
    // Whoever claims it next finds it as it was left: the claim and the lease run out by themselves, here at once.
    await service.pool.query('UPDATE batches SET claim_expires_at = now()')
    await service.pool.query('UPDATE orders SET lease_expires_at = now() WHERE lease_token IS NOT NULL')
    await run()
  })
})
