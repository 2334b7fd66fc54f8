import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

import pg from 'pg'

import { type EmbeddedPostgres, startEmbedded } from '../src/store/embedded.js'
import { migrate } from '../src/store/migrate.js'
import { createKeys, type GatewaySettings } from './keys.js'
import { pause } from './load.js'
import { type Channel, SECRET } from './orders.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const READY_MS_MAX = 20_000
const POOL_MAX = 20
/** 16 MiB each, as many as min_wal_size keeps. */
const LOG_SEGMENTS = 64
/** As the service is started by its image and by `npm start`; the bare one gets it as well. */
const MEMORY_BOUNDS = ['--max-semi-space-size=32', '--max-old-space-size=512']
/** Statements of ours would count too if they ran in the measured database. */
const OWN_DATABASE = 'bench_control'

export type TargetName = 'service' | 'baseline'
export type Target = Readonly<{
  name: TargetName
  pid: number
  port: number
  readyMs: number
  stop: () => Promise<void>
}>
export type Stage = Awaited<ReturnType<typeof openStage>>

/** PostgreSQL, the gateways and, on demand, the measured processes; all on the loopback, all of it in one folder. */
export async function openStage() {
  const folder = await mkdtemp(path.join(tmpdir(), 'unipay-bench-'))
  await chmod(folder, 0o711)
  const targets: Target[] = []
  const postgres = await startCountingPostgres(folder)
  const migrated = await migrate({ connectionString: postgres.url })
  if (migrated.kind === 'refused') throw new Error(migrated.message)
  const pool = new pg.Pool({ connectionString: postgres.url, max: 2 })
  pool.on('error', () => undefined)
  const control = new pg.Client({ ...postgres.connection, database: OWN_DATABASE })
  await control.connect()
  const keys = createKeys()
  const gateway = await startGateway(keys.gateway)

  async function start(name: TargetName, databaseUrl = postgres.url): Promise<Target> {
    const port = await freePort()
    const log = openSync(path.join(folder, `${name}.log`), 'a')
    const startedMs = performance.now()
    const script = name === 'service' ? ['dist/main.js'] : ['--import', 'tsx', 'bench/baseline.ts']
    const profile = process.env['BENCH_PROFILE']
    const profiling = profile === name ? ['--cpu-prof', '--cpu-prof-dir', path.join(ROOT, 'reports')] : []
    const child = spawn(process.execPath, [...MEMORY_BOUNDS, ...profiling, ...script], {
      cwd: ROOT,
      stdio: ['ignore', log, 'inherit'],
      env: {
        PATH: process.env['PATH'],
        HOST: '127.0.0.1',
        PORT: String(port),
        ROLES: 'api',
        DATABASE_URL: databaseUrl,
        DATABASE_POOL_MAX: String(POOL_MAX),
        SIGN_SECRETS: SECRET,
        GATEWAY_RATE_PER_S: '10000',
        GATEWAY_CONCURRENCY: '1000',
        ...keys.merchantSettings(gateway.port),
      },
    })
    closeSync(log)
    await untilReady(child, port)
    const readyMs = performance.now() - startedMs
    const target = { name, pid: pidOf(child), port, readyMs, stop: async () => await end(child) }
    targets.push(target)
    return target
  }

  /** A database of its own on the same server, migrated and empty; its URL. */
  async function newDatabase(name: string): Promise<string> {
    await control.query(`CREATE DATABASE ${name}`)
    const url = new URL(postgres.url)
    url.pathname = `/${name}`
    const outcome = await migrate({ connectionString: url.href })
    if (outcome.kind === 'refused') throw new Error(outcome.message)
    return url.href
  }

  /** Signs a block's answers in advance, so that the run does not pay for it. */
  async function warm(channel: Channel, outTradeNos: readonly string[]): Promise<void> {
    await gateway.tell(`warm?channel=${channel}`, outTradeNos.join('\n'))
  }

  /** Statements that the measured database has been asked for since the last call, by their text. */
  async function takeStatementCalls(): Promise<Readonly<Record<string, number>>> {
    const { rows } = await control.query<{ query: string; calls: number }>(
      `SELECT left(regexp_replace(s.query, '\\s+', ' ', 'g'), 80) AS query, sum(s.calls)::int AS calls
       FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1 GROUP BY 1`,
      [postgres.connection.database],
    )
    await control.query('SELECT pg_stat_statements_reset()')
    return Object.fromEntries(rows.map(({ query, calls }) => [query.trim(), calls]))
  }

  async function close(): Promise<void> {
    await Promise.all(targets.map(async (target) => await target.stop()))
    await gateway.stop()
    await control.end()
    await pool.end()
    await postgres.stop()
    await rm(folder, { recursive: true, force: true })
  }

  /** The last lines of a process's log that say that something went wrong. */
  function complaints(name: TargetName): string {
    const lines = readFileSync(path.join(folder, `${name}.log`), 'utf8').split('\n')
    return lines
      .filter((line) => line.includes('"level":"error"'))
      .slice(-3)
      .join('\n')
  }

  return {
    pool,
    complaints,
    postgresPid: await postmasterPid(pool),
    gateway,
    start,
    newDatabase,
    warm,
    takeStatementCalls,
    close,
  }
}

/** With pg_stat_statements, which has to be loaded at the start: hence started twice. */
async function startCountingPostgres(dataDir: string): Promise<EmbeddedPostgres> {
  const options = { dataDir, maxConnections: 120, database: 'bench' }
  const first = await startEmbedded(options)
  const client = new pg.Client({ connectionString: first.url })
  await client.connect()
  await client.query(`ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'`)
  await client.query(`ALTER SYSTEM SET max_wal_size = '4GB'`)
  await client.query(`ALTER SYSTEM SET min_wal_size = '1GB'`)
  await client.query(`ALTER SYSTEM SET checkpoint_timeout = '1h'`)
  await client.query(`ALTER SYSTEM SET shared_buffers = '512MB'`)
  await client.query(`CREATE DATABASE ${OWN_DATABASE}`)
  await client.end()
  await first.stop()
  const second = await startEmbedded(options)
  const control = new pg.Client({ ...second.connection, database: OWN_DATABASE })
  await control.connect()
  await control.query('CREATE EXTENSION pg_stat_statements')
  await useLogOnce(control)
  await control.end()
  return second
}

/**
 * A server that has run for a while writes its log into files that it has used before. A new one makes each of them, 16 MiB
 * of zeros, and flushes that while every commit waits: whose round that falls into would be chance.
 */
async function useLogOnce(client: pg.Client): Promise<void> {
  for (let segment = 0; segment < LOG_SEGMENTS; segment++) {
    await client.query(`SELECT pg_logical_emit_message(false, 'bench', 'x')`)
    await client.query('SELECT pg_switch_wal()')
  }
  await client.query('CHECKPOINT')
}

async function postmasterPid(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ pid: number }>(
    `SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int AS pid`,
  )
  return rows[0]?.pid ?? 0
}

async function startGateway(settings: GatewaySettings) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'bench/gateway.ts'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'], BENCH_GATEWAY: JSON.stringify(settings) },
  })
  const { port } = await new Promise<{ port: number }>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the gateway ended with ${String(code)}`)))
    child.stdout.once('data', (line: Buffer) => resolve(JSON.parse(line.toString('utf8')) as { port: number }))
  })
  async function tell(command: string, body = ''): Promise<unknown> {
    const response = await fetch(`http://127.0.0.1:${port}/_bench/${command}`, { method: 'POST', body })
    return await response.json()
  }
  return { port, pid: pidOf(child), tell, stop: async () => await end(child) }
}

async function untilReady(child: ChildProcess, port: number): Promise<void> {
  const deadline = performance.now() + READY_MS_MAX
  while (performance.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`a measured process ended with ${child.exitCode}`)
    const isReady = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      async (response) => {
        await response.text()
        return response.ok
      },
      () => false,
    )
    if (isReady) return
    await pause(10)
  }
  throw new Error('a measured process was not ready in time')
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => {
    child.once('exit', resolve)
  })
  child.kill('SIGTERM')
  await ended
}

function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error('a process could not be started')
  return child.pid
}

async function freePort(): Promise<number> {
  return await new Promise((resolve) => {
    const server = createServer()
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
