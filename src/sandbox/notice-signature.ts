import { createHash, createHmac } from 'node:crypto'
import { parse } from 'lossless-json'

export type NoticeSignType = 'MD5' | 'HMAC_SHA256'

// Numbers stay the text they were: a 19-digit id does not survive as a JavaScript number.
function parseLiterally(body: string): unknown {
  return parse(body, undefined, { parseNumber: (literal) => literal })
}

function entriesOf(value: object): [string, unknown][] {
  return Object.entries(value)
    .filter(([name, member]) => name !== 'sign' && member !== null)
    .sort(([left], [right]) => (left < right ? -1 : 1))
}

function nested(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map(nested).join(',')}]`
  }
  return typeof value === 'object' && value !== null
    ? `{${entriesOf(value)
        .map(([name, member]) => `${name}:${nested(member)}`)
        .join(',')}}`
    : String(value)
}

/**
 * What a notice is signed over, by CONTRACT.md, without the key: a merchant's own reading of the rule. Null where the
 * body is not a JSON object.
 */
export function noticeText(body: string): string | null {
  const notice = parseLiterally(body)
  if (typeof notice !== 'object' || notice === null || Array.isArray(notice)) {
    return null
  }
  return (
    entriesOf(notice)
      // An empty list is left out, as the SDK leaves it out.
      .filter(([, value]) => !Array.isArray(value) || value.length > 0)
      .map(([name, value]) => `${name}=${nested(value)}`)
      .join('&')
      .replaceAll(/["\\]/g, '')
  )
}

/** Lower-case hex over the text and the secret. */
export function noticeSignature(text: string, secret: string, type: NoticeSignType): string {
  const keyed = `${text}&key=${secret}`
  const hash = type === 'MD5' ? createHash('md5') : createHmac('sha256', secret)
  return hash.update(keyed, 'utf8').digest('hex')
}

export function isNoticeGenuine(body: string, secrets: readonly string[], type: NoticeSignType): boolean {
  try {
    const text = noticeText(body)
    const { sign } = JSON.parse(body) as { sign?: unknown }
    return text !== null && secrets.some((secret) => noticeSignature(text, secret, type) === sign)
  } catch {
    // Not JSON: nobody signed it.
    return false
  }
}
