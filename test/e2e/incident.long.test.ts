// The incident that the runbook calls a backlog, played with the built service and the built commands, killed on the way.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { AlipaySandbox } from '../../src/sandbox/alipay.js'
import type { WechatSandbox } from '../../src/sandbox/wechat.js'
import { CLI, unipay } from '../support/cli.js'
import { createDatabase, type TestDatabase } from '../support/database.js'
import { breachesOf } from '../support/invariants.js'
import { newPaymentId, OPS_TOKEN, SECRET, signedBody, startSandboxes } from '../support/service.js'
import { type ServiceProcess, startServiceProcess } from '../support/service-process.js'

/** A batch of 5,000 is over in about 15 s; a claim that nobody renews lives for 15 s more. */
const BATCH_MS_MAX = 300_000

type Result = { count: number; fen: number }
type Report = { id: string; state: string; total: number; done: number; results: Record<string, Result> }
type Kind = 'paid' | 'paid_alipay' | 'expired' | 'closed' | 'unscanned' | 'wrong_amount'
type Planned = Readonly<{ id: string; kind: Kind; amount: number }>

/** What the batch must make of each kind, and what the order is then. */
const EXPECTED = {
  paid: ['settled', 'success'],
  paid_alipay: ['settled', 'success'],
  expired: ['closed_gateway', 'close'],
  closed: ['closed_local', 'close'],
  unscanned: ['waiting', 'progress'],
  wrong_amount: ['mismatch', 'progress'],
} as const satisfies Record<Kind, readonly [result: string, status: string]>

const KINDS: readonly Kind[] = [
  'paid',
  'paid',
  'paid',
  'paid',
  'paid_alipay',
  'paid_alipay',
  'expired',
  'closed',
  'unscanned',
  'wrong_amount',
]

let database: TestDatabase
let wechat: WechatSandbox
let alipay: AlipaySandbox
let environment: Record<string, string>
let api: ServiceProcess
let folder: string
let orders: readonly Planned[]

beforeEach(async () => {
  database = await createDatabase()
  ;({ wechat, alipay } = await startSandboxes())
  environment = {
    DATABASE_URL: database.url,
    SIGN_SECRETS: SECRET,
    OPS_TOKENS: `tester:${OPS_TOKEN}`,
    // Half of it is a batch's rate: 5,000 orders in some ten seconds.
    GATEWAY_RATE_PER_S: '1000',
    LOG_LEVEL: 'info',
    ...wechat.merchantSettings(),
    ...alipay.merchantSettings(),
  }
  folder = await mkdtemp(path.join(tmpdir(), 'unipay-incident-'))
  api = await startServiceProcess({ ...environment, ROLES: 'api,courier' })
})
afterEach(async () => {
  await api.stop()
  await Promise.all([wechat.close(), alipay.close()])
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

function lineOf({ id, kind, amount }: Planned): string {
  const at = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString()
  return JSON.stringify({
    paymentId: id,
    businessNo: `I${id}`,
    channel: kind === 'paid_alipay' || kind === 'unscanned' ? 'ali_pay' : 'wechat_pay',
    payWay: 'qr_code',
    amount,
    createTime: at(-30),
    expiredTime: at(kind === 'expired' ? -1 : 60),
  })
}

/** What buyers did while nobody could ask. */
function putTrades(): void {
  const createdAt = new Date(Date.now() - 30 * 60_000).toISOString()
  for (const { id, kind, amount } of orders) {
    if (kind === 'paid_alipay') alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount, createdAt })
    if (kind === 'paid') wechat.putTrade(id, { state: 'SUCCESS', amount, createdAt })
    if (kind === 'wrong_amount') wechat.putTrade(id, { state: 'SUCCESS', amount: amount - 1, createdAt })
    if (kind === 'expired') wechat.putTrade(id, { state: 'NOTPAY', amount, createdAt })
    if (kind === 'closed') wechat.putTrade(id, { state: 'CLOSED', amount, createdAt })
  }
}

/** Orders come in while both gateways are down: callers are told that nobody knows, and nothing changes. */
async function playOutage(count: number): Promise<void> {
  orders = Array.from({ length: count }, (_, n) => ({
    id: newPaymentId(),
    kind: KINDS[n % KINDS.length] ?? 'paid',
    amount: 1_000 + n,
  }))
  for (const sandbox of [wechat, alipay]) sandbox.addFaults([{ on: 'any', fault: 'html502', times: 1_000_000 }])
  const file = path.join(folder, 'orders.ndjson')
  await writeFile(file, `${orders.map(lineOf).join('\n')}\n`)
  const imported = await unipay(environment, ['import', file, '--json'])
  expect(JSON.parse(imported.stdout)).toMatchObject({ total: count, created: count })
  const answers = orders.slice(0, 60).map(async ({ id }) => {
    const answer = await fetch(`${api.url}/unipay/syncPay`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: signedBody({ paymentId: BigInt(id) }),
    })
    expect(((await answer.json()) as { code: number }).code).toBe(20000)
  })
  await Promise.all(answers)
  expect(await statuses()).toEqual([{ status: 'progress', count }])
  for (const sandbox of [wechat, alipay]) sandbox.reset()
  putTrades()
}

async function statuses() {
  const { rows } = await pool().query(
    'SELECT status, count(*)::int AS count FROM orders GROUP BY status ORDER BY status',
  )
  return rows as { status: string; count: number }[]
}

let onlyPool: { of: TestDatabase; pool: ReturnType<TestDatabase['pool']> } | undefined
function pool() {
  if (onlyPool?.of !== database) onlyPool = { of: database, pool: database.pool() }
  return onlyPool.pool
}

/** Counts and money as they must be, from what was planned, and from what was closed at the gateway only, when it was killed. */
function expectedResults(halfDone: readonly Planned[] = []): Record<string, Result> {
  const results: Record<string, Result> = {}
  for (const planned of orders) {
    const { kind, amount } = planned
    const result = (results[halfDone.includes(planned) ? 'closed_local' : EXPECTED[kind][0]] ??= { count: 0, fen: 0 })
    result.count += 1
    result.fen += amount
  }
  return results
}

const FILTER = ['--status', 'progress', '--from', '2h'] as const

async function ops(url: string): Promise<unknown> {
  const response = await fetch(`${api.url}${url}`, { headers: { authorization: `Bearer ${OPS_TOKEN}` } })
  return await response.json()
}
const reportOf = async (id: string) => (await ops(`/ops/batches/${id}`)) as Report

async function until(id: string, isSo: (report: Report) => boolean): Promise<Report> {
  const untilMs = performance.now() + BATCH_MS_MAX
  for (;;) {
    const report = await reportOf(id)
    if (isSo(report)) return report
    if (performance.now() > untilMs) throw new Error(`the batch stands at ${JSON.stringify(report)}`)
    await pause(20)
  }
}

/** The command as a process that can be killed. */
function begin(args: readonly string[]): ChildProcess {
  const env = { PATH: process.env['PATH'] ?? '', ...environment }
  return spawn(process.execPath, [CLI, ...args], { env, stdio: 'ignore' })
}

async function kill(child: ChildProcess): Promise<void> {
  const isOver = once(child, 'exit')
  child.kill('SIGKILL')
  await isOver
  // Killed by us, and not over before: else this would prove nothing.
  expect(child.signalCode).toBe('SIGKILL')
}

/** Begins the batch and kills it (SIGKILL) once it is a third done. Its id comes back. */
async function beginAndKill(): Promise<string> {
  const first = begin(['batch', ...FILTER])
  type Page = { items: { id: string; state: string }[] }
  let id: string | undefined
  while (id === undefined) {
    expect(first.exitCode).toBeNull()
    id = ((await ops('/ops/batches')) as Page).items.find(({ state }) => state === 'running')?.id
  }
  await until(id, ({ done }) => done >= orders.length / 3)
  await kill(first)
  const halted = await reportOf(id)
  expect(halted.state).toBe('running')
  expect(halted.done).toBeLessThan(orders.length)
  return id
}

/** What the records say of this batch, without its own report: by each item's trace, the one sync that was committed. */
async function recordedResults(id: string): Promise<Record<string, Result>> {
  const { rows } = await pool().query<{ result: string; count: number; fen: string }>(
    `SELECT CASE WHEN s.outcome = 'mismatch' THEN 'mismatch' ELSE
       CASE s.decision WHEN 'settle' THEN 'settled' WHEN 'close_local' THEN 'closed_local' WHEN 'wait' THEN 'waiting'
         WHEN 'close_gateway' THEN 'closed_gateway' WHEN 'none' THEN 'unchanged' ELSE s.decision END END AS result,
       count(*)::int AS count, sum(o.amount_fen)::text AS fen
     FROM batch_items i JOIN sync_records s ON s.order_id = i.order_id AND s.trace_id = i.trace_id
     JOIN orders o ON o.id = i.order_id WHERE i.batch_id = $1 GROUP BY 1`,
    [id],
  )
  return Object.fromEntries(rows.map(({ result, count, fen }) => [result, { count, fen: Number(fen) }]))
}

/** Expired orders that the killed one had closed at the gateway and not yet here: the next sync only finished the job. */
async function closedThereByTheKilled(): Promise<readonly Planned[]> {
  const { rows } = await pool().query<{ id: string }>(
    `SELECT order_id::text AS id FROM repair_records WHERE way = 'pay_close_local'`,
  )
  const closedHere = new Set(rows.map(({ id }) => id))
  const found = orders.filter(({ id, kind }) => kind === 'expired' && closedHere.has(id))
  for (const { id } of found) expect(wechat.calls(id).close).toBe(1)
  return found
}

/** Every order is what its trade says, repaired once, and no rule is broken. */
async function expectEveryOrderRight(): Promise<void> {
  const { rows } = await pool().query<{ id: string; status: string; repairs: number; repaired: string }>(
    `SELECT o.id, o.status, count(r.repair_no)::int AS repairs, coalesce(sum(r.amount_fen), 0)::text AS repaired
     FROM orders o LEFT JOIN repair_records r ON r.order_id = o.id GROUP BY o.id`,
  )
  const found = new Map(rows.map((row) => [row.id, row]))
  const wrong = orders.filter(({ id, kind, amount }) => {
    const row = found.get(id)
    const isRepaired = EXPECTED[kind][1] !== 'progress'
    return (
      row?.status !== EXPECTED[kind][1] ||
      row.repairs !== (isRepaired ? 1 : 0) ||
      (isRepaired && Number(row.repaired) !== amount)
    )
  })
  expect(wrong).toEqual([])
  expect(Math.max(...orders.map(({ id }) => wechat.calls(id).queriesInFlightMax))).toBeLessThanOrEqual(1)
  expect(await breachesOf(pool())).toEqual([])
}

describe('orders pending after an outage', () => {
  it('5,000 of them: a dry run tells, a batch killed half-way and resumed elsewhere does, exactly that: to the order and to the fen', async () => {
    await playOutage(5_000)
    const dry = await unipay(environment, ['batch', '--dry-run', ...FILTER, '--json'])
    expect(dry.status).toBe(0)
    expect((JSON.parse(dry.stdout) as Report).results).toEqual(expectedResults())
    expect(await statuses()).toEqual([{ status: 'progress', count: orders.length }])

    const id = await beginAndKill()
    const resumed = await unipay(environment, ['batch', '--resume', id, '--json'])
    expect(resumed.status).toBe(0)
    const report = JSON.parse(resumed.stdout) as Report
    const halfDone = await closedThereByTheKilled()
    expect(report).toMatchObject({
      state: 'done',
      total: orders.length,
      done: orders.length,
      results: expectedResults(halfDone),
    })
    expect(await reportOf(id)).toEqual(report)
    expect(await recordedResults(id)).toEqual(report.results)
    const { rows } = await pool().query<{ status: string; fen: string }>(
      'SELECT status, sum(amount_fen)::text AS fen FROM orders GROUP BY status',
    )
    const fenOf = (...results: string[]) => results.reduce((sum, result) => sum + (report.results[result]?.fen ?? 0), 0)
    expect(Object.fromEntries(rows.map(({ status, fen }) => [status, Number(fen)]))).toEqual({
      success: fenOf('settled'),
      close: fenOf('closed_gateway', 'closed_local'),
      progress: fenOf('waiting', 'mismatch'),
    })
    await expectEveryOrderRight()
  })

  it('2,000 of them: killed twice, the second time a whole instance, the batch is finished by one that also sweeps', async () => {
    await playOutage(2_000)
    const id = await beginAndKill()
    const second = await startServiceProcess({ ...environment, ROLES: 'sweeper' })
    await until(id, ({ done }) => done >= (2 * orders.length) / 3)
    await second.kill()
    const third = await startServiceProcess({ ...environment, ROLES: 'sweeper' })
    const report = await until(id, ({ state }) => state !== 'running')
    await third.stop()
    expect(report).toMatchObject({ state: 'done', total: orders.length, done: orders.length })
    // What a sweeper was quicker with, the batch finds unchanged; the report says what the records say all the same.
    expect(await recordedResults(id)).toEqual(report.results)
    await expectEveryOrderRight()
  })
})
