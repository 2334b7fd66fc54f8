import { hasPassed } from '../../elapsed.js'

/** All who look at once share one count; nobody needs it fresher. */
const FRESH_MS = 2_000
/** A page is not kept waiting for a count longer than this: what was known before is shown with its time, or nothing yet. */
const WAIT_MS_MAX = 100

export type Figure<T> = Readonly<{ value: T; atMs: number }>

/**
 * A count whose time grows with what is wrong (an outage leaves hundreds of thousands of orders open): made once for all
 * who ask, and never waited for. Null where it was not known in time; a later look has it.
 */
export function createFigure<T>(count: () => Promise<T>, now: () => number) {
  let known: Figure<T> | null = null
  let counting: Promise<void> | null = null

  async function countOnce(): Promise<void> {
    const atMs = now()
    known = { value: await count(), atMs }
  }

  return async (): Promise<Figure<T> | null> => {
    if (known !== null && !hasPassed(FRESH_MS, known.atMs, now())) return known
    counting ??= countOnce().finally(() => {
      counting = null
    })
    let timer: NodeJS.Timeout | undefined
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, WAIT_MS_MAX)
    })
    try {
      await Promise.race([counting, patience])
    } finally {
      clearTimeout(timer)
    }
    return known
  }
}
