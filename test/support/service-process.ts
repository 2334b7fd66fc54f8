import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'

/** The built service (`npm run build`); the npm scripts of the tests build it first. */
export const MAIN = path.resolve(import.meta.dirname, '../../dist/main.js')
/** A process that does not say it has started by then never will. */
const START_MS_MAX = 30_000
const LINES_KEPT = 200

/**
 * The real service as a process of its own. Resolves once it listens; rejects with its last words where it does not.
 * `environment` is all it gets besides PATH.
 */
export async function startServiceProcess(environment: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [MAIN], {
    env: { PATH: process.env['PATH'] ?? '', HOST: '127.0.0.1', PORT: '0', LOG_LEVEL: 'info', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<number | null>((resolve) => {
    child.once('exit', resolve)
  })
  const lines: string[] = []
  const url = await startedAt(child, lines)
  return {
    url,
    pid: child.pid,
    /** The latest lines of its log. */
    lines: (): readonly string[] => lines,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    /** SIGKILL: nothing is finished, nothing is said. */
    async kill(): Promise<void> {
      child.kill('SIGKILL')
      await ended
    },
    /** SIGTERM, and its drain. Its exit status; null where a signal ended it. */
    async stop(): Promise<number | null> {
      child.kill('SIGTERM')
      return await ended
    },
  }
}

export type ServiceProcess = Awaited<ReturnType<typeof startServiceProcess>>

async function startedAt(child: ChildProcess, lines: string[]): Promise<string> {
  const { stdout, stderr } = child
  if (stdout === null || stderr === null) throw new Error('the service was spawned without pipes')
  const address = new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the service did not start in time')), START_MS_MAX)
    const keep = (line: string) => {
      lines.push(line)
      if (lines.length > LINES_KEPT) lines.shift()
    }
    createInterface({ input: stderr }).on('line', keep)
    createInterface({ input: stdout }).on('line', (line) => {
      keep(line)
      const found = /"address":"([^"]+)"/.exec(line)?.[1]
      if (found === undefined) return
      clearTimeout(timer)
      resolve(found)
    })
    child.once('exit', () => {
      clearTimeout(timer)
      reject(new Error('the service ended at its start'))
    })
  })
  try {
    return await address
  } catch (cause) {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    throw new Error(`the service did not start:\n${lines.join('\n')}`, { cause })
  }
}

/** mulberry32: a seed, printed by who uses it, gives the same moments again. */
export function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
