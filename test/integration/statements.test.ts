import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import type { OrderId } from '../../src/domain/order.js'
import { createLeases } from '../../src/store/leases.js'
import { createDatabase, type TestDatabase } from '../support/database.js'
import { type NewOrder, newPaymentId, signedBody, startService, type TestService } from '../support/service.js'

let database: TestDatabase
let service: TestService
/** What the database has been asked for, in its own words, since last emptied. */
const statements: string[] = []
/** How it went about it, since last emptied: one plan for each statement, and for each look at a referenced row. */
const plans: string[] = []
/** One plan for any values, as each connection has it after a few syncs. */
const TELLING = [
  "log_statement = 'all'",
  "client_min_messages = 'log'",
  "session_preload_libraries = 'auto_explain'",
  'auto_explain.log_min_duration = 0',
  'auto_explain.log_nested_statements = on',
  'plan_cache_mode = force_generic_plan',
]

beforeAll(async () => {
  database = await createDatabase()
  // The server itself tells every statement that it runs, whoever sends it.
  for (const setting of TELLING) await database.pool().query(`ALTER DATABASE ${database.name} SET ${setting}`)
  service = await startService({ database })
  service.service.database.pool.on('connect', (client) => {
    client.on('notice', ({ message = '' }) => {
      if (/^(?:execute|statement)/.test(message)) statements.push(/^execute (\w+):/.exec(message)?.[1] ?? message)
      if (message.startsWith('duration:')) plans.push(message)
    })
  })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const EXPIRED = { expiredTime: new Date(Date.now() - 60_000).toISOString() }

type Case = Readonly<{
  name: string
  trade: Readonly<{ state: string; amount?: number }> | null
  order?: Partial<NewOrder>
  /** The order, or what is known of it. */
  changes: boolean
  expected: Record<string, unknown>
}>
const CASES: readonly Case[] = [
  {
    name: 'nothing to repair',
    trade: { state: 'NOTPAY' },
    changes: false,
    expected: { code: 0, data: { repair: false } },
  },
  {
    name: 'settle, with its notice',
    trade: { state: 'SUCCESS' },
    changes: true,
    expected: { code: 0, data: { repair: true } },
  },
  { name: 'closed there', trade: { state: 'CLOSED' }, changes: true, expected: { code: 0, data: { repair: true } } },
  {
    name: 'unknown there',
    trade: null,
    changes: true,
    expected: { code: 0, data: { gatewayStatus: 'pay_not_found' } },
  },
  {
    name: 'a finding',
    trade: { state: 'REFUND' },
    changes: true,
    expected: { code: 0, data: { gatewayStatus: 'pay_refund' } },
  },
  { name: 'a wrong amount', trade: { state: 'SUCCESS', amount: 1 }, changes: true, expected: { code: 28100 } },
  {
    name: 'closed at the gateway because of its expiry',
    trade: { state: 'NOTPAY' },
    order: EXPIRED,
    changes: true,
    expected: { code: 0, data: { gatewayStatus: 'pay_timeout', repair: true } },
  },
]

async function statementsOf(id: string): Promise<{ envelope: unknown; asked: readonly string[] }> {
  statements.length = 0
  plans.length = 0
  const envelope = await service.sync(id)
  // Nobody has counted the rows of a new database yet: what is cheap there must not grow with the rows of its first hour.
  expect(plans.length).toBeGreaterThanOrEqual(statements.length)
  expect(plans.filter((plan) => plan.includes('Seq Scan on'))).toEqual([])
  return { envelope, asked: [...statements] }
}

describe('exactly two statements, the lease and the commit, and no table read from its beginning to its end', () => {
  for (const { name, trade, order = {}, changes, expected } of CASES) {
    it(name, async () => {
      const paymentId = newPaymentId()
      await service.register({ paymentId, notifyUrl: 'http://127.0.0.1:9/notice', ...order })
      if (trade !== null) service.wechat.putTrade(paymentId, { amount: 1000, ...trade })
      const { envelope, asked } = await statementsOf(paymentId)
      expect(envelope).toMatchObject(expected)
      expect(asked).toEqual(['lease_by_id', changes ? 'commit_sync' : 'commit_sync_unchanged'])
    })
  }

  it('settle, with a notice that takes the place of an older one', async () => {
    const id = await service.register({ notifyUrl: 'http://127.0.0.1:9/notice' })
    for (const state of ['CLOSED', 'SUCCESS']) {
      service.wechat.putTrade(id, { state, amount: 1000 })
      const { envelope, asked } = await statementsOf(id)
      expect(envelope).toMatchObject({ code: 0, data: { repair: true } })
      expect(asked).toEqual(['lease_by_id', 'commit_sync'])
    }
    expect((await service.history(id)).notices).toMatchObject([{ state: 'pending' }, { state: 'superseded' }])
  })

  it('a gateway that proves nothing', async () => {
    const id = await service.register()
    service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 1, outTradeNo: id }])
    const { envelope, asked } = await statementsOf(id)
    expect(envelope).toMatchObject({ code: 20000 })
    expect(asked).toEqual(['lease_by_id', 'commit_sync_unchanged'])
  })
})

describe('what is refused costs less', () => {
  it('an order that is being synced: the lease alone', async () => {
    const id = await service.register()
    await service.pool.query(
      "UPDATE orders SET lease_token = gen_random_uuid(), lease_expires_at = now() + interval '1 minute' WHERE id = $1",
      [id],
    )
    const { envelope, asked } = await statementsOf(id)
    expect(envelope).toMatchObject({ code: 10007 })
    expect(asked).toEqual(['lease_by_id'])
  })

  it('an order that this very process is syncing: none, by its id and by its number', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    const hold = service.wechat.holdNext('query', id)
    const first = service.sync(id)
    await hold.arrived
    statements.length = 0
    expect(await service.sync(id)).toMatchObject({ code: 10007 })
    expect(await service.post(signedBody({ businessNo: `B${id}` }))).toMatchObject({ code: 10007 })
    expect(statements).toEqual([])
    hold.release()
    expect(await first).toMatchObject({ code: 0, data: { repair: true } })
    expect((await statementsOf(id)).envelope).toMatchObject({ code: 0, data: { repair: false } })
    expect(statements).toEqual(['lease_by_id', 'commit_sync_unchanged'])
  })

  it('a bad signature: none', async () => {
    statements.length = 0
    expect(await service.post('{"paymentId":1,"reqTime":1700000000,"sign":"00"}')).toMatchObject({ code: 20000 })
    expect(statements).toEqual([])
  })
})

describe('who waits until the disk has it', () => {
  it.each([
    ['a lease of an order that is open: nobody', 'progress', null, 'off'],
    ['a lease of a closed one at rest: its due time must not be lost', 'close', null, 'on'],
    ['a lease that somebody else has: nothing is written', 'progress', 'gen_random_uuid()', 'on'],
  ] as const)('%s', async (_, status, token, expected) => {
    const id = BigInt(await service.register()) as OrderId
    await service.pool.query(
      `UPDATE orders SET status = $2::text, next_sync_at = NULL, lease_token = ${token ?? 'NULL'},
        lease_expires_at = ${token === null ? 'NULL' : "'infinity'"}, close_time = CASE WHEN $2::text = 'close' THEN now() END WHERE id = $1`,
      [id.toString(), status],
    )
    const client = await service.pool.connect()
    const waits = async () =>
      (await client.query<{ synchronous_commit: string }>('SHOW synchronous_commit')).rows[0]?.synchronous_commit
    try {
      await client.query('BEGIN')
      const leased = await createLeases(client, { leaseMs: 1_000, channels: ['wechat_pay'] }).acquire(
        { id },
        { dryRun: false },
      )
      expect(leased.kind).toBe(token === null ? 'acquired' : 'busy')
      expect(await waits()).toBe(expected)
      await client.query('COMMIT')
      // What the connection does next is as durable as ever.
      expect(await waits()).toBe('on')
    } finally {
      client.release()
    }
  })
})
