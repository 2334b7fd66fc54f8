import { yuanText } from '../../domain/money.js'

const SHANGHAI_OFFSET_MS = 8 * 3_600_000

/** Money for people: yuan with its currency, and the fen it is counted in. A line may break between the two only. */
export function moneyText(fen: bigint, currency = 'CNY'): string {
  return `${yuanText(fen).replace(/\B(?=(\d{3})+(?=\.))/g, ',')}\u{A0}${currency} (${fen.toString()}\u{A0}fen)`
}

/** A moment as both gateways' statements have it: Beijing time, to the second. */
export function timeText(at: Date | null): string {
  if (at === null) return '–'
  return new Date(at.getTime() + SHANGHAI_OFFSET_MS).toISOString().slice(0, 19).replace('T', ' ')
}

/** A wait, in the largest unit that says enough; `seconds` may be null for "none". */
export function waitText(seconds: number | null): string {
  if (seconds === null) return '–'
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  if (seconds < 3600) return `${(seconds / 60).toFixed(1)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

/** A date and time of a form, which has no zone: Beijing time, as everything on the page. Undefined where it is none. */
export function timeFromForm(text: string): Date | undefined {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?$/.test(text)) return undefined
  const at = new Date(`${text}+08:00`)
  return Number.isNaN(at.getTime()) ? undefined : at
}

/** Stored JSON, indented for reading; an answer's body inside it is text and stays as it came. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, null, 2)
}
