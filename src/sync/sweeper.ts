import type { OrderId } from '../domain/order.js'
import type { Gateway } from '../gateways/gateway.js'
import type { Log } from '../log.js'
import { createPlaces } from '../loop.js'
import type { Leases } from '../store/leases.js'
import type { SyncOrder } from './sync-order.js'

export type SweeperDeps = Readonly<{
  gateway: Gateway
  leases: Pick<Leases, 'claimDue'>
  syncOrder: SyncOrder
  /** Syncs at once, so few that none waits for its budget longer than about a second. */
  concurrency: number
  log: Log
  newTraceId: () => string
}>

/** Asks for one channel's due orders, oldest first, through the same door as everybody else. */
export function createSweeper({ gateway, leases, syncOrder, concurrency, log, newTraceId }: SweeperDeps) {
  const places = createPlaces(concurrency, Math.ceil(concurrency / 4))

  /** One round: claims what there is room for, starts syncing it, and waits for room. True where there may be more. */
  async function runOnce(): Promise<boolean> {
    const room = roomLeft()
    if (room === 0) return false
    const due = await leases.claimDue(gateway.channel, room)
    for (const id of due) places.occupy(sweep(id))
    if (due.length === 0) return false
    await places.room()
    return true
  }

  /** While the gateway is known to be down, due orders stay due, oldest first; one at a time probes whether it is back. */
  function roomLeft(): number {
    if (gateway.availability() === 'closed') return places.left()
    return gateway.availability() === 'half_open' && places.isEmpty() ? 1 : 0
  }

  async function sweep(id: OrderId): Promise<void> {
    const traceId = newTraceId()
    try {
      await syncOrder({
        key: { id },
        traceId,
        traceparent: null,
        source: 'sweeper',
        actor: null,
        clientIp: null,
        dryRun: false,
      })
    } catch (error) {
      // One bad row, or a database that went away: the row is due again by itself, and the sweep goes on.
      log.error({ event: 'sweep_failed', traceId, orderId: id.toString(), err: error })
    }
  }

  return {
    runOnce,
    /** Resolves when a sync that was started is over. */
    freed: places.freed,
    /** Resolves once every sync that was started is over. */
    drain: places.empty,
  }
}

export type Sweeper = ReturnType<typeof createSweeper>
