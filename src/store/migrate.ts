import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client, type ClientBase, type ClientConfig, DatabaseError } from 'pg'

import { ROOT } from '../root.js'

export type MigrationOutcome =
  | {
      kind: 'migrated'
      /** Names of the migrations applied by this call, in order; empty when there was nothing to do. */
      applied: string[]
      /** Of a newer release, applied or under way: tolerated, since releases roll, but worth a warning. */
      unknown: string[]
    }
  /** Nothing was applied after the point that `message` names; the service must not start. */
  | { kind: 'refused'; reason: 'edited' | 'failed_before' | 'failed_now' | 'locked'; message: string }

export type MigrationStatus = {
  /** Names of the migrations that are not applied yet, in order; also those that failed. */
  pending: string[]
  /** Those of this release that began and did not finish. */
  failed: string[]
  edited: string[]
  unknown: string[]
  /** It takes no writes: a standby, a primary that was put aside, or `default_transaction_read_only`. */
  isReadOnly: boolean
}

type Migration = { name: string; script: string; checksums: string[] }
type Applied = { migration_name: string; checksum: string; is_finished: boolean }
type Found = { applied: Applied[]; isReadOnly: boolean }

const MIGRATIONS_DIR = fileURLToPath(new URL('prisma/migrations', ROOT))

// Prisma's own key: its migrate commands and this runner exclude each other.
const ADVISORY_LOCK_KEY = 72_707_369
// 60 s: another process is migrating, and ours waits until it is done. Prisma itself gives up after 10 s.
const LOCK_TIMEOUT_MS = 60_000
const CONNECT_TIMEOUT_MS = 10_000

/** The table as Prisma's schema engine creates it. */
const CREATE_TABLE = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id                  VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum            VARCHAR(64) NOT NULL,
    finished_at         TIMESTAMPTZ,
    migration_name      VARCHAR(255) NOT NULL,
    logs                TEXT,
    rolled_back_at      TIMESTAMPTZ,
    started_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
)`

/**
 * Applies the migrations that the database lacks, one after the other, and keeps `_prisma_migrations` as Prisma does:
 * `prisma migrate deploy` and this function are interchangeable. Any number of processes may call it at once; each
 * migration is applied once. Lost infrastructure throws; after that the next call finds the migration unfinished and
 * refuses, because nobody knows how much of it was done.
 */
export async function migrate(
  connection: ClientConfig,
  options: { migrationsDir?: string; lockTimeoutMs?: number } = {},
): Promise<MigrationOutcome> {
  const migrations = await migrationsIn(options.migrationsDir ?? MIGRATIONS_DIR)
  // Its own connection: the lock belongs to the session, and a script may change settings of its session.
  const client = new Client({ connectionTimeoutMillis: CONNECT_TIMEOUT_MS, ...connection, query_timeout: undefined })
  // The loss of the connection also rejects the running query; without a listener it would end the process.
  client.on('error', ignoreHere)
  await client.connect()
  try {
    if (!(await takeLock(client, options.lockTimeoutMs ?? LOCK_TIMEOUT_MS))) {
      return refused('locked', 'another process has been migrating this database for too long; try again later')
    }
    return await applyPending(client, migrations)
  } finally {
    // Ends the session and with it the lock.
    await client.end()
  }
}

/** What the database lacks and what is wrong with it, without changing anything. For readiness and doctor. */
export async function migrationStatus(
  client: Pick<ClientBase, 'query'>,
  options: { migrationsDir?: string } = {},
): Promise<MigrationStatus> {
  const migrations = await migrationsIn(options.migrationsDir ?? MIGRATIONS_DIR)
  return compare(migrations, await readApplied(client))
}

async function applyPending(client: Client, migrations: readonly Migration[]): Promise<MigrationOutcome> {
  const status = compare(migrations, await readApplied(client))
  const [failed] = status.failed
  if (failed !== undefined) return refused('failed_before', howToResolve(failed))
  if (status.edited.length > 0) {
    const names = status.edited.join(', ')
    return refused('edited', `${names} was changed after it was applied: restore the file and write a new migration`)
  }
  const pending = new Set(status.pending)
  const applied: string[] = []
  for (const migration of migrations) {
    if (!pending.has(migration.name)) continue
    if (applied.length === 0) await client.query(CREATE_TABLE)
    const failure = await applyOne(client, migration)
    if (failure !== undefined) return refused('failed_now', `${migration.name} failed: ${failure}`)
    applied.push(migration.name)
  }
  return { kind: 'migrated', applied, unknown: status.unknown }
}

/** In SQL: where the service runs there is no Prisma CLI, whose `migrate resolve` does the same. */
function howToResolve(name: string): string {
  return (
    `an earlier attempt at ${name} failed or was cut short; where it failed, "logs" in _prisma_migrations says why. ` +
    'A script is one transaction unless it commits by itself, so usually nothing of it was done: mend the cause, then run ' +
    `UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name = '${name}' AND finished_at IS NULL ` +
    '(finished_at = now() instead if its changes are in the tables), then: unipay migrate'
  )
}

/** undefined, or why the script failed; a failure that is not the script's (a lost connection) throws. */
async function applyOne(client: Client, migration: Migration): Promise<string | undefined> {
  const id = randomUUID()
  // Committed before the script runs: a crash in the middle leaves a row that says so.
  await client.query('INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ($1, $2, $3)', [
    id,
    migration.checksums[0],
    migration.name,
  ])
  try {
    // Without parameters this is one message of the simple protocol: all statements in one implicit transaction,
    // unless the script has its own BEGIN and COMMIT.
    await client.query(migration.script)
  } catch (cause) {
    if (!(cause instanceof DatabaseError)) throw cause
    const reason = describe(cause, migration.script)
    // A script's own BEGIN would still be open, and everything in it refused.
    await client.query('ROLLBACK')
    await client.query('UPDATE _prisma_migrations SET logs = $2 WHERE id = $1', [id, reason])
    return reason
  }
  await client.query(
    'UPDATE _prisma_migrations SET applied_steps_count = applied_steps_count + 1, finished_at = now() WHERE id = $1',
    [id],
  )
  return undefined
}

function describe(cause: DatabaseError, script: string): string {
  const position = Number(cause.position ?? Number.NaN)
  const line = Number.isNaN(position) ? '' : ` (line ${script.slice(0, position).split('\n').length})`
  const detail = cause.detail === undefined ? '' : `; ${cause.detail}`
  return `${cause.message}${line}${detail} [${cause.code ?? 'no code'}]`
}

/** false: somebody else held the lock for the whole time. */
async function takeLock(client: Client, timeoutMs: number): Promise<boolean> {
  // No statement limit: an index on a large table takes as long as it takes, and this wait has its own limit.
  await client.query(`SET statement_timeout = 0; SET lock_timeout = ${Math.max(1, Math.trunc(timeoutMs))}`)
  try {
    await client.query('SELECT pg_advisory_lock($1)', [ADVISORY_LOCK_KEY])
  } catch (cause) {
    // 55P03: lock_not_available.
    if (cause instanceof DatabaseError && cause.code === '55P03') return false
    throw cause
  }
  await client.query('SET lock_timeout = DEFAULT')
  return true
}

let own: readonly Migration[] | undefined

/** What a release came with does not change under it, and readiness asks many times a second: read once, if it was read. */
async function migrationsIn(directory: string): Promise<readonly Migration[]> {
  if (directory !== MIGRATIONS_DIR) return await readMigrations(directory)
  own ??= await readMigrations(directory)
  return own
}

async function readMigrations(directory: string): Promise<Migration[]> {
  const entries = await readdir(directory, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  const migrations: Migration[] = []
  // By code unit, as Prisma sorts them; the order must not depend on the locale.
  for (const name of names.sort()) {
    const script = await readFile(path.join(directory, name, 'migration.sql'), 'utf8')
    // The first is the one recorded. Prisma accepts either kind of line end for a file that is otherwise the same.
    const unix = script.replaceAll('\r\n', '\n')
    const checksums = [script, unix, unix.replaceAll('\n', '\r\n')].map(checksumOf)
    migrations.push({ name, script, checksums })
  }
  return migrations
}

function checksumOf(script: string): string {
  return createHash('sha256').update(script).digest('hex')
}

async function readApplied(client: Pick<ClientBase, 'query'>): Promise<Found> {
  // A transaction of a standby is read-only, whatever was set.
  const found = await client.query<{ has_table: boolean; is_read_only: boolean }>(
    `SELECT to_regclass('_prisma_migrations') IS NOT NULL AS has_table,
            current_setting('transaction_read_only') = 'on' AS is_read_only`,
  )
  const isReadOnly = found.rows[0]?.is_read_only === true
  if (found.rows[0]?.has_table !== true) return { applied: [], isReadOnly }
  const applied = await client.query<Applied>(
    `SELECT migration_name, checksum, finished_at IS NOT NULL AS is_finished
       FROM _prisma_migrations WHERE rolled_back_at IS NULL ORDER BY started_at`,
  )
  return { applied: applied.rows, isReadOnly }
}

function compare(migrations: readonly Migration[], { applied, isReadOnly }: Found): MigrationStatus {
  const finished = new Map(applied.filter((row) => row.is_finished).map((row) => [row.migration_name, row.checksum]))
  const known = new Set(migrations.map((migration) => migration.name))
  return {
    pending: migrations.filter(({ name }) => !finished.has(name)).map(({ name }) => name),
    failed: applied.filter((row) => !row.is_finished && known.has(row.migration_name)).map((row) => row.migration_name),
    edited: migrations
      .filter(({ name, checksums }) => finished.has(name) && !checksums.includes(finished.get(name) ?? ''))
      .map(({ name }) => name),
    unknown: applied.filter((row) => !known.has(row.migration_name)).map((row) => row.migration_name),
    isReadOnly,
  }
}

function refused(reason: Extract<MigrationOutcome, { kind: 'refused' }>['reason'], message: string): MigrationOutcome {
  return { kind: 'refused', reason, message }
}

function ignoreHere(): void {
  // Told by the query that was running, or by the next one.
}
