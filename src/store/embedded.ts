import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, fchownSync, openSync } from 'node:fs'
import { chown, link, lstat, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client, type ClientConfig } from 'pg'
import {
  canEnter,
  errorCode,
  exists,
  findBinaries,
  type PostgresBinaries,
  type RunAs,
  run,
  SERVER_ENV,
} from './postgres-binaries.js'

export type EmbeddedOptions = {
  /** The service's DATA_DIR; everything of the server lies in its folder `postgres`. Created when missing. */
  dataDir: string
  /** The database to connect to, created when missing. */
  database?: string
  /** false for throw-away test data only: a power cut then loses the database. */
  fsync?: boolean
  maxConnections?: number
  /** Bound on the whole start, recovery after a crash included. */
  timeoutMs?: number
  log?: (message: string) => void
}

export type EmbeddedPostgres = {
  /** For `pg` and Prisma alike. The host in front is never used: the socket's folder in the query wins. */
  url: string
  connection: { host: string; port: number; user: string; database: string }
  /** The server was already up: another process started it, or one that was killed left it behind. */
  joined: boolean
  /**
   * Ends the server (fast shutdown) when this process started it. A joined one goes on, unless the process that had
   * started it is dead and nobody else is connected: then the last one out ends it. Safe to call twice.
   */
  stop: () => Promise<void>
}

const USER = 'postgres'
// Names the socket's file only; no TCP port is open.
const PORT = 5432
// sockaddr_un.sun_path is 108 bytes with its closing zero.
const SOCKET_PATH_BYTES_MAX = 107
// 60 s: a cold start takes 1 s; the rest is for the recovery of a large database after a crash.
const START_TIMEOUT_MS = 60_000
// 15 s for a fast shutdown with its checkpoint, then 5 s for an immediate one, which recovers at the next start.
const STOP_TIMEOUT_MS = 15_000
const STOP_AT_ONCE_TIMEOUT_MS = 5_000
const CONNECT_TIMEOUT_MS = 5_000
const POLL_MS = 10
const LOG_BYTES_MAX = 10_000_000

type Home = {
  runAs: RunAs
  /** As this process sees it: DATA_DIR/postgres. */
  home: string
  /** As the server sees it. */
  serverHome: string
  cluster: string
  socketDir: string
  logFile: string
  database: string
  deadline: number
}

/**
 * Starts PostgreSQL with its data in DATA_DIR, or joins the one that already runs there. No TCP port: a unix socket in a
 * folder that only the server's account and root may enter.
 *
 * Two processes may start at the same moment: the cluster is made under another name and published by one rename, and
 * PostgreSQL's own lock lets one server live; the other process joins it. The server is a session of its own, so
 * neither Ctrl-C nor SIGKILL to this process ends it: after a SIGKILL it stays up and the next start joins it.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const home = await prepareHome(options)
  while (performance.now() < home.deadline) {
    const running = await findServer(home)
    if (running !== undefined) {
      const server = await untilReady(home, running.socketDir, () => isServer(home, running.pid))
      const joined = server.kind === 'ready' ? await joinedServer(home, running, server.startedBy) : undefined
      if (joined === undefined) continue
      options.log?.(`joined the embedded PostgreSQL that runs as process ${running.pid}`)
      return joined
    }
    const binaries = await findBinaries({ ...home, dataDir: options.dataDir, major: await clusterVersion(home) })
    if (!(await exists(home.cluster))) await createCluster(home, binaries, options)
    await discardStaleLocks(home)
    const launched = await launch(home, binaries, options)
    if (launched !== undefined) {
      options.log?.(`started the embedded PostgreSQL as process ${launched.pid}`)
      return startedServer(home, launched)
    }
    // Another server holds the lock, or the children of a killed one are still leaving.
    await pause(POLL_MS)
  }
  throw new Error(`the embedded PostgreSQL was not ready in time; its log is ${home.logFile}`)
}

async function prepareHome(options: EmbeddedOptions): Promise<Home> {
  const deadline = performance.now() + (options.timeoutMs ?? START_TIMEOUT_MS)
  const home = path.join(path.resolve(options.dataDir), 'postgres')
  // 0711: the server's account passes through a new DATA_DIR, but nobody lists it.
  await mkdir(path.dirname(home), { recursive: true, mode: 0o711 })
  await mkdir(home, { recursive: true, mode: 0o700 })
  const runAs = await chooseAccount(home)
  const { uid } = await stat(home)
  const uidWanted = runAs?.uid ?? process.getuid?.()
  if (uid !== uidWanted) {
    if (runAs === undefined) throw new Error(`${home} belongs to the user with id ${uid}; run as that user or as root`)
    await chown(home, runAs.uid, runAs.gid)
  }
  // A folder above may be closed to the server's account (a checkout below /root). The server then gets the open folder
  // itself, as descriptor 3: passing through it asks no permission of the folders above.
  const serverHome = (await canEnter(home, runAs)) ? home : '/proc/self/fd/3'
  const socketDir = await prepareSocketDir(home, runAs)
  const database = options.database ?? 'unipay'
  const cluster = path.join(home, 'cluster')
  return { runAs, home, serverHome, cluster, socketDir, logFile: path.join(home, 'server.log'), database, deadline }
}

/** Root's server runs as the owner of the data, for a new cluster as `postgres` or `nobody`; never as root. */
async function chooseAccount(home: string): Promise<RunAs> {
  if (process.getuid?.() !== 0) return undefined
  const { uid, gid } = await stat(home)
  if (uid !== 0) return { uid, gid }
  const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
  for (const name of ['postgres', 'nobody']) {
    const account = accounts.find((fields) => fields[0] === name)
    if (account !== undefined) return { uid: Number(account[2]), gid: Number(account[3]) }
  }
  throw new Error('the embedded PostgreSQL cannot run as root: there is no user postgres or nobody to run it as')
}

async function prepareSocketDir(home: string, runAs: RunAs): Promise<string> {
  const fits = (directory: string): boolean =>
    Buffer.byteLength(path.join(directory, `.s.PGSQL.${PORT}`)) <= SOCKET_PATH_BYTES_MAX
  if (fits(home)) return home
  const name = `unipay-${createHash('sha256').update(home).digest('hex').slice(0, 16)}`
  for (const parent of [tmpdir(), '/tmp', '/var/tmp']) {
    const directory = path.join(parent, name)
    if (!fits(directory) || !(await canEnter(parent, runAs).catch(() => false))) continue
    await mkdir(directory, { mode: 0o700 }).catch((cause: unknown) => {
      if (errorCode(cause) !== 'EEXIST') throw cause
    })
    // The name can be guessed, and whoever owns this folder could stand in for the database.
    const found = await lstat(directory)
    if (runAs !== undefined && found.isDirectory() && found.uid === 0) await chown(directory, runAs.uid, runAs.gid)
    const isOurs = found.uid === (runAs?.uid ?? process.getuid?.()) || (runAs !== undefined && found.uid === 0)
    if (found.isDirectory() && isOurs && (found.mode & 0o077) === 0) return directory
  }
  throw new Error(`no safe folder for a unix socket was found; use a DATA_DIR with a shorter path than ${home}`)
}

async function clusterVersion(home: Home): Promise<number | undefined> {
  const text = await readFile(path.join(home.cluster, 'PG_VERSION'), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : Number.parseInt(text, 10)
}

async function createCluster(home: Home, binaries: PostgresBinaries, options: EmbeddedOptions): Promise<void> {
  await removeDrafts(home)
  const draft = `cluster.${await ownName()}`
  const args = ['-D', path.join(home.serverHome, draft), '-U', USER, '--encoding=UTF8', '--no-locale']
  // trust: the socket's folder is the lock; whoever may enter it could read the files next to it anyway.
  args.push('--auth=trust', ...(options.fsync === false ? ['--no-sync'] : []))
  const directoryFd = openSync(home.home, 'r')
  const timeoutMs = Math.max(1, Math.round(home.deadline - performance.now()))
  const made = await run(path.join(binaries.binDir, 'initdb'), args, { runAs: home.runAs, timeoutMs, directoryFd })
  closeSync(directoryFd)
  if (made.kind === 'failed') throw new Error(`initdb failed in ${home.home}:\n${made.output.trim()}`)
  // The rename publishes a whole cluster or nothing; it fails when another process was first, whose cluster is used.
  await rename(path.join(home.home, draft), home.cluster).catch(async (cause: unknown) => {
    await rm(path.join(home.home, draft), { recursive: true, force: true })
    if (errorCode(cause) !== 'ENOTEMPTY' && errorCode(cause) !== 'EEXIST') throw cause
  })
  if (options.fsync === false) return
  // Without this a power cut could take the name back from a cluster that already holds orders.
  const directory = await open(home.home, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** What a process killed in the middle of initdb left behind. */
async function removeDrafts(home: Home): Promise<void> {
  for (const name of await readdir(home.home)) {
    const [, pid, ticks] = /^cluster\.(\d+)\.(\d+)\./.exec(name) ?? []
    if (pid === undefined || (await startTicks(Number(pid))) === ticks) continue
    await rm(path.join(home.home, name), { recursive: true, force: true })
  }
}

type Running = { pid: number; socketDir: string }

/** The server of this cluster, by PostgreSQL's own lock file, if the process it names is really that server. */
async function findServer(home: Home): Promise<Running | undefined> {
  const text = await readFile(path.join(home.cluster, 'postmaster.pid'), 'utf8').catch((cause: unknown) => {
    if (errorCode(cause) === 'ENOENT') return ''
    throw cause
  })
  const lines = text.split('\n')
  const pid = Number(lines[0])
  if (!Number.isInteger(pid) || pid <= 0 || !(await isServer(home, pid))) return undefined
  // Line 5 is the socket's folder as the server sees it; TMPDIR may differ between the two processes.
  const listed = lines[4]?.trim() ?? ''
  const isReadable = listed !== '' && !listed.startsWith('/proc/self/')
  return { pid, socketDir: isReadable ? listed : home.socketDir }
}

/** Ids of processes are used again, so the number alone proves nothing; a server's working folder is its cluster. */
async function isServer(home: Home, pid: number): Promise<boolean> {
  const [cwd, cluster] = await Promise.all([
    // Not readable: gone, or another account's process, which is not this cluster's server either.
    stat(`/proc/${pid}/cwd`).catch(() => undefined),
    stat(home.cluster).catch(() => undefined),
  ])
  return cwd !== undefined && cluster !== undefined && cwd.dev === cluster.dev && cwd.ino === cluster.ino
}

/**
 * PostgreSQL clears the lock of a dead process itself, but refuses to start when the id was given to another process
 * since, as happens after every restart of a container.
 */
async function discardStaleLocks(home: Home): Promise<void> {
  const locks = [path.join(home.cluster, 'postmaster.pid'), path.join(home.socketDir, `.s.PGSQL.${PORT}.lock`)]
  for (const lock of locks) {
    const judged = await readFile(lock, 'utf8').catch(() => undefined)
    if (judged === undefined) continue
    const pid = Number.parseInt(judged, 10)
    if (Number.isNaN(pid) || !isAlive(pid) || (await isServer(home, pid))) continue
    // Moved away first: a server that started since may have written its own lock, which is then put back.
    const aside = `${lock}.stale.${process.pid}`
    await rename(lock, aside)
    if ((await readFile(aside, 'utf8')) !== judged) await link(aside, lock)
    await rm(aside)
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return errorCode(cause) === 'EPERM'
  }
}

type Launched = { pid: number; child: ChildProcess; endWithProcess: () => void }

/** undefined: not ours to run, another server has the lock. Throws when the server cannot run, with its own words. */
async function launch(home: Home, binaries: PostgresBinaries, options: EmbeddedOptions): Promise<Launched | undefined> {
  const logFd = await openLog(home)
  const directoryFd = openSync(home.home, 'r')
  const logStart = (await stat(home.logFile)).size
  const name = `unipay.${await ownName()}`
  const child = spawn(path.join(binaries.binDir, 'postgres'), serverArguments(home, name, options), {
    ...home.runAs,
    cwd: '/',
    env: SERVER_ENV,
    // A session of its own: Ctrl-C in the terminal must not end the database before the service has drained.
    detached: true,
    stdio: ['ignore', logFd, logFd, directoryFd],
  })
  closeSync(logFd)
  closeSync(directoryFd)
  const spawned = await new Promise<Error | undefined>((resolve) => {
    child.once('spawn', () => resolve(undefined))
    child.once('error', resolve)
  })
  if (spawned !== undefined || child.pid === undefined) {
    throw new Error('the embedded PostgreSQL could not be started', { cause: spawned })
  }
  child.unref()
  const endWithProcess = endsWithProcess(child, child.pid)
  const ready = await untilReady(home, home.socketDir, () => !hasEnded(child))
  if (ready.kind === 'ready' && ready.startedBy === name) return { pid: child.pid, child, endWithProcess }
  process.off('exit', endWithProcess)
  // The answer came from another process's server, which holds the lock: ours is about to end.
  if (ready.kind === 'ready') return undefined
  const words = (await readFile(home.logFile)).subarray(logStart).toString('utf8').trim()
  if (/lock file .* already exists|pre-existing shared memory block/.test(words)) return undefined
  throw new Error(`the embedded PostgreSQL ended while starting:\n${words.slice(-2000)}`)
}

async function openLog(home: Home): Promise<number> {
  const size = await stat(home.logFile).then(
    (found) => found.size,
    () => 0,
  )
  const logFd = openSync(home.logFile, size > LOG_BYTES_MAX ? 'w' : 'a', 0o600)
  // A later start may be that of the server's account itself.
  if (home.runAs !== undefined) fchownSync(logFd, home.runAs.uid, home.runAs.gid)
  return logFd
}

function serverArguments(home: Home, name: string, options: EmbeddedOptions): string[] {
  const socketDir = home.socketDir === home.home ? home.serverHome : home.socketDir
  const settings: Record<string, string> = {
    listen_addresses: '',
    port: String(PORT),
    unix_socket_directories: `"${socketDir.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    max_connections: String(options.maxConnections ?? 100),
    // Says who started the server, atomically with its start: a process that joins it can ask whether that one lives.
    cluster_name: name,
    ...(options.fsync === false ? { fsync: 'off', full_page_writes: 'off' } : {}),
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  return ['-D', path.join(home.serverHome, 'cluster'), ...flags]
}

/** Names this process for good, and one start within it: its id alone would be given to others later. */
async function ownName(): Promise<string> {
  return `${process.pid}.${await startTicks(process.pid)}.${randomBytes(6).toString('hex')}`
}

/** Start of a process in clock ticks since boot (proc(5), field 22): with its id it names one process for good. */
async function startTicks(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  // The command's name, in parentheses, may itself hold blanks and parentheses.
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19]
}

type Readiness = { kind: 'ready'; startedBy: string } | { kind: 'gone' }

async function untilReady(home: Home, socketDir: string, isUp: () => boolean | Promise<boolean>): Promise<Readiness> {
  while (performance.now() < home.deadline) {
    const answer = await ask(socketDir, async (client) => {
      const found = await client.query<{ started_by: string; has_database: boolean }>(
        `SELECT current_setting('cluster_name') AS started_by,
                EXISTS (SELECT FROM pg_database WHERE datname = $1) AS has_database`,
        [home.database],
      )
      if (found.rows[0]?.has_database === false) await createDatabase(client, home.database)
      return found.rows[0]?.started_by ?? ''
    })
    if (answer.kind === 'answered') return { kind: 'ready', startedBy: answer.value }
    if (!(await isUp())) return { kind: 'gone' }
    await pause(POLL_MS)
  }
  throw new Error(`the embedded PostgreSQL was not ready in time; its log is ${home.logFile}`)
}

async function createDatabase(client: Client, database: string): Promise<void> {
  await client.query(`CREATE DATABASE ${client.escapeIdentifier(database)}`).catch((cause: unknown) => {
    // Another process was first: duplicate_database, or the unique index when both were at it.
    if (errorCode(cause) !== '42P04' && errorCode(cause) !== '23505') throw cause
  })
}

/** One short connection. `not_yet`: no socket, or the server is starting up, shutting down or just going away. */
async function ask<Value>(
  socketDir: string,
  question: (client: Client) => Promise<Value>,
): Promise<{ kind: 'answered'; value: Value } | { kind: 'not_yet' }> {
  const client = new Client({ ...connectionTo(socketDir, 'postgres'), query_timeout: CONNECT_TIMEOUT_MS })
  // The same loss also rejects the query below; without a listener it would end the process.
  let lost: Error | undefined
  client.on('error', (cause) => {
    lost = cause
  })
  try {
    await client.connect()
    return { kind: 'answered', value: await question(client) }
  } catch (cause) {
    const isPassing = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE', '57P01', '57P02', '57P03', '53300']
    if (lost !== undefined || isPassing.includes(errorCode(cause) ?? '')) return { kind: 'not_yet' }
    if (cause instanceof Error && /terminated|timeout/i.test(cause.message)) return { kind: 'not_yet' }
    throw cause
  } finally {
    await client.end()
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

/**
 * process.exit() without stop(), also while the server is still starting: it gets the same signal. Only SIGKILL leaves it
 * behind.
 */
function endsWithProcess(child: ChildProcess, pid: number): () => void {
  const end = (): void => {
    if (!hasEnded(child)) process.kill(pid, 'SIGINT')
  }
  process.once('exit', end)
  child.once('exit', () => process.off('exit', end))
  return end
}

function startedServer(home: Home, launched: Launched): EmbeddedPostgres {
  const { child, pid, endWithProcess } = launched
  let stopping: Promise<void> | undefined
  const stop = (): Promise<void> => {
    process.off('exit', endWithProcess)
    stopping ??= shutDown(pid, () => !hasEnded(child))
    return stopping
  }
  return { ...addresses(home, home.socketDir), joined: false, stop }
}

async function joinedServer(home: Home, running: Running, startedBy: string): Promise<EmbeddedPostgres | undefined> {
  // One idle connection says "still in use" to whoever would end an orphan, even while our pool has none open.
  const presence = new Client({
    ...connectionTo(running.socketDir, home.database),
    application_name: 'unipay joined',
    // The types lack these two.
  }) as Client & { ref: () => void; unref: () => void }
  let isLost = false
  presence.on('error', () => {
    isLost = true
  })
  const isConnected = await presence.connect().then(
    () => true,
    () => false,
  )
  // It went away in this moment: the caller looks again.
  if (!isConnected) return undefined
  // A process that forgets stop() is not kept alive by this connection.
  presence.unref()
  let stopping: Promise<void> | undefined
  const leave = async (): Promise<void> => {
    // Its end is waited for, and may be all that is left to wait for: unheld, Node would end here, with status 13.
    presence.ref()
    if (!isLost) await presence.end()
    await stopOrphan(home, running, startedBy)
  }
  const stop = (): Promise<void> => {
    stopping ??= leave()
    return stopping
  }
  return { ...addresses(home, running.socketDir), joined: true, stop }
}

function addresses(home: Home, socketDir: string): Pick<EmbeddedPostgres, 'url' | 'connection'> {
  const { database } = home
  const url = `postgresql://${USER}@localhost:${PORT}/${encodeURIComponent(database)}?host=${encodeURIComponent(socketDir)}`
  return { url, connection: { host: socketDir, port: PORT, user: USER, database } }
}

function connectionTo(socketDir: string, database: string): ClientConfig {
  return { host: socketDir, port: PORT, user: USER, database, connectionTimeoutMillis: CONNECT_TIMEOUT_MS }
}

async function stopOrphan(home: Home, running: Running, startedBy: string): Promise<void> {
  const [, pid, ticks] = /^unipay\.(\d+)\.(\d+)\./.exec(startedBy) ?? []
  // Not one of ours, or its starter lives and will stop it.
  if (pid === undefined || (await startTicks(Number(pid))) === ticks) return
  const others = await ask(running.socketDir, async (client) => {
    const found = await client.query<{ others: number }>(
      `SELECT count(*)::int AS others FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    )
    return found.rows[0]?.others
  })
  if (others.kind !== 'answered' || others.value !== 0) return
  await shutDown(running.pid, () => isServer(home, running.pid))
}

async function shutDown(pid: number, isUp: () => boolean | Promise<boolean>): Promise<void> {
  // Fast shutdown, then immediate shutdown (PostgreSQL, "Shutting Down the Server").
  for (const [signal, timeoutMs] of [
    ['SIGINT', STOP_TIMEOUT_MS],
    ['SIGQUIT', STOP_AT_ONCE_TIMEOUT_MS],
  ] as const) {
    if (!(await isUp())) return
    process.kill(pid, signal)
    const deadline = performance.now() + timeoutMs
    while (performance.now() < deadline) {
      if (!(await isUp())) return
      await pause(POLL_MS)
    }
  }
  throw new Error(`the embedded PostgreSQL, process ${pid}, does not end`)
}
