import { createHmac, hash, timingSafeEqual } from 'node:crypto'

/** CONTRACT: Signature. MD5 is what the merchants' SDK speaks; HMAC-SHA256 is its other choice. */
export const SIGN_TYPES = ['MD5', 'HMAC_SHA256'] as const
export type SignType = (typeof SIGN_TYPES)[number]

type Scalar = string | number | bigint | boolean
/** A field of a signed text. Null and undefined are left out; the empty string is kept. */
export type SignField = Scalar | readonly Readonly<Record<string, Scalar | null>>[] | null | undefined

/**
 * The text that is signed, without the secret: present fields but `sign`, sorted by name, `k=v` joined by `&`, with every
 * `"` and `\` deleted. A list stands as a JSON array of objects with sorted keys, string values and no nulls; an empty one
 * is left out.
 */
export function signText(fields: Readonly<Record<string, SignField>>): string {
  const parts: string[] = []
  for (const name of Object.keys(fields).sort()) {
    const value = fields[name]
    if (name === 'sign' || value === null || value === undefined) continue
    if (typeof value === 'object' && value.length === 0) continue
    parts.push(`${name}=${typeof value === 'object' ? listText(value) : String(value)}`)
  }
  return parts.join('&').replace(/["\\]/g, '')
}

function listText(list: readonly Readonly<Record<string, Scalar | null>>[]): string {
  const items = list.map((item) => {
    const present = Object.entries(item).filter(([, value]) => value !== null)
    return Object.fromEntries(
      present.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => [name, String(value)]),
    )
  })
  return JSON.stringify(items)
}

/** The signature over a text: lower-case hex. The secret is appended unfiltered, whatever characters it has. */
export function signatureOf(text: string, secret: string, type: SignType): string {
  const keyed = `${text}&key=${secret}`
  return type === 'MD5' ? hash('md5', keyed, 'hex') : createHmac('sha256', secret).update(keyed, 'utf8').digest('hex')
}

/** True where any of the secrets gives this signature. Each is compared, in constant time, whichever matches. */
export function isSignedBy(text: string, secrets: readonly string[], type: SignType, signature: string): boolean {
  const given = Buffer.from(signature, 'utf8')
  let matched = false
  for (const secret of secrets) {
    const expected = Buffer.from(signatureOf(text, secret, type), 'utf8')
    if (given.length === expected.length && timingSafeEqual(given, expected)) matched = true
  }
  return matched
}
