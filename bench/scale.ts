// The same work in tables of different size, on one server and in turn, so that only the size differs: throughput of
// syncs of orders all over the table, and the plan and time of each statement that a growing table could hurt.
import Table from 'cli-table3'
import pg from 'pg'

import type { OrderId } from '../src/domain/order.js'
import { createLeases, type Leases } from '../src/store/leases.js'
import { createOverview } from '../src/store/overview.js'
import { createRecords } from '../src/store/records.js'
import { createRetention } from '../src/store/retention.js'
import { type CommitSync, createSyncCommit } from '../src/store/sync-commit.js'
import { type Spread, spreadOf } from './compare.js'
import { type Explained, explainingPool } from './explain.js'
import { measure, type RunOptions } from './measure.js'
import { type Block, SCALE_FIRST_ID } from './orders.js'
import type { Stage, Target } from './stage.js'
import { number, PLAIN, spreadText } from './table.js'

/** Orders that the load syncs, evenly spread over the table: unsettled ones do not grow with it. */
const UNSETTLED = 5_000
const HISTORY_OF_ONE = 1_000
const ROWS_PER_FILL = 250_000
const CLAIM = 100
/** The smallest table has 1,000 due. */
const CLAIMS = 8
const PRUNE = 1_000
const REPEATED = 20

/** A tenth is due (closed ones on the late-payment watch), some thousand are unsettled, the rest at rest; 90 days of them. */
const FILL_ORDERS = `
INSERT INTO orders (id, business_no, channel, pay_way, amount_fen, status, out_trade_no, created_at, expires_at, close_time,
  next_sync_at)
SELECT $1::bigint + n, 'B' || n, 'wechat_pay', 'qr_code', 1000, status, 'N' || ($1::bigint + n), created_at,
  CASE status WHEN 'progress' THEN now() + interval '1 day' ELSE created_at + interval '30 minutes' END,
  CASE status WHEN 'close' THEN created_at + interval '30 minutes' END,
  CASE status WHEN 'progress' THEN now() + interval '1 day' WHEN 'close' THEN now() - ($4::bigint - n) * interval '1 millisecond' END
FROM (SELECT n, CASE WHEN n % ($4::bigint / $5::bigint) = 0 THEN 'progress' WHEN n % 10 = 1 THEN 'close' ELSE 'success' END AS status,
  now() - interval '90 days' * (1 - n::float8 / $4::bigint) AS created_at FROM generate_series($2::bigint, $3::bigint) AS n) AS made`
/** One record for every fifth order, and a long history for one. */
const RECORD = `
INSERT INTO sync_records (order_id, trace_id, source, outcome, gateway_status, trade_state, decision, exchanges, duration_ms, created_at)
SELECT id, 'fill' || id, 'merchant', 'synced', 'pay_progress', 'paying', 'wait', jsonb_build_array(jsonb_build_object(
  'method', 'GET', 'host', 'api.example', 'path', out_trade_no, 'status', 200, 'durationMs', 20, 'body', repeat('x', 300))), 25, created_at
FROM orders`
const FILL_RECORDS = `${RECORD} WHERE id BETWEEN $1::bigint + $2::bigint AND $1::bigint + $3::bigint AND id % 5 = 0`
const FILL_HISTORY = `${RECORD}, generate_series(1, $2::int) WHERE id = $1`

export type SizeResult = Readonly<{
  orders: number
  mib: number
  throughputPerS: Spread
  /** Of the smallest table's, in the same round. */
  ratio: Spread
  statements: Readonly<Record<string, Explained>>
}>

export async function runScale(
  stage: Stage,
  sizes: readonly number[],
  options: RunOptions & Readonly<{ rounds: number; warmMs: number }>,
): Promise<readonly SizeResult[]> {
  const tables: { size: number; url: string; mib: number; target: Target }[] = []
  for (const size of sizes) {
    const url = await stage.newDatabase(`scale_${size}`)
    const mib = await fill(url, size)
    tables.push({ size, url, mib, target: await stage.start('service', url) })
  }
  const rates = tables.map((): number[] => [])
  for (let round = -1; round < options.rounds; round++) {
    for (const [index, { size, target }] of tables.entries()) {
      const durationMs = round < 0 ? options.warmMs : options.durationMs
      const scenario = { name: `${size} orders`, block: blockOf(size), isConsuming: false, codes: ['0'] }
      const { throughputPerS } = await measure(stage, [target], scenario, { ...options, durationMs })
      if (round >= 0) rates[index]?.push(throughputPerS)
    }
  }
  const results: SizeResult[] = []
  for (const [index, { size, url, mib }] of tables.entries()) {
    const ours = rates[index] ?? []
    const ratio = spreadOf(ours.map((rate, round) => rate / (rates[0]?.[round] ?? Number.NaN)))
    results.push({ orders: size, mib, throughputPerS: spreadOf(ours), ratio, statements: await explainAll(url, size) })
  }
  return results
}

function blockOf(size: number): Block {
  return { kind: 'N', channel: 'wechat_pay', firstId: SCALE_FIRST_ID, count: UNSETTLED, step: BigInt(size / UNSETTLED) }
}

/** Returns what the database takes on disk. MiB. */
async function fill(url: string, size: number): Promise<number> {
  const pool = new pg.Pool({ connectionString: url, max: 1 })
  try {
    await pool.query('SET synchronous_commit = off')
    for (let from = 0; from < size; from += ROWS_PER_FILL) {
      const to = Math.min(size, from + ROWS_PER_FILL) - 1
      await pool.query(FILL_ORDERS, [SCALE_FIRST_ID.toString(), from, to, size, UNSETTLED])
      await pool.query(FILL_RECORDS, [SCALE_FIRST_ID.toString(), from, to])
    }
    await pool.query(FILL_HISTORY, [historyOf(size).toString(), HISTORY_OF_ONE])
    await pool.query('VACUUM ANALYZE orders')
    await pool.query('VACUUM ANALYZE sync_records')
    await pool.query('CHECKPOINT')
    const { rows } = await pool.query<{ mib: number }>('SELECT pg_database_size(current_database()) / 1048576 AS mib')
    return Number(rows[0]?.mib)
  } finally {
    await pool.end()
  }
}

/** An unsettled order in the middle of the table: the one with the long history. */
function historyOf(size: number): bigint {
  const { firstId, step } = blockOf(size)
  return firstId + (BigInt(UNSETTLED) / 2n) * step
}

/** Each statement as the service itself makes it, several times over; its plan is what the server says it did. */
async function explainAll(url: string, size: number): Promise<Readonly<Record<string, Explained>>> {
  const { pool, prisma, explain, close } = explainingPool(url)
  const leases = createLeases(pool, { leaseMs: 34_000, channels: ['wechat_pay'] })
  const commitSync = createSyncCommit(pool, leases)
  const retention = createRetention(pool)
  const before = new Date(Date.now() - 45 * 86_400_000)
  const { firstId, step } = blockOf(size)
  let at = 0n
  let afterId = 0n
  try {
    return {
      'lease and commit': await explain(REPEATED, async () => {
        await leaseAndCommit(leases, commitSync, firstId + step * at++)
      }),
      [`claim of ${CLAIM} due`]: await explain(CLAIMS, async () => {
        const claimed = await leases.claimDue('wechat_pay', CLAIM)
        if (claimed.length !== CLAIM) throw new Error(`claimed ${claimed.length}`)
      }),
      history: await explain(REPEATED, async () => await createRecords(prisma).findHistory({ id: historyOf(size) })),
      'unsettled money': await explain(REPEATED, async () => await createOverview(pool, ['wechat_pay']).unsettled()),
      [`prune step of ${PRUNE}`]: await explain(3, async () => {
        afterId = (await retention.pruneSyncs(afterId, before, PRUNE)).lastId
      }),
    }
  } finally {
    await close()
  }
}

/** The two statements of a sync that finds nothing to repair. */
async function leaseAndCommit(leases: Leases, commitSync: CommitSync, id: bigint): Promise<void> {
  const leased = await leases.acquire({ id: id as OrderId }, { dryRun: false })
  if (leased.kind !== 'acquired') throw new Error(leased.kind)
  const committed = await commitSync({
    lease: leased.lease,
    record: {
      traceId: 'explained',
      source: 'merchant',
      actor: null,
      clientIp: null,
      outcome: 'synced',
      gatewayStatus: 'pay_progress',
      tradeState: 'paying',
      decision: 'wait',
      errorCode: null,
      errorMsg: null,
      exchanges: [],
      durationMs: 1,
      gatewayMs: 1,
    },
    reversal: 'none',
    repair: null,
    notice: null,
    exception: null,
    nextSyncDelayS: 86_400,
    failures: 0,
  })
  if (committed.kind !== 'committed') throw new Error(committed.kind)
}

/** The table of sizes, and each plan: once where it is the same at every size, else as it is at each. */
export function scaleText(results: readonly SizeResult[]): string {
  const names = Object.keys(results[0]?.statements ?? {})
  const table = new Table({
    head: ['orders', 'MiB on disk', 'syncs /s', 'of the smallest', ...names.map((name) => `${name}, ms`)],
    style: PLAIN,
  })
  for (const { orders, mib, throughputPerS, ratio, statements } of results)
    table.push([
      orders.toLocaleString('en'),
      number(mib),
      number(throughputPerS.median),
      spreadText(ratio),
      ...names.map((name) => number(statements[name]?.ms.median ?? Number.NaN)),
    ])
  const plans = names.map((name) => {
    const told = new Map<string, { sizes: string[]; plan: string }>()
    for (const { orders, statements } of results) {
      const { shape, plan } = statements[name] ?? { shape: '', plan: '' }
      const sizes = told.get(shape)?.sizes ?? []
      told.set(shape, { sizes: [...sizes, orders.toLocaleString('en')], plan })
    }
    const title = `${name}: ${told.size === 1 ? 'the same plan at every size' : 'DIFFERENT PLANS'}`
    return [title, ...[...told.values()].map(({ sizes, plan }) => `${sizes.join(' and ')} orders:\n${plan}`)].join('\n')
  })
  return [table.toString(), ...plans].join('\n\n')
}
