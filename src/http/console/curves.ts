import type { Minute, Overview } from '../../store/overview.js'
import { type Language, wordOf } from './words.js'

const SPAN_MINUTES = 180
const MINUTE_MS = 60_000
/** All who look at once share one query; nobody needs it fresher. */
const FRESH_MS = 10_000

const CURVES = {
  syncs: [['', (minute: Minute) => minute.syncs]],
  repairs: [['', (minute: Minute) => minute.repairs]],
  latency: [
    ['p50', (minute: Minute) => minute.medianMs],
    ['p95', (minute: Minute) => minute.p95Ms],
  ],
  failures: [['', (minute: Minute) => minute.failures]],
} as const satisfies Record<string, readonly (readonly [string, (minute: Minute) => number])[]>

type Series = Readonly<{ label: string; values: readonly (number | null)[] }>
export type CurvesView = Readonly<{
  /** Seconds since 1970, one per minute. */
  minutes: readonly number[]
  curves: Readonly<Record<keyof typeof CURVES, Readonly<{ series: readonly Series[]; isSparse: boolean }>>>
}>

/** The last 3 hours, minute by minute and channel by channel, from the sync records. */
export function createCurves(overview: Overview, now: () => number) {
  let known: { atMs: number; minutes: Promise<readonly Minute[]> } | null = null

  function read(): Promise<readonly Minute[]> {
    if (known !== null && now() - known.atMs < FRESH_MS) return known.minutes
    const reading = overview.minutes(new Date(startOf(now())))
    const mine = { atMs: now(), minutes: reading }
    known = mine
    // A failed reading is nobody's later answer.
    reading.catch(() => {
      if (known === mine) known = null
    })
    return reading
  }

  return async (language: Language): Promise<CurvesView> => {
    const rows = await read()
    const startS = startOf(now()) / 1000
    const minutes = Array.from({ length: SPAN_MINUTES + 1 }, (_, index) => startS + index * 60)
    const channels = [...new Set(rows.map(({ channel }) => channel))].toSorted((a, b) =>
      (a ?? '').localeCompare(b ?? ''),
    )
    const byKey = new Map(rows.map((row) => [`${row.minute.getTime() / 1000} ${row.channel ?? ''}`, row]))
    const curve = (name: keyof typeof CURVES) => ({
      isSparse: name === 'latency',
      series: channels.flatMap((channel) =>
        CURVES[name].map(([suffix, valueOf]) => ({
          label: `${wordOf(language, channel ?? '–')} ${suffix}`.trim(),
          values: minutes.map((minute) => {
            const row = byKey.get(`${minute} ${channel ?? ''}`)
            // No sync in a minute means none were made, but of their duration nothing is known.
            return row === undefined ? (name === 'latency' ? null : 0) : valueOf(row)
          }),
        })),
      ),
    })
    return {
      minutes,
      curves: {
        syncs: curve('syncs'),
        repairs: curve('repairs'),
        latency: curve('latency'),
        failures: curve('failures'),
      },
    }
  }
}

function startOf(nowMs: number): number {
  return Math.floor(nowMs / MINUTE_MS) * MINUTE_MS - SPAN_MINUTES * MINUTE_MS
}
