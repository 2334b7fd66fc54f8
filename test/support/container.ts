import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** A start or a command that takes longer never ends. Milliseconds. */
const COMMAND_MS_MAX = 60_000

type Ran = Readonly<{ status: number; output: string }>
type Settings = Readonly<Record<string, string>>
type ImageConfig = Readonly<{ Env?: string[]; Cmd?: string[]; User?: string; WorkingDir?: string }>

/**
 * How an image is run here: with the network of the host, a root file system that nobody can write, no capability, and the
 * command as process 1.
 */
type Engine = Readonly<{
  name: string
  config: ImageConfig
  /** The process that ends with the container, and with its status. */
  run: (settings: Settings) => ChildProcess
  exec: (run: ChildProcess, settings: Settings, command: readonly string[]) => Promise<Ran>
  terminate: (run: ChildProcess) => void
  close: () => void
}>

/** Who has the image: docker, podman, or buildah for root. Null where nobody has. */
export function findEngine(image: string | undefined): Engine | null {
  if (image === undefined || image === '') return null
  for (const program of ['docker', 'podman']) {
    const found = tryJson(program, ['image', 'inspect', image]) as [{ Config: ImageConfig }] | null
    if (found !== null) return withDocker(program, image, found[0].Config)
  }
  const inspected = tryJson('buildah', ['inspect', '--type', 'image', image]) as {
    OCIv1: { config: ImageConfig }
  } | null
  return inspected === null ? null : withoutDaemon(image, inspected.OCIv1.config)
}

function tryJson(program: string, args: readonly string[]): unknown {
  try {
    return JSON.parse(execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
  } catch {
    // No such program, no engine behind it, or no such image: the next one is asked.
    return null
  }
}

function withDocker(program: string, image: string, config: ImageConfig): Engine {
  const names = new WeakMap<ChildProcess, string>()
  const nameOf = (run: ChildProcess) => names.get(run) ?? ''
  const flags = (settings: Settings) =>
    Object.entries(settings).flatMap(([name, value]) => ['--env', `${name}=${value}`])
  const bounds = ['--network', 'host', '--read-only', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges']
  return {
    name: program,
    config,
    run(settings) {
      const name = `unipay-test-${randomUUID()}`
      const run = spawn(program, ['run', '--rm', '--name', name, ...bounds, ...flags(settings), image], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      names.set(run, name)
      return run
    },
    exec: async (run, settings, command) => await ran(program, ['exec', ...flags(settings), nameOf(run), ...command]),
    terminate: (run) => void execFileSync(program, ['kill', '--signal', 'TERM', nameOf(run)]),
    close: () => undefined,
  }
}

/** Mounts the image's files read-only and runs its command in namespaces of its own, as process 1 of the image's user. */
function withoutDaemon(image: string, config: ImageConfig): Engine {
  const buildah = (...args: string[]) => execFileSync('buildah', args, { encoding: 'utf8' }).trim()
  const container = buildah('from', image)
  const root = buildah('mount', container)
  const { uid, gid } = userIn(root, config.User ?? 'root')
  const inside = (settings: Settings, command: readonly string[]) => {
    const environment = [...(config.Env ?? []), ...Object.entries(settings).map(([name, value]) => `${name}=${value}`)]
    const change = [
      'chroot',
      `--userspec=${uid}:${gid}`,
      root,
      'sh',
      '-c',
      `cd ${config.WorkingDir ?? '/'} && exec "$@"`,
    ]
    return ['env', '-i', ...environment, ...change, 'sh', ...command]
  }
  const namespaces = ['--mount', '--pid', '--fork', '--kill-child', 'setpriv', '--no-new-privs']
  const mounts = [
    `mount --rbind ${root} ${root}`,
    `mount -o remount,bind,ro ${root}`,
    `mount -t proc proc ${root}/proc`,
    `mount --rbind /dev ${root}/dev`,
  ].join(' && ')
  return {
    name: 'buildah',
    config,
    run: (settings) => {
      const command = inside(settings, config.Cmd ?? [])
      return spawn('unshare', [...namespaces, 'sh', '-c', `${mounts} && exec "$@"`, 'sh', ...command], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    },
    exec: async (run, settings, command) =>
      await ran('nsenter', ['--target', String(firstOf(run)), '--mount', '--pid', ...inside(settings, command)]),
    terminate: (run) => void process.kill(firstOf(run), 'SIGTERM'),
    close: () => void buildah('rm', container),
  }
}

/** What is process 1 in there, by its number out here. */
function firstOf({ pid }: ChildProcess): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim())
}

function userIn(root: string, user: string): Readonly<{ uid: string; gid: string }> {
  const accounts = readFileSync(`${root}/etc/passwd`, 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  const found = accounts.find(([name, , uid]) => name === user || uid === user)
  if (found === undefined) throw new Error(`the image has no user ${user}`)
  return { uid: found[2] ?? '', gid: found[3] ?? '' }
}

async function ran(program: string, args: readonly string[]): Promise<Ran> {
  return await new Promise((resolve) => {
    execFile(program, args, { timeout: COMMAND_MS_MAX }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ status, output: `${stdout}${stderr}`.trim() })
    })
  })
}

/** A container of the service with these settings, which are all that it gets. */
export function startContainer(engine: Engine, settings: Settings) {
  const run = engine.run(settings)
  const lines: string[] = []
  for (const stream of [run.stdout, run.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on('line', (line) => lines.push(line))
  }
  const ended = new Promise<number>((resolve) => run.once('close', (status) => resolve(status ?? -1)))
  return {
    lines: (): readonly string[] => lines,
    /** A command inside, with further settings. */
    exec: async (command: readonly string[], more: Settings = {}): Promise<Ran> =>
      await engine.exec(run, { ...settings, ...more }, command),
    /** SIGTERM to process 1, and nothing else; the status that it ends with. */
    async terminate(): Promise<number> {
      engine.terminate(run)
      return await ended
    },
    ended,
  }
}

export type Container = ReturnType<typeof startContainer>
