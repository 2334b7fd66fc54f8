import { execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { stripVTControlCharacters } from 'node:util'

import { vi } from 'vitest'

export type DemoOrder = Readonly<{ title: string; curl: string; row: readonly string[] }>
type Environment = Readonly<Record<string, string>>
type Ran = Readonly<{ status: number; output: string }>

/** What a shell makes of a line that a document or the demo prints, with nothing in its environment but what is given. */
export async function shell(line: string, env: Environment, cwd: string, timeoutMs = 60_000): Promise<Ran> {
  return await new Promise((resolve) => {
    const options = { env: { ...env }, cwd, timeout: timeoutMs, maxBuffer: 16 * 1024 * 1024 }
    execFile('sh', ['-c', line], options, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ status, output: status === 0 ? stdout : `${stdout}${stderr}` })
    })
  })
}

/** Something that runs until it is told to end, as a terminal would: Ctrl-C goes to all of its processes. */
export function startInTerminal(line: string, env: Environment, cwd: string) {
  const child = spawn('sh', ['-c', `exec ${line}`], {
    env: { ...env },
    cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr])
    createInterface({ input: stream }).on('line', (text) => lines.push(text))
  let status: number | null | undefined
  const ended = new Promise<void>((resolve) => {
    child.once('close', (code) => {
      status = code
      resolve()
    })
  })
  return {
    lines: (): readonly string[] => lines,
    async says(wanted: string | RegExp, timeoutMs: number): Promise<string> {
      return await vi.waitFor(
        () => {
          const found = lines.find((text) => (typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text)))
          if (found !== undefined) return found
          throw new Error(`${line} has not said ${wanted} but:\n${lines.slice(-20).join('\n')}`)
        },
        { timeout: timeoutMs, interval: 50 },
      )
    },
    async interrupt(): Promise<number | null | undefined> {
      if (status === undefined && child.pid !== undefined) process.kill(-child.pid, 'SIGINT')
      await ended
      return status
    },
  }
}

/** What the demo printed: each order's call, and its row of the table. */
export function demoOrders(lines: readonly string[]): readonly DemoOrder[] {
  const rows = lines
    .filter((line) => line.startsWith('│'))
    .map((line) => stripVTControlCharacters(line).split('│').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.trim()))
  return lines.flatMap((line, at) => {
    const [, number, title] = /^# (\d+) (.+)$/.exec(line) ?? []
    if (number === undefined || title === undefined) return []
    const row = rows.find(([first]) => first === number) ?? []
    return [{ title, curl: lines[at + 1] ?? '', row: row.slice(1) }]
  })
}
