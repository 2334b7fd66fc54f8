/** A W3C traceparent as it came, if it is one (version 00); null else. */
export function traceparentOf(header: string | string[] | undefined): string | null {
  return typeof header === 'string' && /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/.test(header)
    ? header
    : null
}
