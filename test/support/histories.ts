// Random histories of orders against the real service: what buyers, time, gateways, merchants and the sweeper can do,
// in any order, with every invariant checked after each step.
import fc from 'fast-check'

import { createDatabase, type TestDatabase } from './database.js'
import { breachesOf } from './invariants.js'
import { type Sandboxes, startSandboxes, startService, type TestService } from './service.js'

const AMOUNT = 1000
/** A verified answer of another amount must never settle. Far from the right one: the fault `wrong_amount` adds a fen. */
const WRONG_AMOUNT = 900
const SKEW_MS = 200_000
/** Faults that are left from a history are used up within so many calls. */
const CALLS_TO_REST_MAX = 40

const QUERY_FAULTS = [
  'system_error',
  'unsigned',
  'tampered',
  'stale',
  'html502',
  'rate_limit',
  'reset',
  'cut',
  'unknown_state',
  'missing_fields',
  'wrong_amount',
  'wrong_order',
  'not_exist_unsigned',
  'duplicate_key',
] as const
const CLOSE_FAULTS = ['reset', 'html502', 'system_error', 'cut', 'unsigned', 'tampered'] as const

const stepArbitrary = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ kind: 'create' } as const) },
  { weight: 3, arbitrary: fc.constant({ kind: 'pay' } as const) },
  { weight: 1, arbitrary: fc.constant({ kind: 'payOnClose' } as const) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('refund' as const), fen: fc.constantFrom(300, AMOUNT) }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'expire' } as const) },
  { weight: 1, arbitrary: fc.constant({ kind: 'age' } as const) },
  { weight: 1, arbitrary: fc.constant({ kind: 'closeThere' } as const) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('failQuery' as const),
      fault: fc.constantFrom(...QUERY_FAULTS),
      times: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('failClose' as const), fault: fc.constantFrom(...CLOSE_FAULTS) }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('sync' as const), calls: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'sweep' } as const) },
)
type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never

const historyArbitrary = fc.record({
  channel: fc.constantFrom('wechat_pay' as const, 'ali_pay' as const),
  status: fc.oneof(
    { weight: 8, arbitrary: fc.constant('progress' as const) },
    { weight: 1, arbitrary: fc.constantFrom('fail' as const, 'close' as const, 'success' as const) },
  ),
  isOld: fc.boolean(),
  isNotified: fc.boolean(),
  hasWrongAmount: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  steps: fc.array(stepArbitrary, { minLength: 2, maxLength: 12 }),
})
type History = typeof historyArbitrary extends fc.Arbitrary<infer T> ? T : never

const WORDS = {
  wechat_pay: { payable: 'NOTPAY', paid: 'SUCCESS', closed: 'CLOSED' },
  ali_pay: { payable: 'WAIT_BUYER_PAY', paid: 'TRADE_SUCCESS', closed: 'TRADE_CLOSED' },
} as const

type World = Readonly<{ nodes: readonly [TestService, TestService]; sandboxes: Sandboxes; database: TestDatabase }>

/** One order through its history. Throws an error that tells the rule and the step where a rule is broken. */
function createActor(world: World, history: History, id: string) {
  const { nodes, sandboxes } = world
  const [first] = nodes
  const gateway = history.channel === 'ali_pay' ? sandboxes.alipay : sandboxes.wechat
  const words = WORDS[history.channel]
  const amount = history.hasWrongAmount ? WRONG_AMOUNT : AMOUNT
  const trade = () => gateway.getTrade(id)
  const sql = async (text: string) => await first.pool.query(`UPDATE orders SET ${text} WHERE id = $1`, [id])

  async function sync(calls: number): Promise<void> {
    const answers = await Promise.all(
      Array.from({ length: calls }, async (_, call) => await (nodes[call % 2] ?? first).sync(id)),
    )
    const repairs = answers.filter(({ data }) => data?.repair === true)
    if (repairs.length > 1) throw new Error(`${repairs.length} of ${calls} calls at once say that they repaired`)
    for (const { code } of answers) {
      if (![0, 10007, 20000, 28100].includes(code)) throw new Error(`code ${code}`)
    }
  }

  async function take(step: Step): Promise<void> {
    const known = trade()
    const isPayable = known === null || known.state === words.payable
    switch (step.kind) {
      case 'create':
        if (known === null) gateway.putTrade(id, { state: words.payable, amount })
        return
      case 'pay':
        if (isPayable) gateway.putTrade(id, { state: words.paid, amount })
        return
      case 'payOnClose':
        if (isPayable) gateway.putTrade(id, { state: words.payable, amount, payOn: 'close' })
        return
      case 'refund':
        if (known?.state === words.paid)
          gateway.putTrade(id, { state: words.paid, refunded: Math.min(step.fen, amount) })
        return
      case 'closeThere':
        if (known?.state === words.payable) gateway.putTrade(id, { state: words.closed, amount })
        return
      case 'expire':
        await sql(`expires_at = clock_timestamp() - interval '1 second'`)
        return
      case 'age':
        await sql(`created_at = created_at - interval '10 minutes'`)
        return
      case 'failQuery':
        gateway.addFaults([{ on: 'query', fault: step.fault, times: step.times, outTradeNo: id }])
        return
      case 'failClose':
        gateway.addFaults([{ on: 'close', fault: step.fault, outTradeNo: id }])
        return
      case 'sync':
        await sync(step.calls)
        return
      case 'sweep':
        await sql(`next_sync_at = CASE WHEN next_sync_at IS NOT NULL THEN now() - interval '1 second' END`)
        for (const sweeper of first.service.sweepers) await sweeper.runOnce()
        for (const sweeper of first.service.sweepers) await sweeper.drain()
        return
    }
  }

  async function statusHere(): Promise<{ status: string; version: number; dueInS: number | null }> {
    const { rows } = await first.pool.query<{ status: string; version: number; dueInS: number | null }>({
      name: 'status_here',
      text: `SELECT status, version, extract(epoch FROM next_sync_at - now())::float8 AS "dueInS" FROM orders WHERE id = $1`,
      values: [id],
    })
    const row = rows[0]
    if (row === undefined) throw new Error('the order is gone')
    return row
  }

  async function check(): Promise<void> {
    const breaches = [...(await breachesOf(first.pool, id))]
    const { status, version } = await statusHere()
    const there = trade()
    const wasSettled = version > 0 && status === 'success'
    if (wasSettled && there?.paidAt === null) breaches.push('settled, and nobody ever paid')
    if (wasSettled && there?.amount !== AMOUNT) breaches.push('settled with the wrong amount')
    const { queriesInFlightMax } = gateway.calls(id)
    if (queriesInFlightMax > 1) breaches.push(`${queriesInFlightMax} queries in flight at once`)
    if (breaches.length > 0) throw new Error(breaches.join('\n'))
  }

  /** Calls until the gateway's faults are used up and nothing more changes: two calls in a row then change nothing. */
  async function comeToRest(): Promise<void> {
    let quiet = 0
    for (let call = 0; quiet < 2; call++) {
      if (call >= CALLS_TO_REST_MAX) throw new Error('it does not come to rest')
      const { code, data } = await first.sync(id)
      const isQuiet = (code === 0 && data?.repair === false) || (code === 28100 && history.hasWrongAmount)
      const isFaulty = gateway.pendingFaults().some(({ outTradeNo, on }) => outTradeNo === id && on === 'query')
      quiet = isQuiet && !isFaulty ? quiet + 1 : 0
      // An open breaker answers at once; its probe comes after some seconds.
      if (code === 20000 || code === 10007)
        await new Promise((resolve) => setTimeout(resolve, code === 20000 ? 400 : 20))
    }
  }

  async function checkAtRest(): Promise<void> {
    await check()
    const { status, dueInS } = await statusHere()
    const there = trade()
    const isPaidThere = there?.state === words.paid && there.refunded === 0
    if (history.hasWrongAmount) return
    if (isPaidThere && status !== 'success') throw new Error(`paid there, ${status} here`)
    const mayStillBePaid = there === null ? history.channel === 'ali_pay' : there.state === words.payable
    if (status === 'close' && there?.state === words.payable) throw new Error('closed here, payable there')
    if (status === 'close' && mayStillBePaid && history.status !== 'close' && dueInS === null) {
      throw new Error('closed here, may be paid there, and nobody watches')
    }
  }

  return { take, check, comeToRest, checkAtRest }
}

async function live(world: World, history: History): Promise<void> {
  const id = await world.nodes[0].register({
    channel: history.channel,
    status: history.status,
    createTime: new Date(Date.now() - (history.isOld ? 600_000 : 0)).toISOString(),
    ...(history.status === 'success' ? { payTime: new Date().toISOString() } : {}),
    ...(history.isNotified ? { notifyUrl: 'http://127.0.0.1:9/notices' } : {}),
  })
  const actor = createActor(world, history, id)
  for (const [index, step] of history.steps.entries()) {
    try {
      await actor.take(step)
      await actor.check()
    } catch (cause) {
      throw new Error(`order ${id}, step ${index} (${JSON.stringify(step)}) of ${JSON.stringify(history)}`, { cause })
    }
  }
  try {
    await actor.comeToRest()
    await actor.checkAtRest()
  } catch (cause) {
    throw new Error(`order ${id}, at the end of ${JSON.stringify(history)}`, { cause })
  }
}

/**
 * Lives `count` random histories, `atOnce` orders at a time, on two nodes whose clocks differ. A failure prints the seed
 * and the smallest histories found; HISTORIES_SEED=… repeats it.
 */
export async function liveHistories(count: number, atOnce: number): Promise<void> {
  const [database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
  const environment = { GATEWAY_RATE_PER_S: '10000', GATEWAY_TIMEOUT_MS: '3000' }
  const nodes = [
    await startService({ database, sandboxes, environment }),
    await startService({ database, sandboxes, environment, now: () => Date.now() + SKEW_MS }),
  ] as const
  const world = { nodes, sandboxes, database }
  const seed = process.env['HISTORIES_SEED']
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(historyArbitrary, { minLength: atOnce, maxLength: atOnce }), async (histories) => {
        const lived = await Promise.allSettled(histories.map(async (history) => await live(world, history)))
        for (const one of lived) if (one.status === 'rejected') throw one.reason
      }),
      { numRuns: Math.ceil(count / atOnce), ...(seed === undefined ? {} : { seed: Number(seed) }), endOnFailure: true },
    )
  } finally {
    for (const node of nodes) await node.stop()
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
    await database.drop()
  }
}
