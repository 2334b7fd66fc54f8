import type { GatewayObserver } from '../../src/gateways/caller.js'

/** For gateways whose counts a test does not look at. */
export const SILENT_OBSERVER: GatewayObserver = {
  call: () => undefined,
  breaker: () => undefined,
  budgetWait: () => undefined,
  certificateEnds: () => undefined,
}
