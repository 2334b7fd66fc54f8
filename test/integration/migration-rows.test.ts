import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { expect, it, onTestFinished } from 'vitest'

import { migrate } from '../../src/store/migrate.js'
import { createDatabase } from '../support/database.js'

const MIGRATIONS = path.join('prisma', 'migrations')

/** A database as it was before one migration, with three orders that have a sync and a repair each; `finish` applies the rest. */
async function databaseBefore(name: string) {
  const database = await createDatabase({ migrated: false })
  const folder = await mkdtemp(path.join(tmpdir(), 'migrations-'))
  onTestFinished(async () => {
    await database.drop()
    await rm(folder, { recursive: true })
  })
  for (const earlier of (await readdir(MIGRATIONS)).filter((found) => found < name))
    await cp(path.join(MIGRATIONS, earlier), path.join(folder, earlier), { recursive: true })
  const connection = { connectionString: database.url }
  expect(await migrate(connection, { migrationsDir: folder })).toMatchObject({ kind: 'migrated' })
  const pool = database.pool()
  await pool.query(
    `INSERT INTO orders (id, business_no, amount_fen, out_trade_no, expires_at) SELECT n, n, 1, n, now() FROM generate_series(1, 3) n;
     INSERT INTO sync_records (order_id, trace_id, source, outcome, gateway_status, decision, exchanges, duration_ms)
     SELECT n, 't', 'merchant', 'synced', 'pay_success', 'settle', '[]', 1 FROM generate_series(1, 3) n;
     INSERT INTO repair_records (repair_no, order_id, sync_id, way, gateway_status, status_before, status_after, amount_fen)
     SELECT n, n, n, 'pay_success', 'pay_success', 'progress', 'success', 1 FROM generate_series(1, 3) n`,
  )
  const finish = async () =>
    expect(await migrate(connection)).toMatchObject({ kind: 'migrated', applied: expect.arrayContaining([name]) })
  return { pool, finish }
}

it('0010: findings are known by their payment, and those that were there before are known again', async () => {
  const { pool, finish } = await databaseBefore('0010_findings_by_payment')
  const findings = [
    ['double_payment', 'paid T2', { stateThere: 'paid', gatewayOrderNoThere: 'T2' }],
    ['paid_here_not_there', 'closed T1', { stateThere: 'closed', gatewayOrderNoThere: 'T1' }],
    ['amount_mismatch', 'amount=1', { stateThere: 'paid', gatewayOrderNoThere: 'T3' }],
    ['identity_mismatch', 'app=x', { stateThere: 'paying', gatewayOrderNoThere: null }],
  ] as const
  for (const [kind, fingerprint, evidence] of findings)
    await pool.query(
      `INSERT INTO sync_exceptions (order_id, sync_id, kind, at_risk_fen, fingerprint, evidence) VALUES (1, 1, $1, 1, $2, $3)`,
      [kind, fingerprint, JSON.stringify(evidence)],
    )
  await finish()
  const { rows } = await pool.query<{ fingerprint: string }>('SELECT fingerprint FROM sync_exceptions ORDER BY id')
  expect(rows.map(({ fingerprint }) => fingerprint)).toEqual(['T2', '', 'T3 amount=1', ' app=x'])
})

it('0009: what waits behind a newer notice of its order, or was given up before it, is superseded', async () => {
  const { pool, finish } = await databaseBefore('0009_superseded_notices')
  // Any repair will do: what counts is which notice of an order is the newest.
  await pool.query(
    `INSERT INTO notices (order_id, repair_no, trace_id, url, host, payload, state, next_attempt_at)
     VALUES (1, 1, 't', 'u', 'h', '{}', 'pending', now()), (2, 2, 't', 'u', 'h', '{}', 'dead', NULL), (1, 3, 't', 'u', 'h', '{}', 'pending', now())`,
  )
  await finish()
  const { rows } = await pool.query('SELECT state, next_attempt_at IS NULL AS never FROM notices ORDER BY id')
  expect(rows).toEqual([
    { state: 'superseded', never: true },
    { state: 'dead', never: true },
    { state: 'pending', never: false },
  ])
})
