import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'

import { PrismaClient } from '../generated/prisma/client.js'
import { migrationStatus } from './migrate.js'

/** Bounds of every statement, in milliseconds. A half-open connection is given up by the client itself. */
const CONNECT_MS_MAX = 3_000
const STATEMENT_MS_MAX = 5_000
const LOCK_MS_MAX = 3_000
const CLIENT_MS_MAX = 6_000

/** One look at the database tells everybody who asks whether it is ready, so that a flood of them takes no connections. */
const LOOK_GOOD_MS = 250

/** The longest one statement can keep a caller, connecting included. Milliseconds. */
export const STATEMENT_WAIT_MS_MAX = CONNECT_MS_MAX + CLIENT_MS_MAX

export type DatabaseOptions = Readonly<{ url: string; connectionsMax: number; onIdleError: (error: Error) => void }>

/**
 * One pool, two ways in: plain prepared statements for the two of the hot path, Prisma's models for everything else.
 * It connects lazily; a database that is away makes each call fail within its bounds, and is used again once it is back.
 */
export function createDatabase(options: DatabaseOptions) {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.connectionsMax,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    idleTimeoutMillis: 30_000,
    query_timeout: CLIENT_MS_MAX,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    options: `-c statement_timeout=${STATEMENT_MS_MAX} -c lock_timeout=${LOCK_MS_MAX} -c idle_in_transaction_session_timeout=${STATEMENT_MS_MAX}`,
    application_name: 'unipay-sync',
  })
  // Without a listener, an idle connection that breaks would end the process.
  pool.on('error', options.onIdleError)
  let handedOut = 0
  pool.on('acquire', () => {
    handedOut += 1
  })
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool) })
  let look: Promise<string | null> | undefined

  async function lookForReason(): Promise<string | null> {
    try {
      const { pending, failed, isReadOnly } = await migrationStatus(pool)
      // First, since nobody could migrate it either.
      if (isReadOnly) return 'database is read-only'
      return pending.length === 0 && failed.length === 0 ? null : 'database not migrated'
    } catch {
      // Whatever the reason, the answer is the same; the log of the calls that need the database has it.
      return 'database not reachable'
    } finally {
      setTimeout(() => {
        look = undefined
      }, LOOK_GOOD_MS).unref()
    }
  }

  return {
    pool,
    prisma,
    /** Callers that wait for a connection now, and connections handed out since the start. */
    load: () => ({ waiting: pool.waitingCount, handedOut }),
    /** Why no work can be done on this database now, or a moment ago; null where it can. */
    async whyNotReady(): Promise<string | null> {
      look ??= lookForReason()
      return await look
    },
    async close(): Promise<void> {
      await prisma.$disconnect()
      if (!pool.ended) await pool.end()
    },
  }
}

/** The one clock that all processes share. */
export async function databaseTime(pool: Pick<pg.Pool, 'query'>): Promise<Date> {
  const { rows } = await pool.query<{ now: Date }>({ name: 'time', text: 'SELECT clock_timestamp() AS now' })
  const now = rows[0]?.now
  if (now === undefined) throw new Error('the database does not tell the time')
  return now
}

export type Database = ReturnType<typeof createDatabase>
