import type { OrderStatus } from './order.js'
import type { TradeState } from './trade.js'

/** When a live order is asked for, in seconds after its creation: both gateways recommend this rising distance. */
const AFTER_CREATION_S = [5, 30, 60, 180, 300, 600, 1800] as const

/** Past that, and past expiry, while its state stays open. Seconds. */
const OPEN_EVERY_S = 1800

/**
 * An order closed before the gateway had a trade of it is asked for again, seconds after its close: the buyer may scan an
 * old code, or the merchant's pay call may have been late.
 */
const LATE_WATCH_S = [300, 3600, 86_400] as const

/**
 * After failures: 30 s, doubling up to these, in seconds. A sync that threw may be the order's fault, and no more than one of
 * them an hour; or it was the database's, and nothing is known of the order. What only a human can mend can wait for a day.
 */
const FAILURE_FIRST_S = 30
const RETRY_MAX_S = { unknown: 1800, threw: 3600, parked: 86_400 } as const

/** The 16 sends of a notice: the distance to the next one, in seconds (CONTRACT: 24 h 4 min in all). */
export const NOTICE_DELAYS_S = [
  15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600,
] as const

export type SyncedOrder = Readonly<{
  /** As it is after the sync. */
  status: OrderStatus
  trade: TradeState
  /** Negative where its creation lies ahead: it was written with a wrong offset, or by a clock that is ahead. */
  ageS: number
  /** Until expiry; negative where it is past. */
  expiresInS: number
  /** Since it was closed here; null where it is not closed, 0 where this sync closed it. */
  closedForS: number | null
}>

/** Seconds until the next sync of an order whose state was learned; null where it is at rest. */
export function nextSyncDelayS(order: SyncedOrder): number | null {
  // Closed here and not yet there (the gateway would not close it so soon): somebody may pay it, so it is not at rest.
  const isPayableThere = order.status === 'close' && order.trade === 'paying'
  if (order.status === 'close' && !isPayableThere) {
    const mayCome = order.trade === 'not_found_yet' || order.trade === 'not_found'
    return mayCome ? nextLateWatchS(order) : null
  }
  if (order.status !== 'progress' && order.status !== 'fail' && !isPayableThere) return null
  // Refunded there and never settled here: nothing but a human's work will change it. As far again as it is old.
  if (order.trade === 'refunded') return Math.min(Math.max(order.ageS, OPEN_EVERY_S), RETRY_MAX_S.parked)
  const step = AFTER_CREATION_S.find((at) => at > order.ageS)
  // One whose creation lies hours ahead may be paid by now. Nor is it taken for new until then, and asked for every 5 s.
  const next = step === undefined ? OPEN_EVERY_S : Math.min(step - order.ageS, OPEN_EVERY_S)
  // Expiry is a due time of its own, so that an order is closed when its time is over and not half an hour later.
  return order.expiresInS > 0 ? Math.min(next, order.expiresInS) : next
}

/** Seconds until the next look of the late-payment watch at an order that is closed here; null where the watch is over. */
export function nextLateWatchS(order: Pick<SyncedOrder, 'closedForS' | 'expiresInS'>): number | null {
  // One that came here closed, at a time that nobody wrote down, is watched from its expiry on.
  const closedForS = order.closedForS ?? Math.max(0, -order.expiresInS)
  const step = LATE_WATCH_S.find((at) => at > closedForS)
  return step === undefined ? null : step - closedForS
}

/** Seconds until the next try after `failures` failures in a row (1 for the first). `parked`: only a human can mend it. */
export function retryDelayS(failures: number, cause: keyof typeof RETRY_MAX_S): number {
  return Math.min(RETRY_MAX_S[cause], FAILURE_FIRST_S * 2 ** Math.min(Math.max(failures - 1, 0), 16))
}

/** Seconds until a notice's next send after `attempts` sends; null where the last one is done. */
export function nextNoticeDelayS(attempts: number): number | null {
  return NOTICE_DELAYS_S[attempts - 1] ?? null
}
