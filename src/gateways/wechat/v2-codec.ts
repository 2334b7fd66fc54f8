import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

import { XMLParser, XMLValidator } from 'fast-xml-parser'

/** How requests and answers are signed (WeChat Pay APIv2, "signature algorithm"). */
export type V2SignType = 'MD5' | 'HMAC-SHA256'

/** The members of a message, by name. */
export type V2Fields = ReadonlyMap<string, string>

/** Real answers have some thirty members; a body with more is not one. */
const MEMBERS_MAX = 200

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Entities stay off: `&lt;` is four characters here, so that no text can turn into another after it was signed. */
const PARSER = new XMLParser({
  preserveOrder: true,
  processEntities: false,
  parseTagValue: false,
  trimValues: false,
  ignoreAttributes: false,
  ignoreDeclaration: true,
  cdataPropName: '#cdata',
  commentPropName: '#comment',
})

type Node = Readonly<Record<string, unknown>>

/** The signature over all fields that are not empty, but `sign`: upper-case hex. The HMAC's key is the API key too. */
export function signatureV2(fields: V2Fields, apiKey: string, type: V2SignType): string {
  const parts: string[] = []
  for (const [name, value] of [...fields].sort(([one], [other]) => (one < other ? -1 : 1))) {
    if (name !== 'sign' && value !== '') parts.push(`${name}=${value}`)
  }
  const text = [...parts, `key=${apiKey}`].join('&')
  const hash = type === 'MD5' ? createHash('md5') : createHmac('sha256', apiKey)
  return hash.update(text, 'utf8').digest('hex').toUpperCase()
}

/**
 * Whether these fields carry their own signature. The type is the one that we asked for, never one that the answer names:
 * answers signed by HMAC carry no `sign_type`, and an answer must not choose how it is checked.
 */
export function isSignedV2(fields: V2Fields, apiKey: string, type: V2SignType): boolean {
  const given = Buffer.from(fields.get('sign') ?? '', 'utf8')
  const expected = Buffer.from(signatureV2(fields, apiKey, type), 'utf8')
  return given.length === expected.length && timingSafeEqual(given, expected)
}

/** The members that decide anything, as they begin within the signed text. */
const DECISIVE =
  /&(?:appid|fee_type|mch_id|sub_mch_id|out_trade_no|transaction_id|total_fee|return_code|result_code|err_code|time_end|trade_state)=/
/** Those that an answer may do without. */
const DISPENSABLE = ['fee_type', 'transaction_id', 'time_end'] as const

/**
 * Whether the text that was signed can be these members only. Values are not escaped in it, so that a customer's text
 * (`attach` above all) that reads `…&trade_state=SUCCESS&z=` could be cut out of a genuine answer as members of its own,
 * the true ones hidden in `z`. Whoever does that has to hide a decisive member in some value. `attach` itself comes before
 * all of them and may say what it likes, as long as what it says is not missing behind it: a member that is hidden in it
 * would be.
 */
export function isUnambiguousV2(fields: V2Fields): boolean {
  return [...fields].every(([name, value]) =>
    name === 'attach'
      ? DISPENSABLE.every((member) => fields.has(member) || !value.includes(`&${member}=`))
      : !DECISIVE.test(value),
  )
}

/** A request's body. Values are ours or the merchant's order numbers; markup in them is escaped all the same. */
export function writeXml(fields: V2Fields): string {
  const members = [...fields].map(([name, value]) => `<${name}>${escaped(value)}</${name}>`)
  return `<xml>${members.join('')}</xml>`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/**
 * The members of `<xml>…</xml>`: one level, each once, text only. Null for anything else (a DOCTYPE, nesting, attributes,
 * a name twice, invalid UTF-8): two readers of such a body may see two different answers, so we see none.
 */
export function parseXml(bytes: Uint8Array): V2Fields | null {
  try {
    const text = UTF8.decode(bytes)
    if (text.includes('<!DOCTYPE') || XMLValidator.validate(text) !== true) return null
    return fieldsOf(PARSER.parse(text) as readonly Node[])
  } catch {
    // The parser and the decoder throw on what they refuse. Why is of no use: unreadable bytes prove nothing.
    return null
  }
}

function fieldsOf(document: readonly Node[]): V2Fields | null {
  const [root, ...others] = document.filter((node) => !isBlank(node))
  if (root === undefined || others.length > 0 || !isPlain(root)) return null
  const members = root['xml']
  if (!Array.isArray(members)) return null
  const fields = new Map<string, string>()
  for (const member of members as readonly Node[]) {
    if (isBlank(member)) continue
    const [name = ''] = Object.keys(member)
    const value = isPlain(member) ? textOf(member[name]) : null
    if (value === null || fields.has(name) || fields.size === MEMBERS_MAX) return null
    fields.set(name, value)
  }
  return fields
}

/** Line breaks between the members. */
function isBlank(node: Node): boolean {
  const text = node['#text']
  return typeof text === 'string' && text.trim() === ''
}

/** One element without attributes; `#` begins what is not an element. */
function isPlain(node: Node): boolean {
  const names = Object.keys(node)
  return names.length === 1 && names[0]?.startsWith('#') === false
}

/** The text of an element that has nothing but text or one CDATA section; null where it has more. */
function textOf(content: unknown): string | null {
  if (!Array.isArray(content) || content.length > 1) return null
  const [only] = content as readonly Node[]
  if (only === undefined) return ''
  if (typeof only['#text'] === 'string') return only['#text']
  return '#cdata' in only ? textOf(only['#cdata']) : null
}
