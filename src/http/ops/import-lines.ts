import type { Readable } from 'node:stream'

import Papa from 'papaparse'

import { toldTogether, unknownName } from './known-fields.js'
import { newOrderSchema } from './order-schema.js'

/** One line of an import as it was read, or why it could not be. `line` counts from 1. */
export type ReadLine = Readonly<{ line: number } & ({ value: unknown } | { unreadable: string })>
type Line = Readonly<{ line: number } & ({ text: string } | { unreadable: string })>

/** An order takes a few hundred bytes; a longer line is no order, and its end is looked for without keeping it. */
const LINE_BYTES_MAX = 16 * 1024
const NEWLINE = 0x0a

/** Newline-delimited JSON. */
export async function* readNdjson(stream: Readable): AsyncGenerator<ReadLine> {
  for await (const read of linesOf(stream)) yield 'unreadable' in read ? read : parsed(read.line, read.text)
}

/** One line at a time: never more than one chunk and one line are in memory. Blank lines are left out. */
async function* linesOf(stream: Readable): AsyncGenerator<Line> {
  let kept: Buffer[] = []
  let keptBytes = 0
  let line = 1
  const take = (part: Buffer): void => {
    keptBytes += part.length
    if (keptBytes <= LINE_BYTES_MAX) kept.push(part)
  }
  const finished = (): Line | null => {
    const read = keptBytes > LINE_BYTES_MAX ? tooLong(line) : decoded(line, Buffer.concat(kept))
    kept = []
    keptBytes = 0
    line += 1
    return read
  }
  for await (const chunk of stream) {
    const bytes = chunk as Buffer
    let from = 0
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, from)) {
      take(bytes.subarray(from, end))
      from = end + 1
      const read = finished()
      if (read !== null) yield read
    }
    take(bytes.subarray(from))
  }
  const last = finished()
  if (last !== null) yield last
}

function tooLong(line: number): Line {
  return { line, unreadable: `longer than ${LINE_BYTES_MAX} bytes` }
}

/** Null for a blank line. A byte order mark is left out. */
function decoded(line: number, bytes: Buffer): Line | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes).trim()
    return text === '' ? null : { line, text }
  } catch {
    return { line, unreadable: 'not UTF-8' }
  }
}

function parsed(line: number, text: string): ReadLine {
  try {
    return { line, value: JSON.parse(text) as unknown }
  } catch (error) {
    return { line, unreadable: `not JSON: ${error instanceof Error ? error.message.slice(0, 100) : ''}` }
  }
}

/** The names of an order's fields, and whether each may be left out. */
const IS_OPTIONAL = new Map(
  Object.entries(newOrderSchema.shape).map(([name, field]) => [name, field.safeParse(undefined).success]),
)

/** The head line cannot be worked with, so neither can the file; the message says why, for people. */
export class HeadLineError extends Error {
  constructor(problem: string) {
    super(`The head line ${problem}. Nothing was registered.`)
  }
}

/**
 * CSV with a head line of field names; where that is not right, `HeadLineError`. A column that is missing or misspelt would
 * otherwise be an absent field of every order. An empty cell is an absent field; of `channel`, it means none. `amount` is a
 * whole number of fen. A record ends with its line: a quote that is not closed spoils that line and no other.
 */
export async function* readCsv(stream: Readable): AsyncGenerator<ReadLine> {
  let names: readonly string[] | null = null
  for await (const read of linesOf(stream)) {
    const cells = 'unreadable' in read ? read.unreadable : cellsOf(read.text)
    const { line } = read
    if (names === null) {
      if (typeof cells === 'string') throw new HeadLineError(`cannot be read: ${cells}`)
      names = fieldsNamedIn(cells)
    } else if (typeof cells === 'string') yield { line, unreadable: cells }
    else if (cells.length !== names.length)
      yield { line, unreadable: `has ${cells.length} cells; the head line has ${names.length}` }
    else yield { line, value: fieldsOf(names, cells) }
  }
  // Even an export of no orders has its head line; without it the file is one that was cut off, or the wrong one.
  if (names === null) throw new HeadLineError('is missing')
}

/** The cells of one line, or what is wrong with its quotes. */
function cellsOf(text: string): string[] | string {
  const { data, errors } = Papa.parse<string[]>(text, { delimiter: ',', newline: '\n' })
  if (errors[0] !== undefined) return `a quote is not closed, or something stands behind it: ${errors[0].message}`
  const cells = (data[0] ?? []).map((cell) => cell.trim())
  // Quoting begins at a cell's first character; behind a space it would be read as part of what it holds.
  return text.includes(' "') && cells.some((cell) => cell.startsWith('"')) ? 'a quote stands behind a space' : cells
}

function fieldsNamedIn(head: readonly string[]): string[] {
  const names = head.map((name) => name.trim())
  const missing = [...IS_OPTIONAL].filter(([name, isOptional]) => !isOptional && !names.includes(name))
  const problems = new Set(missing.map(([name]) => `has no column ${name}`))
  for (const [place, name] of names.entries()) {
    if (!IS_OPTIONAL.has(name)) problems.add(unknownName('column', name, 'order', [...IS_OPTIONAL.keys()]))
    else if (names.indexOf(name) !== place) problems.add(`has the column ${name} twice`)
  }
  if (problems.size > 0) throw new HeadLineError(toldTogether([...problems]))
  return names
}

function fieldsOf(names: readonly string[], cells: readonly string[]): Record<string, unknown> {
  const fields: Record<string, unknown> = { channel: null }
  for (const [place, name] of names.entries()) {
    const cell = cells[place] ?? ''
    if (cell !== '') fields[name] = name === 'amount' && /^\d{1,15}$/.test(cell) ? Number(cell) : cell
  }
  return fields
}
