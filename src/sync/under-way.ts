import type { Order } from '../domain/order.js'
import type { OrderKey } from '../store/leases.js'

type UnderWay = Readonly<{ order: Order; leaseEndMs: number }>

/**
 * The syncs of this process that are under way. Who asks for one of them again is told so without a statement: a client
 * that repeats its call all the time costs the database nothing. Who may sync is decided by the orders' leases alone.
 */
export function createUnderWay(monotonicMs: () => number) {
  const byKey = new Map<bigint | string, UnderWay>()

  /** The order as it was when its sync began; null where none is under way, or its lease is over and others may have it. */
  function find(key: OrderKey): Order | null {
    const found = byKey.get('id' in key ? key.id : key.businessNo)
    return found === undefined || found.leaseEndMs <= monotonicMs() ? null : found.order
  }

  /** From now on, until what comes back is called. `leaseEndMs` by the same clock. */
  function begin(order: Order, leaseEndMs: number): () => void {
    const started = { order, leaseEndMs }
    const keys = [order.id, order.businessNo]
    for (const key of keys) byKey.set(key, started)
    return () => {
      // After its lease another one may have begun.
      for (const key of keys) if (byKey.get(key) === started) byKey.delete(key)
    }
  }

  return { find, begin }
}
