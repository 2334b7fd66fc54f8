// Random histories of orders against the real service: what buyers, time, gateways, merchants and the sweeper can do,
// in any order, with every invariant checked after each step.
import { setTimeout as pause } from 'node:timers/promises'

import fc from 'fast-check'

import { createDatabase } from './database.js'
import { breachesOf } from './invariants.js'
import { type Envelope, type Sandboxes, startSandboxes, startService, type TestService } from './service.js'
import { proxyDatabase, type TcpProxy } from './tcp-proxy.js'

const AMOUNT = 1000
/** A verified answer of another amount must never settle. Far from the right one: the fault `wrong_amount` adds a fen. */
const WRONG_AMOUNT = 900
const SKEW_MS = 200_000
/** Faults that are left from a history are used up within so many calls. */
const CALLS_TO_REST_MAX = 60
/** Days that pass at the end, one sweep each, until nothing is left to be asked: a mismatch is parked for a day at most. */
const DAYS_MAX = 8
/** Calls in a row that find the order leased; its lease is then one of a sync that could not give it back. */
const BUSY_MAX = 10
const SECOND_PAYMENT = '4200001863202400000000'

/** What a row in `poison` makes fail, each time it is tried: the whole commit, or also the record of its failure. */
const POISONED_TABLES = ['repair_records', 'sync_records'] as const
const POISON = `
CREATE TABLE poison (order_id bigint, tab text);
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF EXISTS (SELECT 1 FROM poison WHERE order_id = NEW.order_id AND tab = TG_TABLE_NAME) THEN
    RAISE EXCEPTION 'poisoned';
  END IF;
  RETURN NEW;
END $$;
${POISONED_TABLES.map((table) => `CREATE TRIGGER poison BEFORE INSERT ON ${table} FOR EACH ROW EXECUTE FUNCTION poison();`).join('\n')}`

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
  { weight: 1, arbitrary: fc.constant({ kind: 'payAgain' } as const) },
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
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('overrun' as const), node: fc.nat({ max: 1 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('cut' as const),
      statement: fc.constantFrom('lease_by_id', 'commit_sync'),
      moment: fc.constantFrom('before' as const, 'after' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('poison' as const), table: fc.constantFrom(...POISONED_TABLES) }),
  },
)
type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never

const historyArbitrary = fc.record({
  channel: fc.constantFrom('wechat_pay' as const, 'ali_pay' as const),
  status: fc.oneof(
    { weight: 8, arbitrary: fc.constant('progress' as const) },
    { weight: 1, arbitrary: fc.constantFrom('fail' as const, 'close' as const, 'success' as const) },
  ),
  latePayment: fc.oneof(
    { weight: 2, arbitrary: fc.constant('settle' as const) },
    { weight: 1, arbitrary: fc.constant('hold' as const) },
  ),
  isOld: fc.boolean(),
  /** Paid by a payment code: reversed, not closed. */
  isCode: fc.boolean(),
  isNotified: fc.boolean(),
  hasWrongAmount: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  steps: fc.array(stepArbitrary, { minLength: 2, maxLength: 12 }),
})
type History = typeof historyArbitrary extends fc.Arbitrary<infer T> ? T : never

const WORDS = {
  wechat_pay: { payable: 'NOTPAY', paid: 'SUCCESS', closed: 'CLOSED' },
  ali_pay: { payable: 'WAIT_BUYER_PAY', paid: 'TRADE_SUCCESS', closed: 'TRADE_CLOSED' },
} as const

/** Two nodes that share one policy; the second one's clock is ahead. Between each and the database stands a proxy. */
type Nodes = readonly [TestService, TestService]
type World = Readonly<{
  sandboxes: Sandboxes
  nodes: Readonly<Record<History['latePayment'], Nodes>>
  proxies: readonly TcpProxy[]
  /** What came of the calls, by code. */
  codes: Map<number, number>
}>

type Here = { status: string; version: number; gatewayOrderNo: string | null; isDue: boolean; kinds: string[] }

const CODES = new Set([0, 10001, 10007, 20000, 28100])

/** One order through its history. Throws an error that tells the rule and the step where a rule is broken. */
function createActor(world: World, history: History, id: string) {
  const { sandboxes, codes } = world
  const nodes = world.nodes[history.latePayment]
  const [first] = nodes
  const { pool } = first
  const gateway = history.channel === 'ali_pay' ? sandboxes.alipay : sandboxes.wechat
  const words = WORDS[history.channel]
  const amount = history.hasWrongAmount ? WRONG_AMOUNT : AMOUNT
  const trade = () => gateway.getTrade(id)
  const sql = async (text: string) => await pool.query(`UPDATE orders SET ${text} WHERE id = $1`, [id])
  /** Leases taken away by force: each lets one more query meet another at the gateway. */
  let leasesTaken = 0

  async function call(node: TestService): Promise<Envelope> {
    const answer = await node.sync(id)
    codes.set(answer.code, (codes.get(answer.code) ?? 0) + 1)
    if (!CODES.has(answer.code)) throw new Error(`code ${answer.code}`)
    return answer
  }

  async function sync(calls: number): Promise<void> {
    const answers = await Promise.all(
      Array.from({ length: calls }, async (_, index) => await call(nodes[index % 2] ?? first)),
    )
    const repairs = answers.filter(({ data }) => data?.repair === true)
    if (repairs.length > 1) throw new Error(`${repairs.length} of ${calls} calls at once say that they repaired`)
    if (calls > 1 || answers[0]?.code !== 0) return
    const again = await call(nodes[1])
    if (again.data?.repair === true) throw new Error('a second sync right after the first one repaired again')
  }

  /** A sync whose lease ends while the gateway answers: another one takes over, and the late one must write nothing. */
  async function overrun(node: TestService, other: TestService): Promise<void> {
    await freeLease()
    const hold = gateway.holdNext('query', id)
    const late = call(node)
    // It may be settled before it is asked for below.
    late.catch(() => undefined)
    if ((await Promise.race([hold.arrived.then(() => 'held'), late.then(() => 'answered')])) === 'answered') {
      // The gateway was not asked: what the hold waits for comes at some later time, and must not wait then.
      hold.release()
      return
    }
    const before = await here()
    await freeLease()
    const heir = await call(other)
    hold.release()
    const answer = await late
    if (heir.code === 0 && answer.data?.repair === true && (await isWrittenAfter(answer, heir))) {
      throw new Error('a sync that had lost its lease repaired')
    }
    if (heir.data?.repair === true && (await here()).version !== before.version + 1) {
      throw new Error('taken over, and changed twice')
    }
  }

  /** The sweep's query may be the one that is held: then the call may be over before another one takes the lease, rightly. */
  async function isWrittenAfter(late: Envelope, heir: Envelope): Promise<boolean> {
    const { rows } = await pool.query<{ traceId: string }>(
      'SELECT trace_id AS "traceId" FROM sync_records WHERE order_id = $1 AND trace_id = ANY($2) ORDER BY id DESC LIMIT 1',
      [id, [late.traceId, heir.traceId]],
    )
    return rows[0]?.traceId === late.traceId
  }

  /** As its expiry would, later. */
  async function freeLease(): Promise<void> {
    const { rowCount } = await pool.query(
      'UPDATE orders SET lease_expires_at = clock_timestamp() WHERE id = $1 AND lease_token IS NOT NULL',
      [id],
    )
    leasesTaken += rowCount ?? 0
  }

  async function sweep(): Promise<void> {
    await sql(`next_sync_at = CASE WHEN next_sync_at IS NOT NULL THEN now() - interval '1 second' END`)
    for (const sweeper of first.service.sweepers) await sweeper.runOnce()
    for (const sweeper of first.service.sweepers) await sweeper.drain()
  }

  function atGateway(step: Step): void {
    const known = trade()
    const isPayable = known === null || known.state === words.payable
    const put = (changes: Parameters<typeof gateway.putTrade>[1]) => void gateway.putTrade(id, { amount, ...changes })
    if (step.kind === 'create' && known === null) put({ state: words.payable })
    if (step.kind === 'pay' && isPayable) put({ state: words.paid })
    if (step.kind === 'payOnClose' && isPayable) put({ state: words.payable, payOn: 'close' })
    if (step.kind === 'payAgain' && known?.state === words.paid && known.refunded === 0) {
      put({ state: words.paid, transactionId: `${SECOND_PAYMENT}${id.slice(-6)}` })
    }
    if (step.kind === 'refund' && known?.state === words.paid) {
      put({ state: words.paid, refunded: Math.min(step.fen, amount) })
    }
    if (step.kind === 'closeThere' && known?.state === words.payable) put({ state: words.closed })
  }

  async function take(step: Step): Promise<void> {
    switch (step.kind) {
      case 'create':
      case 'pay':
      case 'payOnClose':
      case 'payAgain':
      case 'refund':
      case 'closeThere':
        return atGateway(step)
      case 'expire':
        await sql(`expires_at = clock_timestamp() - interval '1 second'`)
        return
      case 'age':
        await sql(`created_at = created_at - interval '10 minutes'`)
        return
      case 'failQuery':
        return gateway.addFaults([{ on: 'query', fault: step.fault, times: step.times, outTradeNo: id }])
      case 'failClose':
        return gateway.addFaults([{ on: history.isCode ? 'reverse' : 'close', fault: step.fault, outTradeNo: id }])
      case 'sync':
        return await sync(step.calls)
      case 'sweep':
        return await sweep()
      case 'overrun':
        return await overrun(nodes[step.node] ?? first, nodes[1 - step.node] ?? first)
      case 'cut':
        // Strikes whoever sends that statement next: this order or another one.
        for (const proxy of world.proxies) void proxy.cutOn(step.statement, step.moment)
        await call(first)
        return
      case 'poison':
        await pool.query('INSERT INTO poison VALUES ($1, $2)', [id, step.table])
        await call(nodes[1])
        await pool.query('DELETE FROM poison WHERE order_id = $1', [id])
        return
    }
  }

  async function here(): Promise<Here> {
    const { rows } = await pool.query<Here>({
      name: 'here',
      text: `SELECT status, version, gateway_order_no AS "gatewayOrderNo", next_sync_at IS NOT NULL AS "isDue",
        ARRAY(SELECT kind FROM sync_exceptions WHERE order_id = $1)::text[] AS kinds FROM orders WHERE id = $1`,
      values: [id],
    })
    const row = rows[0]
    if (row === undefined) throw new Error('the order is gone')
    return row
  }

  async function check(): Promise<void> {
    const breaches = [...(await breachesOf(pool, id))]
    const { status, version } = await here()
    const there = trade()
    const wasSettled = version > 0 && status === 'success'
    if (wasSettled && there?.paidAt === null) breaches.push('settled, and nobody ever paid')
    if (wasSettled && there?.amount !== AMOUNT) breaches.push('settled with the wrong amount')
    const { queriesInFlightMax } = gateway.calls(id)
    if (queriesInFlightMax > 1 + leasesTaken) breaches.push(`${queriesInFlightMax} queries in flight at once`)
    if (breaches.length > 0) throw new Error(breaches.join('\n'))
  }

  /** Calls until the gateway's faults are used up and nothing more changes: two calls in a row then change nothing. */
  async function comeToRest(): Promise<void> {
    let quiet = 0
    let busy = 0
    for (let attempt = 0; quiet < 2; attempt++) {
      if (attempt >= CALLS_TO_REST_MAX) throw new Error('it does not come to rest')
      // Nobody's any more: whoever took it is long over.
      if (busy === BUSY_MAX) await freeLease()
      const { code, data, msg } = await call(first)
      busy = code === 10007 ? busy + 1 : 0
      // Of a trade that was reversed "paid" is not believed for ten minutes: nothing changes for so long, either.
      const isGoingBack = history.isCode && code === 20000 && msg.includes('网关已受理关闭或撤销')
      const isQuiet =
        (code === 0 && data?.repair === false) || (code === 28100 && history.hasWrongAmount) || isGoingBack
      const isFaulty = gateway.pendingFaults().some(({ outTradeNo, on }) => outTradeNo === id && on === 'query')
      quiet = isQuiet && !isFaulty ? quiet + 1 : 0
      // An open breaker answers at once; its probe comes after some seconds.
      if (code === 20000) await pause(400)
      if (code === 10007) await pause(50)
    }
  }

  /** Days later, when the sweeper has come by as often as it wanted to: nothing is owed to anybody. */
  async function letDaysPass(): Promise<void> {
    for (let day = 0; day < DAYS_MAX && (await here()).isDue; day++) {
      const past = ['created_at', 'expires_at', 'close_time', 'reversed_at', 'reversal_begun_at'].map(
        (name) => `${name} = ${name} - interval '1 day'`,
      )
      await sql(past.join(', '))
      await sweep()
      await comeToRest()
    }
    await check()
  }

  async function checkAtTheEnd(): Promise<void> {
    const { status, version, gatewayOrderNo, isDue, kinds } = await here()
    const there = trade()
    const isPaid = there?.state === words.paid && there.refunded === 0
    // Late is what is paid of a closed order, and of one whose reversal was begun: both are held back, and somebody is told.
    const isLate = status === 'close' || (history.isCode && kinds.includes('paid_after_close'))
    const isHeld = history.latePayment === 'hold' && isLate
    if (history.hasWrongAmount) {
      if (isPaid && version === 0 && !kinds.includes('amount_mismatch')) throw new Error('nobody is told of the amount')
      return
    }
    if (isPaid && status !== 'success' && !isHeld) throw new Error(`paid there, ${status} here`)
    if (isPaid && isHeld && !kinds.includes('paid_after_close')) throw new Error('held back, and nobody is told')
    const isSecond = isPaid && status === 'success' && gatewayOrderNo !== null && there.transactionId !== gatewayOrderNo
    if (isSecond && !kinds.includes('double_payment')) throw new Error('paid twice, and nobody is told')
    if (status === 'close' && there?.state === words.payable) throw new Error('closed here, payable there')
    const mayStillBePaid = there === null || there.state === words.payable || isPaid
    if (!mayStillBePaid && status === 'progress' && !kinds.includes('refunded_unsettled')) throw new Error('left open')
    if (status === 'success' || status === 'close') {
      if (isDue) throw new Error(`${status}, and still asked about`)
    }
  }

  return { take, check, comeToRest, letDaysPass, checkAtTheEnd }
}

async function live(world: World, history: History): Promise<void> {
  const [first] = world.nodes[history.latePayment]
  const id = await first.register({
    channel: history.channel,
    ...(history.isCode ? { payWay: 'bar_code' } : {}),
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
    await actor.check()
    await actor.letDaysPass()
    await actor.checkAtTheEnd()
  } catch (cause) {
    throw new Error(`order ${id}, at the end of ${JSON.stringify(history)}`, { cause })
  }
}

/**
 * Lives `count` random histories, `atOnce` orders at a time, on four nodes: two for each policy, whose clocks differ. A
 * failure prints the seed; HISTORIES_SEED=… repeats it. What came of all the calls is printed.
 */
export async function liveHistories(count: number, atOnce: number): Promise<void> {
  const [database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
  await database.pool().query(POISON)
  const proxies: TcpProxy[] = []
  const started: TestService[] = []
  async function start(latePayment: History['latePayment'], skewMs: number): Promise<TestService> {
    const { proxy, url } = await proxyDatabase(database.url)
    const environment = {
      DATABASE_URL: url,
      LATE_PAYMENT: latePayment,
      GATEWAY_RATE_PER_S: '10000',
      GATEWAY_TIMEOUT_MS: '3000',
    }
    const node = await startService({ database, sandboxes, environment, now: () => Date.now() + skewMs })
    proxies.push(proxy)
    started.push(node)
    return node
  }
  const nodes = {
    settle: [await start('settle', 0), await start('settle', SKEW_MS)],
    hold: [await start('hold', 0), await start('hold', SKEW_MS)],
  } as const
  const world: World = { sandboxes, nodes, proxies, codes: new Map() }
  const seed = Number(process.env['HISTORIES_SEED'] ?? Date.now() % 2 ** 31)
  try {
    // Told by the seed alone: fifty histories in a row would bury what went wrong.
    const run = await fc.check(
      fc.asyncProperty(fc.array(historyArbitrary, { minLength: atOnce, maxLength: atOnce }), async (histories) => {
        const lived = await Promise.allSettled(histories.map(async (history) => await live(world, history)))
        for (const one of lived) if (one.status === 'rejected') throw one.reason
      }),
      { numRuns: Math.ceil(count / atOnce), seed, endOnFailure: true },
    )
    if (run.failed) throw new Error(`HISTORIES_SEED=${seed}, run ${run.numRuns}`, { cause: run.errorInstance })
  } finally {
    console.log(`HISTORIES_SEED=${seed}: calls by code ${JSON.stringify(Object.fromEntries(world.codes))}`)
    for (const node of started) await node.stop()
    for (const proxy of proxies) await proxy.close()
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
    await database.drop()
  }
}
