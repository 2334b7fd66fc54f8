import { hasPassed } from '../../elapsed.js'
import type { Minute, Overview } from '../../store/overview.js'
import { type Language, wordOf } from './words.js'

const MINUTE_MS = 60_000
/** The records are read in spans of this many minutes: half a million of them in 3 hours are too many for one query. */
const SPAN_MINUTES = 15
const SPAN_MS = SPAN_MINUTES * MINUTE_MS
const SHOWN_MS = 180 * MINUTE_MS
/** All who look at once share one reading; nobody needs it fresher. */
const FRESH_MS = 10_000
/** One reading ends after this, the newest spans first; the next one goes on where it ended. */
const READING_MS_MAX = 1_000
/** A record is written with the time at which its statement began, which ends within 6 s: past this, a span stays as it is. */
const SETTLED_MS = 15_000

const CURVES = {
  syncs: [['', (minute: Minute) => minute.syncs]],
  repairs: [['', (minute: Minute) => minute.repairs]],
  latency: [
    ['p50', (minute: Minute) => minute.medianMs],
    ['p95', (minute: Minute) => minute.p95Ms],
  ],
  failures: [['', (minute: Minute) => minute.failures]],
} as const satisfies Record<string, readonly (readonly [string, (minute: Minute) => number | null])[]>

type CurveName = keyof typeof CURVES

/** `hue`: one for each channel; `isDashed`: its higher one of two lines. */
type Series = Readonly<{ label: string; hue: number; isDashed: boolean; values: readonly (number | null)[] }>
export type CurvesView = Readonly<{
  /** Seconds since 1970, one per minute; the minute that is not over yet is left out. */
  minutes: readonly number[]
  curves: Readonly<Record<CurveName, Readonly<{ series: readonly Series[] }>>>
}>

/** The last 3 hours, minute by minute and channel by channel, from the sync records. */
export function createCurves(overview: Pick<Overview, 'minutes'>, now: () => number) {
  /** By the start of the span. What is over is read once. */
  const spans = new Map<number, readonly Minute[]>()
  let reading: { atMs: number; done: Promise<void> } | null = null

  async function read(nowMs: number): Promise<void> {
    const startedMs = performance.now()
    for (const start of spans.keys()) if (start < nowMs - SHOWN_MS - SPAN_MS) spans.delete(start)
    for (let start = floor(nowMs, SPAN_MS); start > nowMs - SHOWN_MS - SPAN_MS; start -= SPAN_MS) {
      const isSettled = start + SPAN_MS + SETTLED_MS < nowMs
      if (isSettled && spans.has(start)) continue
      if (performance.now() - startedMs > READING_MS_MAX) return
      const rows = await overview.minutes(new Date(start), new Date(start + SPAN_MS))
      spans.set(start, rows)
    }
  }

  /** Whoever comes while one reads waits for that one. */
  async function refresh(): Promise<void> {
    if (reading === null || hasPassed(FRESH_MS, reading.atMs, now())) {
      const mine = { atMs: now(), done: read(now()) }
      reading = mine
      // A failed reading is nobody's later answer.
      mine.done.catch(() => {
        if (reading === mine) reading = null
      })
    }
    await reading.done
  }

  return async (language: Language): Promise<CurvesView> => {
    await refresh()
    const end = floor(now(), MINUTE_MS)
    const minutes = Array.from({ length: SHOWN_MS / MINUTE_MS }, (_, index) => end - SHOWN_MS + index * MINUTE_MS)
    const rows = [...spans.values()].flat()
    const channels = [...new Set(rows.map(({ channel }) => channel))].toSorted((a, b) =>
      (a ?? '').localeCompare(b ?? ''),
    )
    const byKey = new Map(rows.map((row) => [`${row.minute.getTime()} ${row.channel ?? ''}`, row]))
    const valueAt = (atMs: number, channel: string | null, name: CurveName, of: (minute: Minute) => number | null) => {
      const row = byKey.get(`${atMs} ${channel ?? ''}`)
      if (row !== undefined) return of(row)
      // No sync in a minute that was read means none were made; of the gateway's time it tells nothing.
      return name === 'latency' || !spans.has(floor(atMs, SPAN_MS)) ? null : 0
    }
    const curve = (name: CurveName) => ({
      series: channels.flatMap((channel, hue) =>
        CURVES[name].map(([suffix, of], index) => ({
          label: `${wordOf(language, channel ?? 'no_channel')} ${suffix}`.trim(),
          hue,
          isDashed: index > 0,
          values: minutes.map((atMs) => valueAt(atMs, channel, name, of)),
        })),
      ),
    })
    return {
      minutes: minutes.map((atMs) => atMs / 1000),
      curves: {
        syncs: curve('syncs'),
        repairs: curve('repairs'),
        latency: curve('latency'),
        failures: curve('failures'),
      },
    }
  }
}

function floor(atMs: number, stepMs: number): number {
  return Math.floor(atMs / stepMs) * stepMs
}
