import { userInfo } from 'node:os'

import Table from 'cli-table3'

import { visible } from '../domain/visible-text.js'

/** The command was understood and did not succeed: exit status 1. */
export class CommandFailed extends Error {}
/** The command was not understood: exit status 2. */
export class Misused extends Error {}

export type Output = Readonly<{ json?: boolean }>
/** Of commands that change something: who is to be recorded. */
export type Acting = Readonly<{ as?: string }>

/** What a token's name may be, so that the records know operators by one kind of name. */
const NAME = /^[\w.@-]{1,60}$/

/** Who is recorded: the name given by `--as`, else the account that typed the command. */
export function actorName({ as }: Acting): string {
  if (as !== undefined && !NAME.test(as)) throw new Misused('--as is a name of letters, digits and . _ @ - only.')
  return `cli:${as ?? accountName()}`.slice(0, 64)
}

function accountName(): string {
  try {
    return userInfo().username
  } catch {
    // A container may run as a number that no account has.
    return `uid-${process.getuid?.() ?? 'unknown'}`
  }
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** Of what goes on while standard output waits for the result, or went wrong. */
export function sayAside(line: string): void {
  process.stderr.write(`${forTerminal(line)}\n`)
}

/** What merchants and gateways wrote may hold what a terminal obeys: it is spelled out, not sent. */
function forTerminal(text: string): string {
  return visible(text).replaceAll('\r', '⟨U+000D⟩')
}

/** JSON for scripts, whole and alone; for people whatever `text` makes of it. */
export function show(output: Output, value: unknown, text: () => string): void {
  say(output.json === true ? JSON.stringify(value) : forTerminal(text()))
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
