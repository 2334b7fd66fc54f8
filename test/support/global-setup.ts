import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import type { TestProject } from 'vitest/node'
import { startEmbedded } from '../../src/store/embedded.js'
import { migrate } from '../../src/store/migrate.js'

declare module 'vitest' {
  export interface ProvidedContext {
    /** The run's own PostgreSQL; the database in it is an empty one for administration. */
    postgresUrl: string
  }
}

/** Migrated once per run and never connected to again: every test file's database is a copy of it. */
export const TEMPLATE_DATABASE = 'unipay_template'

/** One PostgreSQL for the whole run, in a folder that goes away with it. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'unipay-test-'))
  await chmod(dataDir, 0o711)
  // fsync off: the data lives for one run. 200 connections: three workers, each with several pools.
  const server = await startEmbedded({ dataDir, fsync: false, maxConnections: 200 })
  const teardown = async (): Promise<void> => {
    await server.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
  try {
    const client = new Client({ connectionString: server.url })
    await client.connect()
    await client.query(`CREATE DATABASE ${TEMPLATE_DATABASE}`)
    await client.end()
    const outcome = await migrate({ ...server.connection, database: TEMPLATE_DATABASE })
    if (outcome.kind === 'refused') throw new Error(outcome.message)
  } catch (cause) {
    await teardown()
    throw cause
  }
  project.provide('postgresUrl', server.url)
  return teardown
}
