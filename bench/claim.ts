import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import pg from 'pg'

import { startEmbedded } from '../src/store/embedded.js'
import { migrate } from '../src/store/migrate.js'
import { createOrders } from '../src/store/orders.js'

/** Claiming the next 100 due orders must not depend on how many orders there are. */
const SIZES = [10_000, 1_000_000] as const
const CLAIM = 100
const ROUNDS = 50
const CHANNEL = 'wechat_pay'

/** A tenth of the orders are due, those created first due longest; a tenth are due later, the rest are at rest. */
const FILL = `
INSERT INTO orders (id, business_no, channel, amount_fen, status, out_trade_no, expires_at, next_sync_at)
SELECT n, 'B' || n, $1, 1000, CASE WHEN n % 10 < 2 THEN 'progress' ELSE 'success' END, n::text, now() + interval '1 hour',
  CASE n % 10 WHEN 0 THEN now() - ($3 - n) * interval '1 millisecond' WHEN 1 THEN now() + n * interval '1 second' END
FROM generate_series($2::bigint, $3::bigint) AS n`

const dataDir = await mkdtemp(path.join(tmpdir(), 'unipay-bench-'))
await chmod(dataDir, 0o711)
const server = await startEmbedded({ dataDir, fsync: false })
const pool = new pg.Pool({ connectionString: server.url, max: 1 })
try {
  const migrated = await migrate({ connectionString: server.url })
  if (migrated.kind === 'refused') throw new Error(migrated.message)
  const plans: string[] = []
  let filled = 0
  for (const size of SIZES) {
    await pool.query(FILL, [CHANNEL, filled + 1, size])
    await pool.query('VACUUM ANALYZE orders')
    filled = size
    plans.push(await measure(size))
  }
  process.stdout.write(`same plan at every size: ${new Set(plans).size === 1 ? 'yes' : 'NO'}\n`)
} finally {
  await pool.end()
  await server.stop()
  await rm(dataDir, { recursive: true, force: true })
}

/** Prints the statement's plan and its times; the plan's shape comes back. */
async function measure(size: number): Promise<string> {
  const orders = createOrders(pool, { leaseMs: 30_000, channels: [CHANNEL] })
  const times: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const startedMs = performance.now()
    const claimed = await orders.claimDue(CHANNEL, CLAIM)
    times.push(performance.now() - startedMs)
    if (claimed.length !== CLAIM) {
      throw new Error(`claimed ${claimed.length}`)
    }
    // Those of the small table would be gone after ten rounds.
    if (size / 10 <= (round + 2) * CLAIM)
      await pool.query("UPDATE orders SET next_sync_at = now() - interval '1 hour' WHERE id % 10 = 0")
  }
  times.sort((one, other) => one - other)
  const at = (part: number) => (times[Math.floor((times.length - 1) * part)] ?? 0).toFixed(1)
  process.stdout.write(
    `\n${size.toLocaleString('en')} orders: claiming ${CLAIM} takes ${at(0.5)} ms (median), ${at(0.95)} ms (95 %), ${at(1)} ms (longest of ${ROUNDS})\n`,
  )
  const plan = await explain()
  process.stdout.write(`${plan}\n`)
  return plan
    .replaceAll(/\s*\(.*?\)(?=\n|$)/g, '')
    .replaceAll(/\n.*(?:Time|Memory|Buffers|Batches|Heap Fetches|Removed|Searches|Cache|Storage).*(?=\n|$)/g, '')
}

/** The very statement that the sweeper runs, as the server's own statement cache has it. */
async function explain(): Promise<string> {
  const { rows: statements } = await pool.query<{ statement: string }>(
    "SELECT statement FROM pg_prepared_statements WHERE name = 'claim_due'",
  )
  if (statements[0] === undefined) throw new Error('claim_due was never prepared')
  const { rows } = await pool.query<{ 'QUERY PLAN': string }>(
    `EXPLAIN (ANALYZE, BUFFERS OFF) EXECUTE claim_due('${CHANNEL}', ${CLAIM}, 30000)`,
  )
  return rows.map((row) => row['QUERY PLAN']).join('\n')
}
