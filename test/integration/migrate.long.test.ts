import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client, type Pool } from 'pg'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type MigrationOutcome, migrate, migrationStatus } from '../../src/store/migrate.js'
import { exists } from '../../src/store/postgres-binaries.js'
import { createDatabase } from '../support/database.js'

const FIRST = 'CREATE TABLE one (id int PRIMARY KEY);\nINSERT INTO one VALUES (1);\n'
const SECOND = "ALTER TABLE one ADD COLUMN note text NOT NULL DEFAULT '';\n"
const BROKEN = 'CREATE TABLE two (id int);\nINSERT INTO two VALUES (1);\nINSERT INTO nowhere VALUES (1);\n'
const NOTHING_WRONG = { pending: [], failed: [], edited: [], unknown: [], isReadOnly: false }

describe('applying', () => {
  test('the migrations of this release apply, in order, and a second run changes nothing', async () => {
    const { pool, url } = await emptyDatabase()
    const first = await migrate({ connectionString: url })
    expect(first).toMatchObject({ kind: 'migrated', unknown: [] })
    const rows = await migrationRows(pool)
    expect(rows.map((row) => row.migration_name)).toEqual(first.kind === 'migrated' ? first.applied : [])
    expect(rows.length).toBeGreaterThan(0)
    expect(await migrate({ connectionString: url })).toEqual({ kind: 'migrated', applied: [], unknown: [] })
    expect(await migrationRows(pool)).toEqual(rows)
    expect(await migrationStatus(pool)).toEqual(NOTHING_WRONG)
  })

  test('any number of runs at once apply each migration once', async () => {
    const { pool, url } = await emptyDatabase()
    const migrationsDir = await folderWith({ '0001_first': FIRST, '0002_second': SECOND })
    const runs = Array.from({ length: 6 }, async () => await migrate({ connectionString: url }, { migrationsDir }))
    const outcomes = await Promise.all(runs)
    expect(outcomes.flatMap(appliedBy)).toEqual(['0001_first', '0002_second'])
    expect(await migrationRows(pool)).toHaveLength(2)
    expect(await count(pool, 'one')).toBe(1)
  })

  test('a new migration is pending until it is applied', async () => {
    const { pool, url } = await emptyDatabase()
    const migrationsDir = await folderWith({ '0001_first': FIRST })
    expect(await migrationStatus(pool, { migrationsDir })).toMatchObject({ pending: ['0001_first'] })
    await migrate({ connectionString: url }, { migrationsDir })
    await addTo(migrationsDir, '0002_second', SECOND)
    expect(await migrationStatus(pool, { migrationsDir })).toMatchObject({ pending: ['0002_second'] })
    expect(await migrate({ connectionString: url }, { migrationsDir })).toMatchObject({ applied: ['0002_second'] })
  })

  test('a database that a newer release has migrated is left alone and named', async () => {
    const { url } = await emptyDatabase()
    await migrate(
      { connectionString: url },
      { migrationsDir: await folderWith({ '0001_first': FIRST, '0002_second': SECOND }) },
    )
    const older = await folderWith({ '0001_first': FIRST })
    expect(await migrate({ connectionString: url }, { migrationsDir: older })).toEqual({
      kind: 'migrated',
      applied: [],
      unknown: ['0002_second'],
    })
  })
})

describe('refusing', () => {
  test('a failed migration changes nothing, is recorded with its reason, and stops what follows', async () => {
    const { pool, url } = await emptyDatabase()
    const migrationsDir = await folderWith({ '0001_first': FIRST, '0002_broken': BROKEN, '0003_second': SECOND })
    const outcome = await migrate({ connectionString: url }, { migrationsDir })
    expect(outcome).toMatchObject({ kind: 'refused', reason: 'failed_now' })
    expect(messageOf(outcome)).toMatch(/0002_broken failed: relation "nowhere" does not exist \(line 3\)/)
    const rows = await migrationRows(pool)
    expect(rows.map((row) => [row.migration_name, row.finished_at !== null, row.applied_steps_count])).toEqual([
      ['0001_first', true, 1],
      ['0002_broken', false, 0],
    ])
    expect(rows[1]?.logs).toMatch(/relation "nowhere" does not exist/)
    expect(await count(pool, 'pg_tables', "tablename = 'two'")).toBe(0)

    expect(await migrationStatus(pool, { migrationsDir })).toMatchObject({
      pending: ['0002_broken', '0003_second'],
      failed: ['0002_broken'],
    })
    const again = await migrate({ connectionString: url }, { migrationsDir })
    expect(again).toMatchObject({ kind: 'refused', reason: 'failed_before' })
    expect(await migrationRows(pool)).toEqual(rows)
  })

  test('one of a newer release that is under way, or failed, is not ours to refuse', async () => {
    const { pool, url } = await emptyDatabase()
    await migrate({ connectionString: url }, { migrationsDir: await folderWith({ '0001_first': FIRST }) })
    const newer = await folderWith({ '0001_first': FIRST, '0002_broken': BROKEN })
    expect(await migrate({ connectionString: url }, { migrationsDir: newer })).toMatchObject({ kind: 'refused' })
    const older = await folderWith({ '0001_first': FIRST })
    expect(await migrationStatus(pool, { migrationsDir: older })).toEqual({
      ...NOTHING_WRONG,
      unknown: ['0002_broken'],
    })
    const outcome = await migrate({ connectionString: url }, { migrationsDir: older })
    expect(outcome).toEqual({ kind: 'migrated', applied: [], unknown: ['0002_broken'] })
  })

  test('the statement that a refusal names lets a migration that did nothing be applied again', async () => {
    const { pool, url } = await emptyDatabase()
    const scripts = { '0001_first': FIRST, '0002_broken': BROKEN }
    const migrationsDir = await folderWith(scripts)
    await migrate({ connectionString: url }, { migrationsDir })
    await pool.query(statementIn(await migrate({ connectionString: url }, { migrationsDir })))
    // Not mended, it fails again and says the same.
    expect(messageOf(await migrate({ connectionString: url }, { migrationsDir }))).toContain('0002_broken failed:')
    await pool.query(statementIn(await migrate({ connectionString: url }, { migrationsDir })))
    await addTo(migrationsDir, '0002_broken', SECOND)
    expect(await migrate({ connectionString: url }, { migrationsDir })).toMatchObject({ applied: ['0002_broken'] })
    expect(await migrationStatus(pool, { migrationsDir })).toEqual(NOTHING_WRONG)
  })

  test('the same statement with finished_at passes over a migration that was done when its connection was lost', async () => {
    const { pool, url } = await emptyDatabase()
    const lost = `BEGIN;\n${FIRST}COMMIT;\nSELECT pg_terminate_backend(pg_backend_pid());\n`
    const migrationsDir = await folderWith({ '0001_first': lost, '0002_second': SECOND })
    await expect(migrate({ connectionString: url }, { migrationsDir })).rejects.toThrow()
    const statement = statementIn(await migrate({ connectionString: url }, { migrationsDir }))
    await pool.query(statement.replace('rolled_back_at', 'finished_at'))
    expect(await migrate({ connectionString: url }, { migrationsDir })).toMatchObject({ applied: ['0002_second'] })
    expect(await migrationStatus(pool, { migrationsDir })).toEqual(NOTHING_WRONG)
    expect(await count(pool, 'one')).toBe(1)
  })

  test('a failure inside a transaction of the script itself is recorded as well', async () => {
    const { pool, url } = await emptyDatabase()
    const migrationsDir = await folderWith({ '0001_broken': `BEGIN;\n${BROKEN}COMMIT;\n` })
    const outcome = await migrate({ connectionString: url }, { migrationsDir })
    expect(outcome).toMatchObject({ kind: 'refused', reason: 'failed_now' })
    expect((await migrationRows(pool))[0]?.logs).toMatch(/nowhere/)
  })

  test('a migration edited after it was applied stops everything; other line ends are no edit', async () => {
    const { pool, url } = await emptyDatabase()
    await migrate({ connectionString: url }, { migrationsDir: await folderWith({ '0001_first': FIRST }) })
    const windows = await folderWith({ '0001_first': FIRST.replaceAll('\n', '\r\n') })
    expect(await migrate({ connectionString: url }, { migrationsDir: windows })).toMatchObject({ kind: 'migrated' })

    const edited = await folderWith({ '0001_first': `${FIRST}-- later\n`, '0002_second': SECOND })
    const outcome = await migrate({ connectionString: url }, { migrationsDir: edited })
    expect(outcome).toMatchObject({ kind: 'refused', reason: 'edited' })
    expect(messageOf(outcome)).toMatch(/0001_first/)
    expect(await migrationRows(pool)).toHaveLength(1)
  })

  test('the wait for a process that migrates already has an end', async () => {
    const { url } = await emptyDatabase()
    const holder = new Client({ connectionString: url })
    await holder.connect()
    await holder.query('SELECT pg_advisory_lock(72707369)')
    const outcome = await migrate({ connectionString: url }, { lockTimeoutMs: 50 })
    expect(outcome).toMatchObject({ kind: 'refused', reason: 'locked' })
    await holder.end()
    expect(await migrate({ connectionString: url })).toMatchObject({ kind: 'migrated' })
  })

  test('a connection lost in the middle throws, and leaves a row that makes the next run refuse', async () => {
    const { pool, url } = await emptyDatabase()
    const suicide = 'SELECT pg_terminate_backend(pg_backend_pid());\n'
    const migrationsDir = await folderWith({ '0001_first': suicide })
    await expect(migrate({ connectionString: url }, { migrationsDir })).rejects.toThrow()
    expect(await migrationStatus(pool, { migrationsDir })).toMatchObject({ failed: ['0001_first'] })
    const next = await migrate({ connectionString: url }, { migrationsDir })
    expect(next).toMatchObject({ kind: 'refused', reason: 'failed_before' })
  })
})

// The CLI's engine is not part of the dependencies; where a whole CLI lies beside the project, both are held together.
const PRISMA = fileURLToPath(new URL('../../../shared/tools/prisma', import.meta.url))
const hasPrisma = (await exists(PRISMA)) && (await prisma(tmpdir(), '', ['--version'])).code === 0

describe.skipIf(!hasPrisma)(
  `interchangeable with the Prisma CLI${hasPrisma ? '' : ' (skipped: no whole CLI here)'}`,
  () => {
    test('what we applied is up to date for `migrate status` and left alone by `migrate deploy`', async () => {
      const { pool, url } = await emptyDatabase()
      const project = await prismaProject({ '0001_first': FIRST, '0002_second': SECOND })
      await migrate({ connectionString: url }, { migrationsDir: project.migrationsDir })
      const rows = await migrationRows(pool)
      expect((await prisma(project.root, url, ['migrate', 'status'])).output).toMatch(/up to date/)
      expect((await prisma(project.root, url, ['migrate', 'deploy'])).output).toMatch(/No pending migrations/)
      expect(await migrationRows(pool)).toEqual(rows)
    })

    test('what `migrate deploy` applied is applied for us, and its table is the one we make', async () => {
      const [theirs, ours] = [await emptyDatabase(), await emptyDatabase()]
      const project = await prismaProject({ '0001_first': FIRST })
      expect((await prisma(project.root, theirs.url, ['migrate', 'deploy'])).code).toBe(0)
      await addTo(project.migrationsDir, '0002_second', SECOND)
      const { migrationsDir } = project
      expect(appliedBy(await migrate({ connectionString: theirs.url }, { migrationsDir }))).toEqual(['0002_second'])
      await migrate({ connectionString: ours.url }, { migrationsDir })
      expect(await tableShape(ours.pool)).toEqual(await tableShape(theirs.pool))
      const checksums = async (pool: Pool): Promise<unknown> =>
        (await migrationRows(pool)).map((row) => [row.migration_name, row.checksum, row.applied_steps_count])
      expect(await checksums(ours.pool)).toEqual(await checksums(theirs.pool))
    })

    test('a failure of either stops the other until it is resolved', async () => {
      const [theirs, ours] = [await emptyDatabase(), await emptyDatabase()]
      const project = await prismaProject({ '0001_broken': BROKEN })
      const { migrationsDir, root } = project
      expect((await prisma(root, theirs.url, ['migrate', 'deploy'])).code).not.toBe(0)
      const outcome = await migrate({ connectionString: theirs.url }, { migrationsDir })
      expect(outcome).toMatchObject({ kind: 'refused', reason: 'failed_before' })

      await migrate({ connectionString: ours.url }, { migrationsDir })
      expect((await prisma(root, ours.url, ['migrate', 'deploy'])).output).toMatch(/P3009/)
      expect((await prisma(root, ours.url, ['migrate', 'resolve', '--rolled-back', '0001_broken'])).code).toBe(0)
      await addTo(migrationsDir, '0001_broken', FIRST)
      expect(appliedBy(await migrate({ connectionString: ours.url }, { migrationsDir }))).toEqual(['0001_broken'])
    })
  },
)

async function emptyDatabase(): Promise<{ pool: Pool; url: string }> {
  const database = await createDatabase({ migrated: false })
  onTestFinished(database.drop)
  return { pool: database.pool(), url: database.url }
}

async function folderWith(scripts: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'unipay-migrations-'))
  onTestFinished(async () => await rm(folder, { recursive: true, force: true }))
  for (const [name, script] of Object.entries(scripts)) await addTo(folder, name, script)
  await writeFile(path.join(folder, 'migration_lock.toml'), 'provider = "postgresql"\n')
  return folder
}

async function addTo(folder: string, name: string, script: string): Promise<void> {
  await mkdir(path.join(folder, name), { recursive: true })
  await writeFile(path.join(folder, name, 'migration.sql'), script)
}

type MigrationRow = {
  migration_name: string
  checksum: string
  finished_at: Date | null
  logs: string | null
  applied_steps_count: number
}

async function migrationRows(pool: Pool): Promise<MigrationRow[]> {
  return (await pool.query<MigrationRow>('SELECT * FROM _prisma_migrations ORDER BY started_at')).rows
}

async function tableShape(pool: Pool): Promise<unknown[]> {
  const found = await pool.query<Record<string, unknown>>(
    `SELECT column_name, data_type, character_maximum_length, is_nullable, column_default
       FROM information_schema.columns WHERE table_name = '_prisma_migrations' ORDER BY ordinal_position`,
  )
  return found.rows
}

async function count(pool: Pool, table: string, condition = 'true'): Promise<number | undefined> {
  const found = await pool.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table} WHERE ${condition}`)
  return found.rows[0]?.n
}

function appliedBy(outcome: MigrationOutcome): string[] {
  if (outcome.kind === 'refused') throw new Error(outcome.message)
  return outcome.applied
}

function messageOf(outcome: MigrationOutcome): string {
  return outcome.kind === 'refused' ? outcome.message : ''
}

/** The statement of a refusal, as somebody would copy it. */
function statementIn(outcome: MigrationOutcome): string {
  expect(messageOf(outcome)).toMatch(/finished_at = now\(\)/)
  return /UPDATE _prisma_migrations SET .* IS NULL/.exec(messageOf(outcome))?.[0] ?? ''
}

async function prismaProject(scripts: Record<string, string>): Promise<{ root: string; migrationsDir: string }> {
  const root = await mkdtemp(path.join(tmpdir(), 'unipay-prisma-'))
  onTestFinished(async () => await rm(root, { recursive: true, force: true }))
  const migrationsDir = await folderWith(scripts)
  await writeFile(path.join(root, 'schema.prisma'), 'datasource db {\n  provider = "postgresql"\n}\n')
  await writeFile(
    path.join(root, 'prisma.config.mjs'),
    `export default {
      schema: 'schema.prisma',
      migrations: { path: ${JSON.stringify(migrationsDir)} },
      datasource: { url: process.env.DATABASE_URL },
    }\n`,
  )
  return { root, migrationsDir }
}

async function prisma(cwd: string, url: string, args: string[]): Promise<{ code: number; output: string }> {
  const env = { ...process.env, DATABASE_URL: url }
  return await new Promise((resolve) => {
    // 50 s: its first use on a machine installs the CLI.
    execFile(PRISMA, args, { cwd, env, timeout: 50_000 }, (failure, stdout, stderr) => {
      resolve({ code: failure === null ? 0 : 1, output: `${stdout}${stderr}` })
    })
  })
}
