import { SingleBar } from 'cli-progress'

import type { Output } from './output.js'

/** Where standard error is no terminal: a line this often, so that its reader sees that something goes on. Milliseconds. */
const LINE_EVERY_MS = 5_000

/** A bar on standard error, from its first value on; with `--json` nothing. A total of null is not known. */
export function createProgress(output: Output, name: string, total: number | null) {
  const bar = new SingleBar({
    format: total === null ? `${name} | {told}` : `${name} {bar} {percentage}% | {told}`,
    clearOnComplete: false,
    noTTYOutput: true,
    notTTYSchedule: LINE_EVERY_MS,
  })
  const isShown = output.json !== true
  let isStarted = false
  return {
    at(value: number, told: string): void {
      if (!isShown) return
      if (isStarted) bar.update(value, { told })
      // A bar over nothing is a whole one.
      else bar.start(Math.max(total ?? 1, 1), total === 0 ? 1 : value, { told })
      isStarted = true
    },
    end(): void {
      if (isStarted) bar.stop()
    },
  }
}
