import { afterAll, beforeAll, describe, expect, it } from 'vitest'

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
  expected: Record<string, unknown>
}>
const CASES: readonly Case[] = [
  { name: 'nothing to repair', trade: { state: 'NOTPAY' }, expected: { code: 0, data: { repair: false } } },
  { name: 'settle, with its notice', trade: { state: 'SUCCESS' }, expected: { code: 0, data: { repair: true } } },
  { name: 'closed there', trade: { state: 'CLOSED' }, expected: { code: 0, data: { repair: true } } },
  { name: 'unknown there', trade: null, expected: { code: 0, data: { gatewayStatus: 'pay_not_found' } } },
  { name: 'a finding', trade: { state: 'REFUND' }, expected: { code: 0, data: { gatewayStatus: 'pay_refund' } } },
  { name: 'a wrong amount', trade: { state: 'SUCCESS', amount: 1 }, expected: { code: 28100 } },
  {
    name: 'closed at the gateway because of its expiry',
    trade: { state: 'NOTPAY' },
    order: EXPIRED,
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
  for (const { name, trade, order = {}, expected } of CASES) {
    it(name, async () => {
      const paymentId = newPaymentId()
      await service.register({ paymentId, notifyUrl: 'http://127.0.0.1:9/notice', ...order })
      if (trade !== null) service.wechat.putTrade(paymentId, { amount: 1000, ...trade })
      const { envelope, asked } = await statementsOf(paymentId)
      expect(envelope).toMatchObject(expected)
      expect(asked).toEqual(['lease_by_id', 'commit_sync'])
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
    expect(asked).toEqual(['lease_by_id', 'commit_sync'])
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
    expect(statements).toEqual(['lease_by_id', 'commit_sync'])
  })

  it('a bad signature: none', async () => {
    statements.length = 0
    expect(await service.post('{"paymentId":1,"reqTime":1700000000,"sign":"00"}')).toMatchObject({ code: 20000 })
    expect(statements).toEqual([])
  })
})
