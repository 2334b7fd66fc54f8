import { afterAll, beforeAll, expect, it } from 'vitest'

import { createDatabase, type TestDatabase } from '../support/database.js'
import { breachesOf } from '../support/invariants.js'
import { type Sandboxes, startSandboxes, startService, type TestService } from '../support/service.js'

const CALLS = 1000
const PER_SITUATION = 10

let database: TestDatabase
let sandboxes: Sandboxes
let nodes: readonly [TestService, TestService]
beforeAll(async () => {
  ;[database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
  const environment = { GATEWAY_RATE_PER_S: '10000' }
  nodes = [
    await startService({ database, sandboxes, environment }),
    await startService({ database, sandboxes, environment }),
  ]
})
afterAll(async () => {
  for (const node of nodes) await node.stop()
  await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  await database.drop()
})

const past = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString()

/** What each order must come to, however many ask at once: repairs, notices and exceptions, exactly once each. */
const SITUATIONS = [
  {
    name: 'paid there',
    order: {},
    trade: { state: 'SUCCESS', amount: 1000 },
    status: 'success',
    repairs: 1,
    notices: 1,
    exceptions: [],
  },
  {
    name: 'expired',
    order: { expiredTime: past(1) },
    trade: { state: 'NOTPAY', amount: 1000 },
    status: 'close',
    repairs: 1,
    notices: 1,
    exceptions: [],
  },
  {
    name: 'wrong amount',
    order: {},
    trade: { state: 'SUCCESS', amount: 999 },
    status: 'progress',
    repairs: 0,
    notices: 0,
    exceptions: ['amount_mismatch'],
  },
  {
    name: 'paid late',
    order: { status: 'close' },
    trade: { state: 'SUCCESS', amount: 1000 },
    status: 'success',
    repairs: 1,
    notices: 1,
    exceptions: ['paid_after_close'],
  },
  {
    name: 'paid here only',
    order: { status: 'success', payTime: past(5) },
    trade: { state: 'CLOSED', amount: 1000 },
    status: 'success',
    repairs: 0,
    notices: 0,
    exceptions: ['paid_here_not_there'],
  },
] as const

it('1,000 calls at once over 50 orders on two instances: queries never overlap, everything happens exactly once', async () => {
  const orders: { id: string; situation: (typeof SITUATIONS)[number] }[] = []
  for (const situation of SITUATIONS) {
    for (let count = 0; count < PER_SITUATION; count++) {
      const id = await nodes[0].register({ ...situation.order, notifyUrl: 'http://127.0.0.1:9/notices' })
      sandboxes.wechat.putTrade(id, situation.trade)
      orders.push({ id, situation })
    }
  }
  const answers = await Promise.all(
    Array.from({ length: CALLS }, async (_, call) => {
      const { id } = orders[call % orders.length] ?? { id: '' }
      const node = nodes[Math.floor(call / orders.length) % 2] ?? nodes[0]
      return { id, ...(await node.sync(id)) }
    }),
  )
  for (const { code } of answers) expect([0, 10007, 28100]).toContain(code)
  expect(answers.filter(({ code }) => code === 10007).length).toBeGreaterThan(0)
  for (const { id, situation } of orders) {
    expect(sandboxes.wechat.calls(id).queriesInFlightMax).toBe(1)
    const { order, repairs, notices, exceptions } = await nodes[0].history(id)
    expect({
      name: situation.name,
      status: order.status,
      repairs: repairs.length,
      notices: notices.length,
      exceptions: exceptions.map(({ kind }) => kind),
    }).toEqual({
      name: situation.name,
      status: situation.status,
      repairs: situation.repairs,
      notices: situation.notices,
      exceptions: situation.exceptions,
    })
    const repaired = answers.filter((answer) => answer.id === id && answer.data?.repair === true)
    expect(repaired.map(({ data }) => data?.repairOrderNo)).toEqual(repairs.map(({ repairOrderNo }) => repairOrderNo))
  }
  expect(await breachesOf(nodes[0].pool)).toEqual([])
}, 120_000)
