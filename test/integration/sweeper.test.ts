import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { startLoop } from '../../src/loop.js'
import type { Sweeper } from '../../src/sync/sweeper.js'
import { finishRounds, makeOrdersDue } from '../support/rounds.js'
import { startService, type TestService } from '../support/service.js'

let service: TestService

beforeEach(async () => {
  service = await startService({ environment: { GATEWAY_RATE_PER_S: '2000', GATEWAY_TIMEOUT_MS: '3000' } })
})
afterEach(async () => {
  await service.stop()
})

const past = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString()
const sweeperOf = (from: TestService, index = 0): Sweeper => {
  const sweeper = from.service.sweepers[index]
  if (sweeper === undefined) throw new Error('no such channel')
  return sweeper
}
const registered = async (count: number, order: Parameters<TestService['register']>[0] = {}) => {
  const ids: string[] = []
  for (let index = 0; index < count; index++) ids.push(await service.register(order))
  return ids
}
/** Seconds until each order is due, in the order of the ids; null where it is at rest. */
async function dueInS(ids: readonly string[]): Promise<(number | null)[]> {
  const { rows } = await service.pool.query<{ id: string; due: number | null }>(
    'SELECT id, extract(epoch FROM next_sync_at - clock_timestamp())::float8 AS due FROM orders WHERE id = ANY($1::bigint[])',
    [ids],
  )
  return ids.map((id) => rows.find((row) => row.id === id)?.due ?? null)
}
async function syncedIds(): Promise<string[]> {
  const { rows } = await service.pool.query<{ order_id: string }>('SELECT order_id FROM sync_records ORDER BY id')
  return rows.map((row) => row.order_id)
}

describe('orders come right by themselves', () => {
  it('a due order that is paid there is settled, an expired one closed, and one not yet due is not asked for', async () => {
    const [paid = '', later = ''] = await registered(2)
    const [expired = ''] = await registered(1, { expiredTime: past(1) })
    for (const id of [paid, later]) service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    service.wechat.putTrade(expired, { state: 'NOTPAY', amount: 1000 })
    await makeOrdersDue(service.pool, [paid, expired])
    await finishRounds(sweeperOf(service))
    expect((await service.history(paid)).order.status).toBe('success')
    expect((await service.history(expired)).order.status).toBe('close')
    expect((await service.history(later)).order.status).toBe('progress')
    expect(service.wechat.calls(later).query).toBe(0)
    expect(await dueInS([paid, expired])).toEqual([null, null])
    expect((await service.history(paid)).syncs).toMatchObject([{ source: 'sweeper', outcome: 'synced' }])
  })

  it('a backlog is drained oldest first', async () => {
    const one = await startService({
      database: service.database,
      sandboxes: service,
      environment: { GATEWAY_CONCURRENCY: '1' },
    })
    try {
      const ids = await registered(12)
      for (const [index, id] of ids.entries()) {
        service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
        // Registered last, due longest.
        await service.pool.query("UPDATE orders SET next_sync_at = now() - $2 * interval '1 minute' WHERE id = $1", [
          id,
          index + 1,
        ])
      }
      await finishRounds(sweeperOf(one))
      expect(await syncedIds()).toEqual(ids.toReversed())
    } finally {
      await one.stop()
    }
  })

  it('each channel is swept for itself: one that hangs does not keep the other waiting', async () => {
    const [hanging = ''] = await registered(1)
    const [alipay = ''] = await registered(1, { channel: 'ali_pay' })
    const hold = service.wechat.holdNext('query', hanging)
    service.wechat.putTrade(hanging, { state: 'SUCCESS', amount: 1000 })
    service.alipay.putTrade(alipay, { state: 'TRADE_SUCCESS', amount: 1000 })
    await makeOrdersDue(service.pool)
    await sweeperOf(service, 0).runOnce()
    await hold.arrived
    await finishRounds(sweeperOf(service, 1))
    expect((await service.history(alipay)).order.status).toBe('success')
    expect((await service.history(hanging)).order.status).toBe('progress')
    hold.release()
    await sweeperOf(service, 0).drain()
    expect((await service.history(hanging)).order.status).toBe('success')
  })

  it('an order closed before Alipay had a trade is watched: paid a day later, it is settled, and an exception', async () => {
    const [id = ''] = await registered(1, { channel: 'ali_pay', expiredTime: past(1) })
    const sweeper = sweeperOf(service, 1)
    await makeOrdersDue(service.pool)
    await finishRounds(sweeper)
    expect((await service.history(id)).order.status).toBe('close')
    for (const [closedForS, nextS] of [
      [301, 3299],
      [3601, 82_799],
    ] as const) {
      await service.pool.query("UPDATE orders SET close_time = now() - $2 * interval '1 second' WHERE id = $1", [
        id,
        closedForS,
      ])
      await makeOrdersDue(service.pool)
      await finishRounds(sweeper)
      const [due] = await dueInS([id])
      expect(due).toBeGreaterThan(nextS - 10)
      expect(due).toBeLessThan(nextS * 1.1 + 10)
    }
    service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    await makeOrdersDue(service.pool)
    await finishRounds(sweeper)
    const { order, exceptions } = await service.history(id)
    expect(order.status).toBe('success')
    expect(exceptions).toMatchObject([{ kind: 'paid_after_close', state: 'open' }])
    expect(await dueInS([id])).toEqual([null])
  })

  it('an order whose creation lies hours ahead is asked about at once, and at least every half hour', async () => {
    const [id = ''] = await registered(1, { createTime: past(-480), expiredTime: past(-510) })
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
    expect((await dueInS([id]))[0]).toBeLessThanOrEqual(5)
    await makeOrdersDue(service.pool)
    await finishRounds(sweeperOf(service))
    const [due] = await dueInS([id])
    expect(due).toBeGreaterThan(1_790)
    expect(due).toBeLessThanOrEqual(1_980)
  })

  it('an old order that is refunded there and was never settled here comes to a daily look, resolved or not', async () => {
    const [id = ''] = await registered(1, { createTime: past(60 * 1_440), expiredTime: past(59 * 1_440) })
    service.wechat.putTrade(id, { state: 'REFUND', amount: 1000, refunded: 1000 })
    for (const looks of [1, 2]) {
      await makeOrdersDue(service.pool)
      await finishRounds(sweeperOf(service))
      const { order, syncs, exceptions } = await service.history(id)
      expect({ status: order.status, syncs: syncs.length }).toEqual({ status: 'progress', syncs: looks })
      const [due] = await dueInS([id])
      expect(due).toBeGreaterThan(86_390)
      expect(due).toBeLessThanOrEqual(95_040)
      await service.ops('POST', `/ops/exceptions/${exceptions[0]?.id}/resolve`, { note: 'refunded by hand' })
    }
  })
})

describe('any number of instances share the work', () => {
  it('two sweepers at once: every due order is asked for exactly once', async () => {
    const other = await startService({ database: service.database, sandboxes: service })
    try {
      const ids = await registered(80)
      for (const id of ids) service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      await makeOrdersDue(service.pool)
      await Promise.all([finishRounds(sweeperOf(service)), finishRounds(sweeperOf(other))])
      expect((await syncedIds()).toSorted()).toEqual(ids)
      expect(ids.map((id) => service.wechat.calls(id).query)).toEqual(ids.map(() => 1))
    } finally {
      await other.stop()
    }
  })

  it('what a process that died had claimed comes due again by itself, after its lease and not before', async () => {
    const [id = ''] = await registered(1)
    await makeOrdersDue(service.pool)
    expect(await service.service.leases.claimDue('wechat_pay', 10)).toEqual([BigInt(id)])
    expect(await service.service.leases.claimDue('wechat_pay', 10)).toEqual([])
    const leased = await service.service.leases.acquire({ id: BigInt(id) as never }, { dryRun: false })
    expect(leased.kind).toBe('acquired')
    const { rows } = await service.pool.query(
      'SELECT next_sync_at > lease_expires_at AS later FROM orders WHERE id = $1',
      [id],
    )
    expect(rows).toEqual([{ later: true }])
  })

  it('a process that cannot finish gives its leases back: its orders are due at once, those at rest stay at rest', async () => {
    const [open = '', settled = ''] = await registered(2)
    await service.pool.query("UPDATE orders SET status = 'success', next_sync_at = NULL WHERE id = $1", [settled])
    for (const id of [open, settled])
      await service.service.leases.acquire({ id: BigInt(id) as never }, { dryRun: false })
    expect(await service.sync(open)).toMatchObject({ code: 10007 })
    expect(await service.service.leases.releaseHeld()).toBe(2)
    const { rows } = await service.pool.query<{ id: string; lease_token: null; is_due: boolean | null }>(
      'SELECT id, lease_token, next_sync_at <= clock_timestamp() AS is_due FROM orders ORDER BY id',
    )
    expect(rows).toEqual([
      { id: open, lease_token: null, is_due: true },
      { id: settled, lease_token: null, is_due: null },
    ])
  })
})

describe('trouble stays where it is', () => {
  it('a loop that is told to stop while every place is taken claims nothing more', async () => {
    const one = await startService({
      database: service.database,
      sandboxes: service,
      environment: { GATEWAY_CONCURRENCY: '2' },
    })
    const sweeper = sweeperOf(one)
    try {
      const ids = await registered(3)
      const holds = ids.map((id) => service.wechat.holdNext('query', id))
      await makeOrdersDue(service.pool, ids)
      const { log } = one.service
      const loop = startLoop({
        name: 'sweeper',
        runOnce: sweeper.runOnce,
        sooner: sweeper.freed,
        idleMs: 10,
        errorMs: 10,
        log,
        random: () => 0,
      })
      await Promise.race(holds.map(async (hold) => await hold.arrived))
      const stopped = loop.stop()
      for (const hold of holds) hold.release()
      await stopped
      await sweeper.drain()
      expect(await syncedIds()).toHaveLength(1)
    } finally {
      await one.stop()
    }
  })

  it('a poisonous row does not stop the sweep; it is parked for longer and longer, and never dropped', async () => {
    const [mismatch = '', unreadable = '', healthy = ''] = await registered(3, { notifyUrl: 'http://127.0.0.1:9/n' })
    service.wechat.putTrade(mismatch, { state: 'SUCCESS', amount: 1 })
    for (const id of [unreadable, healthy]) service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    // A row that its own sync cannot write: whatever the reason, it throws each time.
    await service.pool.query(`
      CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.order_id = ${unreadable} THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$;
      CREATE TRIGGER poison BEFORE INSERT ON notices FOR EACH ROW EXECUTE FUNCTION poison()`)
    const distances: number[][] = []
    for (let round = 0; round < 14; round++) {
      await makeOrdersDue(service.pool)
      await finishRounds(sweeperOf(service))
      distances.push((await dueInS([mismatch, unreadable])).map((due) => due ?? Number.NaN))
    }
    expect((await service.history(healthy)).order.status).toBe('success')
    for (const [row, maxS] of [86_400, 3_600].entries()) {
      const own = distances.map((distance) => distance[row] ?? Number.NaN)
      for (const [round, due] of own.entries()) {
        const expected = Math.min(maxS, 30 * 2 ** round)
        expect(due).toBeGreaterThan(expected - 5)
        expect(due).toBeLessThanOrEqual(expected * 1.1)
      }
    }
    expect((await service.history(unreadable)).order.status).toBe('progress')
    expect((await service.history(unreadable)).syncs[0]).toMatchObject({ outcome: 'failed', errorCode: 10001 })
  })

  it('while the breaker is open due orders stay due, and one at a time finds out whether the gateway is back', async () => {
    const watched = await startService({
      database: service.database,
      sandboxes: service,
      // Looked up each time, since it is exchanged below.
      now: () => Date.now(),
      environment: { GATEWAY_CONCURRENCY: '64', GATEWAY_RATE_PER_S: '1000' },
    })
    try {
      await registered(150)
      service.wechat.addFaults([{ on: 'any', fault: 'html502', times: 100_000 }])
      await makeOrdersDue(service.pool)
      const sweeper = sweeperOf(watched)
      await finishRounds(sweeper)
      const due = async () => {
        const { rows } = await service.pool.query<{ id: string }>(
          'SELECT id FROM orders WHERE next_sync_at <= clock_timestamp() ORDER BY next_sync_at, id',
        )
        return rows.map(({ id }) => id)
      }
      const left = await due()
      expect(left.length).toBeGreaterThan(20)
      const asked = service.wechat.requests().length
      expect(await sweeper.runOnce()).toBe(false)
      expect(await due()).toEqual(left)
      expect(service.wechat.requests()).toHaveLength(asked)

      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 6_000 })
      const probe = service.wechat.holdNext('query', left[0] ?? '')
      expect(await sweeper.runOnce()).toBe(true)
      await probe.arrived
      expect(await sweeper.runOnce()).toBe(false)
      expect(await due()).toEqual(left.slice(1))
      probe.release()
      await sweeper.drain()
    } finally {
      vi.useRealTimers()
      await watched.stop()
    }
  })
})
