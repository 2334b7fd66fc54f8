/** At 300 s the gateway refuses our requests and we its answers; a network's delay stays far below this. Milliseconds. */
const OFF_MS = 240_000

/**
 * A sentence for people where the answer's Date shows that our clock is off; else empty. Nobody vouches for that header,
 * so it explains a refusal and decides nothing.
 */
export function clockHint(dateHeader: string | undefined, nowMs: number): string {
  const theirsMs = dateHeader === undefined ? Number.NaN : Date.parse(dateHeader)
  const offMs = theirsMs - nowMs
  if (!(Math.abs(offMs) >= OFF_MS)) return ''
  return `（本机时钟(clock)与支付网关相差约${Math.round(offMs / 1000)}秒，请校准）`
}
