import { PERSONAL_NAMES } from '../log.js'
import type { Exchange } from './gateway.js'

/** A record keeps at most this much of an answer, in characters. */
const BODY_LENGTH_MAX = 4096
/** Of something that is neither JSON nor XML (a proxy's page, say), its beginning is enough. */
const FOREIGN_LENGTH_MAX = 200

/** People: who paid. Three characters are enough to compare two records by. */
const PERSONAL = PERSONAL_NAMES.join('|')
/** Secrets and proofs: nothing of them. */
const SECRET = 'sign|signature|key|nonce_str|ciphertext|alipay_cert_sn'

/** A member's value, in quotes or bare (an id may come as a number), as far as it goes: the text may be cut anywhere. */
const JSON_VALUE = `"(?:[^"\\\\]|\\\\.)*"?|[^\\s,}\\]]+`
const XML_OPENING = `\\s*(?:<!\\[CDATA\\[)?`
const PERSONAL_JSON = new RegExp(`("(?:${PERSONAL})"\\s*:\\s*)(${JSON_VALUE})`, 'g')
const PERSONAL_XML = new RegExp(`(<(?:${PERSONAL})>${XML_OPENING})([^<\\]]*)`, 'g')
const SECRET_JSON = new RegExp(`("(?:${SECRET})"\\s*:\\s*)(${JSON_VALUE})`, 'g')
const SECRET_XML = new RegExp(`(<(?:${SECRET})>${XML_OPENING})[^<\\]]*`, 'g')

/** An answer's text as it may be stored and logged: no secret, nobody's id in full, bounded. */
export function maskBody(text: string): string {
  // Whatever kind of text it is, it is masked: a proxy may have wrapped an answer into a page of its own.
  const isAnswer = /^\s*(?:[{[]|(?:<\?xml[^>]*\?>\s*)?<xml[\s>])/.test(text)
  const bodyLengthMax = isAnswer ? BODY_LENGTH_MAX : FOREIGN_LENGTH_MAX
  return text
    .slice(0, bodyLengthMax)
    .replace(PERSONAL_JSON, (_, name: string, value: string) => `${name}${maskedJson(value)}`)
    .replace(PERSONAL_XML, (_, name: string, value: string) => `${name}${masked(value)}`)
    .replace(SECRET_JSON, '$1"***"')
    .replace(SECRET_XML, '$1***')
    .slice(0, bodyLengthMax)
}

function maskedJson(value: string): string {
  if (value === 'null') return value
  return `"${masked(value.replace(/^"|"$/g, ''))}"`
}

function masked(value: string): string {
  return value === '' ? '' : `${value.slice(0, 3)}***`
}

/** One exchange as it goes into the record. The query string goes with the path; it holds merchant numbers only. */
export function exchangeOf(
  { method, host, path }: Readonly<{ method: 'GET' | 'POST'; host: string; path: string }>,
  outcome: Readonly<{ status: number | null; durationMs: number; body: string }>,
): Exchange {
  return {
    method,
    host,
    path: path.slice(0, 300),
    status: outcome.status,
    durationMs: Math.round(outcome.durationMs),
    body: maskBody(outcome.body),
  }
}
