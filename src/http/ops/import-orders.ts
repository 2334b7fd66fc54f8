import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { IMPORT_CHUNK, type RegisterMany } from '../../store/import.js'
import type { NewOrder } from '../../store/registration.js'
import type { ReadLine } from './import-lines.js'
import { conflictText, newOrderOf, newOrderSchema } from './order-schema.js'

/** Bad lines that are told with their reason; the rest are only counted. */
const ERRORS_MAX = 1_000

/**
 * V8 lets a heap grow to some hundred MB before it looks for what is dead, the more so the busier the machine is. An import
 * keeps nothing of its lines, good or bad, and has them collected: what is new after so many (1 ms), all after more (25 ms).
 */
const COLLECT_NEW_EVERY_LINES = 500
const COLLECT_ALL_EVERY_LINES = 5_000
let collect: ((options?: Readonly<{ type: 'minor' }>) => void) | undefined

function collectGarbageAfter(lines: number): void {
  if (lines % COLLECT_NEW_EVERY_LINES !== 0) return
  if (collect === undefined) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as NonNullable<typeof collect>
  }
  if (lines % COLLECT_ALL_EVERY_LINES === 0) collect()
  else collect({ type: 'minor' })
}

export type ImportReport = {
  total: number
  created: number
  same: number
  conflict: number
  invalid: number
  errors: { line: number; reason: string }[]
}

/**
 * Registers whatever of these lines is an order, some hundred at a time; a bad line is told and stops nothing. Run twice,
 * the second run finds every order the same. Where it throws (the database went away), what went in before stays in.
 */
export async function importOrders(
  lines: AsyncIterable<ReadLine>,
  registerMany: RegisterMany,
  options: Readonly<{ onProgress?: (report: Readonly<ImportReport>) => void }> = {},
): Promise<ImportReport> {
  const report: ImportReport = { total: 0, created: 0, same: 0, conflict: 0, invalid: 0, errors: [] }
  let waiting: { line: number; order: NewOrder }[] = []

  const refuse = (kind: 'conflict' | 'invalid', line: number, reason: string): void => {
    report[kind] += 1
    if (report.errors.length < ERRORS_MAX) report.errors.push({ line, reason })
  }
  const flush = async (): Promise<void> => {
    const chunk = waiting
    waiting = []
    const imported = await registerMany(chunk.map(({ order }) => order))
    for (const [index, outcome] of imported.entries()) {
      if (outcome.kind === 'conflict') refuse('conflict', chunk[index]?.line ?? 0, conflictText(outcome))
      else report[outcome.kind] += 1
    }
    options.onProgress?.(report)
  }

  for await (const read of lines) {
    report.total += 1
    const order = 'unreadable' in read ? read.unreadable : orderOf(read.value)
    if (typeof order === 'string') refuse('invalid', read.line, order)
    else waiting.push({ line: read.line, order })
    if (waiting.length >= IMPORT_CHUNK) await flush()
    collectGarbageAfter(report.total)
  }
  if (waiting.length > 0) await flush()
  // Conflicts are found later than unreadable lines.
  report.errors.sort((one, other) => one.line - other.line)
  return report
}

function orderOf(value: unknown): NewOrder | string {
  const checked = newOrderSchema.safeParse(value)
  if (checked.success) return newOrderOf(checked.data)
  // What is unknown explains what is missing.
  const issue = checked.error.issues.find(({ code }) => code === 'unrecognized_keys') ?? checked.error.issues[0]
  return `${issue?.path.join('.') || 'line'}: ${issue?.message ?? 'invalid'}`
}
