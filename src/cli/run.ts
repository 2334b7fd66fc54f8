import { userInfo } from 'node:os'

import Table from 'cli-table3'
import pino from 'pino'

import { compose, type Service } from '../compose.js'
import { loadConfig } from '../config.js'
import { createLog } from '../log.js'

/** The command was understood and did not succeed: exit status 1. */
export class CommandFailed extends Error {}
/** The command was not understood: exit status 2. */
export class Misused extends Error {}

export type Output = Readonly<{ json?: boolean }>

/** Who is recorded: the account that typed the command. */
export function actorName(): string {
  return `cli:${userInfo().username}`.slice(0, 64)
}

/**
 * The service's own composition, without listening and without its loops. What it logs goes to standard error, errors
 * only, so that standard output is the command's alone. Only `migrate` changes a database that was given.
 */
export async function withService<T>(work: (service: Service) => Promise<T>): Promise<T> {
  const config = loadConfig(process.env)
  const service = await compose(
    { ...config, MIGRATE_ON_START: config.DATABASE_URL === undefined },
    { log: createLog('error', pino.destination(2)) },
  )
  try {
    return await work(service)
  } finally {
    await service.stop()
  }
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** JSON for scripts, whole and alone; for people whatever `text` makes of it. */
export function show(output: Output, value: unknown, text: () => string): void {
  say(output.json === true ? JSON.stringify(value) : text())
}

type Cell = string | number | null | undefined

export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const made = new Table({ head: [...head], style: { head: [], border: [] } })
  for (const row of rows) made.push(row.map((cell) => String(cell ?? '-')))
  return made.toString()
}

export function yuan(fen: number): string {
  return `${Math.trunc(fen / 100)}.${String(Math.abs(fen % 100)).padStart(2, '0')}`
}
