import { randomBytes } from 'node:crypto'
import { Client, Pool, type PoolConfig } from 'pg'
import { expect, inject } from 'vitest'
import { TEMPLATE_DATABASE } from './global-setup.js'

export type TestDatabase = {
  /** Over a unix socket: `postgresql://postgres@localhost/NAME?host=/folder`; for `pg`, Prisma and DATABASE_URL alike. */
  url: string
  name: string
  /** A pool that drop() ends. */
  pool: (config?: PoolConfig) => Pool
  /** Ends the pools and removes the database, whoever is still connected. */
  drop: () => Promise<void>
}

/** A database of its own for one test file or one test: migrated, or with `migrated: false` empty. Takes about 50 ms. */
export async function createDatabase(options: { migrated?: boolean } = {}): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`
  const template = options.migrated === false ? 'template1' : TEMPLATE_DATABASE
  await administer(`CREATE DATABASE ${name} TEMPLATE ${template}`)
  const address = new URL(inject('postgresUrl'))
  address.pathname = `/${name}`
  const pools: Pool[] = []

  const pool = (config: PoolConfig = {}): Pool => {
    const made = new Pool({ connectionString: address.href, connectionTimeoutMillis: 10_000, ...config })
    // drop() and tests that kill the database end idle connections; without a listener that would end the process.
    made.on('error', () => undefined)
    pools.push(made)
    return made
  }
  const drop = async (): Promise<void> => {
    await Promise.all(pools.filter((made) => !made.ended).map(async (made) => await made.end()))
    await administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  }
  return { url: address.href, name, pool, drop }
}

/** What a client had sent is carried out even when it is gone; once the server shows no connection of that name, all of it was. */
export async function untilDisconnected(pool: Pool, name: string): Promise<void> {
  const sql = 'SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1'
  await expect.poll(async () => (await pool.query(sql, [name])).rowCount, { timeout: 10_000, interval: 5 }).toBe(0)
}

async function administer(statement: string): Promise<void> {
  const client = new Client({ connectionString: inject('postgresUrl'), connectionTimeoutMillis: 10_000 })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
