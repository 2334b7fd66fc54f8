import type { Deadline } from './deadline.js'
import type { CallPriority } from './gateway.js'

const WINDOW_MS = 1_000
/** Who goes first. */
const PRIORITIES = ['operator', 'merchant', 'sweeper'] as const satisfies readonly CallPriority[]

export type BudgetOptions = Readonly<{
  /** Calls at once. */
  concurrency: number
  /** Requests in any second, not only in whole ones: a gateway counts as it likes. */
  ratePerS: number
}>

/**
 * What a channel may be asked: places for calls, and turns for requests. Where there is none, who waits is let through by
 * priority, then in the order of arrival; whose `deadline` comes first no longer waits, and holds nothing.
 */
export function createBudget({ concurrency, ratePerS }: BudgetOptions) {
  const forPlace = createLine()
  const forTurn = createLine()
  let placesLeft = concurrency
  /** When each of the latest turns was taken: a ring, in which the oldest is overwritten next. */
  const takenAtMs = new Float64Array(ratePerS).fill(Number.NEGATIVE_INFINITY)
  let oldest = 0
  let timer: NodeJS.Timeout | null = null

  /** One place, to be left, and one turn. False where `deadline` came first. */
  async function enter(priority: CallPriority, deadline: Deadline): Promise<boolean> {
    if (deadline.isOver()) return false
    if (placesLeft > 0) placesLeft -= 1
    else if (!(await forPlace.wait(priority, deadline))) return false
    if (await turn(priority, deadline)) return true
    leave()
    return false
  }

  /** One further turn. False where `deadline` came first. */
  async function turn(priority: CallPriority, deadline: Deadline): Promise<boolean> {
    if (deadline.isOver()) return false
    if (forTurn.size() === 0 && takeTurn()) return true
    const came = forTurn.wait(priority, deadline)
    letThrough()
    // Both may come in one moment.
    return (await came) && !deadline.isOver()
  }

  function leave(): void {
    if (!forPlace.next()) placesLeft += 1
  }

  function takeTurn(): boolean {
    if (freeInMs() > 0) return false
    takenAtMs[oldest] = performance.now()
    oldest = (oldest + 1) % ratePerS
    return true
  }

  function freeInMs(): number {
    return (takenAtMs[oldest] ?? 0) + WINDOW_MS - performance.now()
  }

  function letThrough(): void {
    while (forTurn.size() > 0 && takeTurn()) forTurn.next()
    if (forTurn.size() === 0 || timer !== null) return
    timer = setTimeout(() => {
      timer = null
      letThrough()
    }, Math.ceil(freeInMs()))
    // Who waits has a deadline; that one keeps the process alive.
    timer.unref()
  }

  return { enter, turn, leave, waiting: () => forPlace.size() + forTurn.size() }
}

/** Who waits for one thing. */
function createLine() {
  const waiting: Readonly<Record<CallPriority, Set<() => void>>> = {
    operator: new Set(),
    merchant: new Set(),
    sweeper: new Set(),
  }
  return {
    size: () => PRIORITIES.reduce((sum, priority) => sum + waiting[priority].size, 0),
    /** True once it is this one's moment; false where `deadline` came first. */
    async wait(priority: CallPriority, deadline: Deadline): Promise<boolean> {
      return await new Promise((resolve) => {
        const end = (came: boolean) => {
          waiting[priority].delete(go)
          deadline.off(giveUp)
          resolve(came)
        }
        const go = () => end(true)
        const giveUp = () => end(false)
        waiting[priority].add(go)
        deadline.onOver(giveUp)
      })
    },
    /** Tells the first one. False where nobody waits. */
    next(): boolean {
      for (const priority of PRIORITIES) {
        const [go] = waiting[priority]
        if (go === undefined) continue
        go()
        return true
      }
      return false
    },
  }
}
