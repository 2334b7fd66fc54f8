import { hasPassed } from '../elapsed.js'
import type { Log } from '../log.js'

/** At 300 s WeChat Pay refuses our requests and we its answers; a network's delay stays far below this. Milliseconds. */
const OFF_MS = 240_000
/** From here on a clock is worth a warning. */
const SKEW_WARN_S = 60
/** A wrong clock is told with every answer; a line a minute is enough. */
const WARN_EVERY_MS = 60_000

/**
 * How far our clock is ahead of an answer's Date; null where that cannot be read. Nobody vouches for the header: it
 * explains and warns, and decides nothing. Seconds.
 */
export function skewOf(dateHeader: string | undefined, nowMs: number): number | null {
  const theirsMs = dateHeader === undefined ? Number.NaN : Date.parse(dateHeader)
  return Number.isNaN(theirsMs) ? null : Math.round((nowMs - theirsMs) / 1000)
}

/** A sentence for people where the answer's Date shows that our clock is off; else empty. */
export function clockHint(dateHeader: string | undefined, nowMs: number): string {
  const skewS = skewOf(dateHeader, nowMs)
  if (skewS === null || Math.abs(skewS) * 1000 < OFF_MS) return ''
  return `（本机时钟(clock)与支付网关相差约${-skewS}秒，请校准）`
}

/** Told how far our clock is ahead of the gateway's (`skewS`), it warns of a clock that is off by a minute or more. */
export function createClockWatch(channel: string, { log, now }: Readonly<{ log: Log; now: () => number }>) {
  let warnedAtMs = Number.NEGATIVE_INFINITY
  return (skewS: number): void => {
    const nowMs = now()
    if (Math.abs(skewS) < SKEW_WARN_S || !hasPassed(WARN_EVERY_MS, warnedAtMs, nowMs)) return
    warnedAtMs = nowMs
    log.warn({ event: 'clock_skew', channel, skewS })
  }
}

export type ClockWatch = ReturnType<typeof createClockWatch>
