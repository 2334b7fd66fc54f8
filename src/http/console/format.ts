import { yuanText } from '../../domain/money.js'
import { visible } from '../../domain/visible-text.js'
import type { Language } from './words.js'

const SHANGHAI_OFFSET_MS = 8 * 3_600_000

const UNITS = {
  en: { yuan: 'CNY', fen: 'fen', s: 's', min: 'min', h: 'h' },
  zh: { yuan: '元', fen: '分', s: '秒', min: '分钟', h: '小时' },
} as const satisfies Record<Language, object>

/** Yuan for a column whose head says so: `1,234.56`. */
export function yuanDigits(fen: bigint): string {
  return yuanText(fen).replace(/\B(?=(\d{3})+(?=\.))/g, ',')
}

/** Yuan for people: `1,234.56 CNY`. It does not break over lines. */
export function yuanFor(language: Language, fen: bigint, currency = 'CNY'): string {
  return `${yuanDigits(fen)}\u{A0}${currency === 'CNY' ? UNITS[language].yuan : currency}`
}

/** The fen that the records count in. */
export function fenFor(language: Language, fen: bigint): string {
  return `${fen.toString()}\u{A0}${UNITS[language].fen}`
}

/** Both, in one line. */
export function moneyFor(language: Language, fen: bigint, currency = 'CNY'): string {
  return `${yuanFor(language, fen, currency)} (${fenFor(language, fen)})`
}

/** A moment as both gateways' statements have it: Beijing time, to the second, and saying so. */
export function timeText(at: Date | null): string {
  if (at === null) return '–'
  return `${new Date(at.getTime() + SHANGHAI_OFFSET_MS).toISOString().slice(0, 19).replace('T', ' ')}\u{A0}+08`
}

/** A wait, in the largest unit that says enough. */
export function waitFor(language: Language, seconds: number): string {
  const unit = UNITS[language]
  if (seconds < 60) return `${seconds.toFixed(1)}\u{A0}${unit.s}`
  if (seconds < 3600) return `${(seconds / 60).toFixed(1)}\u{A0}${unit.min}`
  return `${(seconds / 3600).toFixed(1)}\u{A0}${unit.h}`
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

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** Any value as text of an HTML element or of a quoted attribute. */
export function escapeHtml(value: unknown): string {
  return visible(String(value)).replace(/[&<>"']/g, (one) => ENTITIES[one] ?? '')
}
