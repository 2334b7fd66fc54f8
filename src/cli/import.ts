import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'

import { HeadLineError, readCsv, readNdjson } from '../http/ops/import-lines.js'
import { importOrders } from '../http/ops/import-orders.js'
import { CommandFailed, Misused, type Output, show, table } from './output.js'
import { createProgress } from './progress.js'
import { withService } from './run.js'

export type ImportOptions = Output & Readonly<{ format?: string }>

/** Bad lines that people are shown; `--json` has the first 1000. */
const ERRORS_SHOWN_MAX = 20

/**
 * Imports NDJSON or CSV, from a file or, as `-`, from standard input. Bad lines make the exit status 1; the good ones are
 * in.
 */
export async function importFile(file: string, options: ImportOptions): Promise<void> {
  const isCsv = isCsvGiven(file, options.format)
  const { stream, bytes, read } = await opened(file)
  await withService(async (core) => {
    const progress = createProgress(options, 'import', bytes)
    const report = await importOrders(isCsv ? readCsv(stream) : readNdjson(stream), core.operations.registerMany, {
      onProgress: ({ created, same, conflict, invalid }) =>
        progress.at(read(), `${created + same} orders, ${conflict + invalid} bad`),
    })
      .catch((error: unknown) => {
        if (error instanceof HeadLineError) throw new CommandFailed(error.message)
        throw new CommandFailed(`${String(error)}\nWhat went in stays in; run it again: such lines count as the same.`)
      })
      .finally(() => {
        progress.end()
        // Who still writes into a pipe that is refused must not keep this command waiting.
        stream.destroy()
      })
    const { errors, ...counts } = report
    const bad = counts.conflict + counts.invalid
    show(options, report, () =>
      [
        table(Object.keys(counts), [Object.values(counts)]),
        ...errors.slice(0, ERRORS_SHOWN_MAX).map(({ line, reason }) => `line ${line}: ${reason}`),
        ...(bad > ERRORS_SHOWN_MAX ? [`… and ${bad - ERRORS_SHOWN_MAX} more (--json has the first 1000)`] : []),
      ].join('\n'),
    )
    if (bad > 0) throw new CommandFailed(`${bad} lines did not go in; the others did.`)
  })
}

function isCsvGiven(file: string, format: string | undefined): boolean {
  if (format !== undefined && format !== 'csv' && format !== 'ndjson') throw new Misused('--format is ndjson or csv.')
  return format === undefined ? file.toLowerCase().endsWith('.csv') : format === 'csv'
}

type Opened = Readonly<{
  stream: Readable
  /** Of a file that has a length; null of a pipe. */
  bytes: number | null
  read: () => number
}>

async function opened(file: string): Promise<Opened> {
  if (file === '-') {
    if (process.stdin.isTTY) throw new Misused('- reads from a pipe: unipay import - < FILE')
    return { stream: process.stdin, bytes: null, read: () => 0 }
  }
  try {
    const handle = await open(file)
    const status = await handle.stat()
    if (!status.isDirectory()) {
      const stream = handle.createReadStream()
      return { stream, bytes: status.isFile() ? status.size : null, read: () => stream.bytesRead }
    }
    await handle.close()
  } catch (error) {
    throw new Misused(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
  throw new Misused(`${file} is a folder; give a file.`)
}
