// China has had one time zone and no summer time since 1991, so a fixed offset is exact.
const OFFSET_MS = 8 * 3600 * 1000

function shifted(ms: number): string {
  return new Date(ms + OFFSET_MS).toISOString()
}

/** `2024-03-15T06:47:19+08:00`, as in WeChat Pay APIv3. */
export function rfc3339(ms: number): string {
  return `${shifted(ms).slice(0, 19)}+08:00`
}

/** `2024-03-15 06:47:19`, as in Alipay's parameters and answers. */
export function spaced(ms: number): string {
  return shifted(ms).slice(0, 19).replace('T', ' ')
}

/** `20240315064719`, as in WeChat Pay APIv2 (time_end). */
export function compact(ms: number): string {
  return shifted(ms).slice(0, 19).replaceAll(/[-:T]/g, '')
}

/** Reads the `spaced` form; null where the text is anything else. */
export function parseSpaced(text: string): number | null {
  if (!/^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}$/.test(text)) {
    return null
  }
  const ms = Date.parse(`${text.replace(' ', 'T')}+08:00`)
  return Number.isNaN(ms) ? null : ms
}
