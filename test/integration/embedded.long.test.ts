import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type EmbeddedOptions, type EmbeddedPostgres, startEmbedded } from '../../src/store/embedded.js'
import { canEnter, exists } from '../../src/store/postgres-binaries.js'

const isRoot = process.getuid?.() === 0
const STARTER = fileURLToPath(new URL('../support/embedded-process.ts', import.meta.url))
const NOBODY = 65_534

const servers: EmbeddedPostgres[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(async (server) => await server.stop()))
})

describe('start and stop', () => {
  test('a cold start gives a database that answers, on a unix socket and no TCP port', async () => {
    const server = await start(await freshFolder())
    expect(server.joined).toBe(false)
    expect(await ask(server.url, 'SHOW listen_addresses')).toBe('')
    expect(await ask(server.url, 'SELECT current_database()')).toBe('unipay')
    // Nobody but the server's account, and root, may enter the folder of the socket.
    const { mode } = await stat(server.connection.host)
    expect(mode & 0o777).toBe(0o700)
  })

  test('orders survive a stop and a start; fsync is on unless switched off', async () => {
    const dataDir = await freshFolder()
    const first = await startEmbedded({ dataDir })
    servers.push(first)
    expect(await ask(first.url, 'SHOW fsync')).toBe('on')
    await ask(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    await first.stop()
    expect(await serverPid(dataDir)).toBeUndefined()
    const second = await start(dataDir)
    expect(second.joined).toBe(false)
    expect(await ask(second.url, 'SELECT answer FROM kept')).toBe(42)
  })

  test('a data folder whose path is too long for a socket gets a short, closed folder for it', async () => {
    const dataDir = path.join(await freshFolder(), 'long'.repeat(30))
    const server = await start(dataDir)
    expect(await ask(server.url, 'SELECT 1')).toBe(1)
    const { mode } = await stat(server.connection.host)
    expect(mode & 0o777).toBe(0o700)
    onTestFinished(async () => await rm(server.connection.host, { recursive: true, force: true }))
    const again = await start(dataDir)
    expect(again.joined).toBe(true)
  })

  test('a server that cannot run is told with its own words', async () => {
    const dataDir = await freshFolder()
    await (await start(dataDir)).stop()
    await writeFile(path.join(dataDir, 'postgres/cluster/postgresql.conf'), 'no_such_setting_anywhere = on\n')
    await expect(start(dataDir)).rejects.toThrow(/no_such_setting_anywhere/)
  })

  test('where it cannot run, it is told what to set', async () => {
    const platform = Object.getOwnPropertyDescriptor(process, 'platform') ?? {}
    onTestFinished(() => void Object.defineProperty(process, 'platform', platform))
    Object.defineProperty(process, 'platform', { ...platform, value: 'darwin' })
    await expect(start(await freshFolder())).rejects.toThrow('runs on Linux only; set DATABASE_URL')
  })

  test('a cluster of a version that is not here is refused, not touched', async () => {
    const dataDir = await freshFolder()
    await (await start(dataDir)).stop()
    await writeFile(path.join(dataDir, 'postgres/cluster/PG_VERSION'), '9\n')
    await expect(start(dataDir)).rejects.toThrow(/installed in \/usr\/lib\/postgresql[^]*the data directory needs 9/)
  })
})

describe('two processes', () => {
  test('a second start joins, and its stop leaves the server to the first', async () => {
    const dataDir = await freshFolder()
    const first = await start(dataDir)
    const second = await startProcess(dataDir)
    expect(second.joined).toBe(true)
    expect(await second.finish()).toBe(0)
    expect(await ask(first.url, 'SELECT 1')).toBe(1)
  })

  test('starts at the same moment on an empty folder share one server', async () => {
    const dataDir = await freshFolder()
    const starters = await Promise.all([startProcess(dataDir), startProcess(dataDir), start(dataDir), start(dataDir)])
    expect(starters.filter((starter) => !starter.joined)).toHaveLength(1)
    const started = await Promise.all(starters.map(async ({ url }) => await ask(url, SERVER_START)))
    expect(new Set(started.map(String)).size).toBe(1)
    expect((await readdir(path.join(dataDir, 'postgres'))).filter((name) => name.startsWith('cluster.'))).toEqual([])
  })
})

describe('killed in the middle', () => {
  test('a server whose starter was killed is joined, and ended by the last one to leave', async () => {
    const dataDir = await freshFolder()
    const starter = await startProcess(dataDir)
    const pid = await serverPid(dataDir)
    await starter.kill()
    const second = await start(dataDir)
    const third = await start(dataDir)
    expect([second.joined, third.joined, await serverPid(dataDir)]).toEqual([true, true, pid])
    await second.stop()
    expect(await ask(third.url, 'SELECT 1')).toBe(1)
    await third.stop()
    expect(await serverPid(dataDir)).toBeUndefined()
  })

  test('after a SIGKILL of the server the next start has everything that was committed', async () => {
    const dataDir = await freshFolder()
    const first = await start(dataDir)
    await ask(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    process.kill(await serverPidOrThrow(dataDir), 'SIGKILL')
    const second = await start(dataDir)
    expect(second.joined).toBe(false)
    expect(await ask(second.url, 'SELECT answer FROM kept')).toBe(42)
  })

  test('a lock that names a process id given to another process since does not prevent the start', async () => {
    const dataDir = await freshFolder()
    const first = await start(dataDir)
    const home = path.join(dataDir, 'postgres')
    const lock = await readFile(path.join(home, 'cluster/postmaster.pid'), 'utf8')
    const socketLock = await readFile(path.join(home, '.s.PGSQL.5432.lock'), 'utf8')
    await first.stop()
    const other = spawn('sleep', ['60'], { stdio: 'ignore' })
    onTestFinished(() => void other.kill('SIGKILL'))
    const renumbered = (text: string): string => text.replace(/^\d+/, String(other.pid))
    await writeAsOwner(path.join(home, 'cluster/postmaster.pid'), renumbered(lock))
    await writeAsOwner(path.join(home, '.s.PGSQL.5432.lock'), renumbered(socketLock))
    const second = await start(dataDir)
    expect(await ask(second.url, 'SELECT 1')).toBe(1)
    expect(other.exitCode).toBeNull()
  })

  test('what a killed first start left half made is cleared away', async () => {
    const dataDir = await freshFolder()
    const gone = spawn('true', { stdio: 'ignore' })
    await once(gone, 'exit')
    const draft = path.join(dataDir, 'postgres', `cluster.${gone.pid}.1.abc`)
    await mkdir(draft, { recursive: true })
    await writeFile(path.join(draft, 'PG_VERSION'), '18\n')
    const server = await start(dataDir)
    expect(await ask(server.url, 'SELECT 1')).toBe(1)
    expect(await exists(draft)).toBe(false)
  })

  test('a process that exits without stop takes its server along', async () => {
    const dataDir = await freshFolder()
    const starter = await startProcess(dataDir)
    expect(await serverPid(dataDir)).toBeDefined()
    starter.child.stdin?.write('exit\n')
    await once(starter.child, 'exit')
    await vi.waitFor(async () => expect(await serverPid(dataDir)).toBeUndefined(), { timeout: 10_000 })
  })
})

describe.skipIf(!isRoot)('as root', () => {
  test('the server runs under another account', async () => {
    const dataDir = await freshFolder()
    await start(dataDir)
    expect(await ownerOf(await serverPidOrThrow(dataDir))).not.toBe(0)
  })

  test('a folder above that is closed to that account does not matter', async () => {
    const parent = await freshFolder()
    await chmod(parent, 0o700)
    const dataDir = path.join(parent, 'deeper')
    const server = await start(dataDir)
    expect(await ask(server.url, 'SELECT 1')).toBe(1)
    const second = await startProcess(dataDir)
    expect(second.joined).toBe(true)
  })

  test('an ordinary user starts it as well; root then keeps to that account, and joins or starts', async (context) => {
    const isReadable = await canEnter(path.dirname(STARTER), { uid: NOBODY, gid: NOBODY })
    if (!isReadable) context.skip('this checkout is closed to other users')
    const dataDir = await freshFolder()
    await chown(dataDir, NOBODY, NOBODY)
    const ordinary = await startProcess(dataDir, { uid: NOBODY, gid: NOBODY })
    expect(ordinary.joined).toBe(false)
    expect((await start(dataDir)).joined).toBe(true)
    await ordinary.finish()
    expect((await start(dataDir)).joined).toBe(false)
    expect(await ownerOf(await serverPidOrThrow(dataDir))).toBe(NOBODY)
  })

  test('the data of another account are refused to an ordinary user, with the reason', async (context) => {
    const isReadable = await canEnter(path.dirname(STARTER), { uid: NOBODY, gid: NOBODY })
    if (!isReadable) context.skip('this checkout is closed to other users')
    const dataDir = await freshFolder()
    await mkdir(path.join(dataDir, 'postgres'), { mode: 0o700 })
    await expect(startProcess(dataDir, { uid: NOBODY, gid: NOBODY })).rejects.toThrow(/belongs to the user with id 0/)
  })
})

const SERVER_START = 'SELECT pg_postmaster_start_time()::text'

async function freshFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'unipay-embedded-'))
  await chmod(folder, 0o711)
  onTestFinished(async () => {
    await Promise.all(servers.splice(0).map(async (server) => await server.stop()))
    await rm(folder, { recursive: true, force: true })
  })
  return folder
}

async function start(dataDir: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbedded({ dataDir, fsync: false, ...options })
  servers.push(server)
  return server
}

type Starter = {
  url: string
  joined: boolean
  child: ChildProcess
  /** Its exit status. */
  finish: () => Promise<unknown>
  kill: () => Promise<void>
}

async function startProcess(dataDir: string, account: { uid?: number; gid?: number } = {}): Promise<Starter> {
  const child = spawn(process.execPath, ['--import', 'tsx', STARTER, dataDir], {
    ...account,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const ended = once(child, 'exit')
  const end = async (how: () => void): Promise<unknown> => {
    if (child.exitCode === null && child.signalCode === null) how()
    const [status]: unknown[] = await ended
    return status
  }
  const kill = async (): Promise<void> => void (await end(() => void child.kill('SIGKILL')))
  const finish = async (): Promise<unknown> => await end(() => void child.stdin.end())
  onTestFinished(async () => void (await finish()))
  let complaint = ''
  child.stderr.on('data', (chunk: Buffer) => {
    complaint += chunk.toString('utf8')
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const told = JSON.parse(line) as { url: string; joined: boolean }
    return { ...told, child, finish, kill }
  }
  await ended
  throw new Error(complaint)
}

async function serverPid(dataDir: string): Promise<number | undefined> {
  const text = await readFile(path.join(dataDir, 'postgres/cluster/postmaster.pid'), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : Number.parseInt(text, 10)
}

async function serverPidOrThrow(dataDir: string): Promise<number> {
  const pid = await serverPid(dataDir)
  if (pid === undefined) throw new Error('no server runs')
  return pid
}

async function ownerOf(pid: number): Promise<number> {
  return (await stat(`/proc/${pid}`)).uid
}

async function writeAsOwner(file: string, text: string): Promise<void> {
  await writeFile(file, text, { mode: 0o600 })
  const { uid, gid } = await stat(path.dirname(file))
  await chown(file, uid, gid)
}

async function ask(url: string, question: string): Promise<unknown> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    const found = await client.query<Record<string, unknown>>(question)
    return Object.values(found.rows[0] ?? {})[0]
  } finally {
    await client.end()
  }
}
