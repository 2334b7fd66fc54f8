/**
 * Whether `ms` have passed since `sinceMs`, by a clock that people may set. Where it was set back behind `sinceMs` they
 * have: nobody knows, and a pause must not last as long as the clock was off.
 */
export function hasPassed(ms: number, sinceMs: number, nowMs: number): boolean {
  return nowMs < sinceMs || nowMs - sinceMs >= ms
}
