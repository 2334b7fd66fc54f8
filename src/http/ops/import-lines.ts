import type { Readable } from 'node:stream'

import { parse } from 'csv-parse'

import { newOrderSchema } from './order-schema.js'

/** One line of an import as it was read, or why it could not be. `line` counts from 1. */
export type ReadLine = Readonly<{ line: number } & ({ value: unknown } | { unreadable: string })>

/** An order takes a few hundred bytes; a longer line is no order, and its end is looked for without keeping it. */
const LINE_BYTES_MAX = 16 * 1024
const NEWLINE = 0x0a

/** Newline-delimited JSON, one line at a time: never more than one chunk and one line are in memory. */
export async function* readNdjson(stream: Readable): AsyncGenerator<ReadLine> {
  let kept: Buffer[] = []
  let keptBytes = 0
  let line = 1
  const take = (part: Buffer): void => {
    keptBytes += part.length
    if (keptBytes <= LINE_BYTES_MAX) kept.push(part)
  }
  const finished = (): ReadLine | null => {
    const read = keptBytes > LINE_BYTES_MAX ? tooLong(line) : parsed(line, Buffer.concat(kept))
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

function tooLong(line: number): ReadLine {
  return { line, unreadable: `longer than ${LINE_BYTES_MAX} bytes` }
}

/** Null for a blank line. */
function parsed(line: number, bytes: Buffer): ReadLine | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return text.trim() === '' ? null : { line, value: JSON.parse(text) as unknown }
  } catch (error) {
    return { line, unreadable: error instanceof SyntaxError ? `not JSON: ${error.message.slice(0, 100)}` : 'not UTF-8' }
  }
}

/** The names of an order's fields, and whether each may be left out. */
const IS_OPTIONAL = new Map(
  Object.entries(newOrderSchema.shape).map(([name, field]) => [name, field.safeParse(undefined).success]),
)
/** A name that is quoted: a file without a head line has an order's values there. */
const NAME_LENGTH_SHOWN = 40
const PROBLEMS_TOLD_MAX = 10

/** The head line cannot be worked with, so neither can the file; the message says why, for people. */
export class HeadLineError extends Error {
  constructor(problem: string) {
    super(`The head line ${problem}. Nothing was registered.`)
  }
}

/**
 * CSV with a head line of field names; where that is not right, `HeadLineError`. A column that is missing or misspelt would
 * otherwise be an absent field of every order. An empty cell is an absent field; of `channel`, it means none. `amount` is a
 * whole number of fen.
 */
export async function* readCsv(stream: Readable): AsyncGenerator<ReadLine> {
  const skipped: Readonly<{ line: number; unreadable: string }>[] = []
  let isHeadRead = false
  const requireHead = (): void => {
    // The line after one that could not be read would be taken for the head.
    if (!isHeadRead && skipped[0] !== undefined) throw new HeadLineError(`cannot be read: ${skipped[0].unreadable}`)
  }
  const parser = parse({
    bom: true,
    columns: (head: string[]) => {
      requireHead()
      isHeadRead = true
      return fieldsNamedIn(head)
    },
    info: true,
    trim: true,
    skip_empty_lines: true,
    // One bad record is skipped and told; the next line is read as if nothing had been.
    skip_records_with_error: true,
    max_record_size: LINE_BYTES_MAX,
    on_skip: (error) => {
      skipped.push({ line: Number(error?.['lines'] ?? 0), unreadable: error?.message.slice(0, 200) ?? 'not CSV' })
      return undefined
    },
  })
  stream.on('error', (error) => parser.destroy(error))
  stream.pipe(parser)
  for await (const record of parser) {
    yield* skipped.splice(0)
    const { record: cells, info } = record as { record: Record<string, string>; info: { lines: number } }
    yield { line: info.lines, value: fieldsOf(cells) }
  }
  requireHead()
  yield* skipped
}

function fieldsNamedIn(head: readonly string[]): string[] {
  const names = head.map((name) => name.trim())
  const missing = [...IS_OPTIONAL].filter(([name, isOptional]) => !isOptional && !names.includes(name))
  const problems = new Set(missing.map(([name]) => `has no column ${name}`))
  for (const [place, name] of names.entries()) {
    if (name === '') problems.add('has a column without a name')
    else if (!IS_OPTIONAL.has(name)) problems.add(`has a column ${shortened(name)}, which no order has`)
    else if (names.indexOf(name) !== place) problems.add(`has the column ${name} twice`)
  }
  if (problems.size > 0) throw new HeadLineError([...problems].slice(0, PROBLEMS_TOLD_MAX).join('; '))
  return names
}

function shortened(name: string): string {
  return name.length > NAME_LENGTH_SHOWN ? `${name.slice(0, NAME_LENGTH_SHOWN)}…` : name
}

function fieldsOf(cells: Readonly<Record<string, string>>): Record<string, unknown> {
  const fields: Record<string, unknown> = { channel: null }
  for (const [name, cell] of Object.entries(cells)) {
    if (cell !== '') fields[name] = name === 'amount' && /^\d{1,15}$/.test(cell) ? Number(cell) : cell
  }
  return fields
}
