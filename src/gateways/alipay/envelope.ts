import { isUtf8 } from 'node:buffer'

/** The parts of an answer, as they stand in its bytes. Nothing of it is verified. */
export type Envelope = Readonly<{
  /** The exact bytes of the response node's value: what the signature is over. Null where the answer has none. */
  node: Buffer | null
  /** `error_response`: what Alipay says in place of the method's own node. */
  errorNode: Buffer | null
  sign: string | null
  certSn: string | null
}>

/** Real answers have two or three members. */
const MEMBERS_MAX = 16
const ERROR_NAME = 'error_response'

/**
 * Takes an answer apart without parsing the node. Re-serialising would break its signature (slashes arrive as `\/`), and
 * a reader of the whole body could see another node than the one that was signed. So only one form is known: one object,
 * one node in it, every name once in whatever spelling, in any order. Other members may come but must not be objects or
 * lists; nobody reads them. Undefined for everything else.
 */
export function scanEnvelope(body: Buffer, responseName: string): Envelope | undefined {
  const members = membersOf(body)
  if (members === undefined) return undefined
  const node = members.get(responseName) ?? null
  const errorNode = members.get(ERROR_NAME) ?? null
  if (node !== null && errorNode !== null) return undefined
  for (const [name, value] of members) {
    const isNode = name === responseName || name === ERROR_NAME
    if (isNode !== (value[0] === OBJECT)) return undefined
    if (value[0] === LIST) return undefined
  }
  return { node, errorNode, sign: textOf(members.get('sign')), certSn: textOf(members.get('alipay_cert_sn')) }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const COMMA = 0x2c
const OBJECT = 0x7b
const OBJECT_END = 0x7d
const LIST = 0x5b
const LIST_END = 0x5d
const SPACE = new Set([0x20, 0x09, 0x0a, 0x0d])
/** What comes after a value that is neither quoted nor bracketed; undefined: the body's end. */
const ENDS_BARE = new Set<number | undefined>([COMMA, OBJECT_END, ...SPACE, undefined])
/** A number, true, false or null. */
const BARE = /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)$/

/** The members of the one object that the body must be, as raw bytes by name. */
function membersOf(body: Buffer): ReadonlyMap<string, Buffer> | undefined {
  if (!isUtf8(body)) return undefined
  const members = new Map<string, Buffer>()
  let at = skipSpace(body, 0)
  if (body[at] !== OBJECT) return undefined
  do {
    const nameStart = skipSpace(body, at + 1)
    const nameEnd = stringEnd(body, nameStart)
    const name = textOf(body.subarray(nameStart, nameEnd))
    // A name given twice is a forger's tool: which of the two counts depends on the reader.
    if (nameEnd === undefined || name === null || members.has(name) || members.size === MEMBERS_MAX) return undefined
    const colonAt = skipSpace(body, nameEnd)
    if (body[colonAt] !== COLON) return undefined
    const valueStart = skipSpace(body, colonAt + 1)
    const valueEnd = valueEndOf(body, valueStart)
    if (valueEnd === undefined) return undefined
    members.set(name, body.subarray(valueStart, valueEnd))
    at = skipSpace(body, valueEnd)
  } while (body[at] === COMMA)
  return body[at] === OBJECT_END && skipSpace(body, at + 1) === body.length ? members : undefined
}

function skipSpace(body: Buffer, from: number): number {
  let at = from
  while (SPACE.has(body[at] ?? QUOTE)) at += 1
  return at
}

/** Just past the closing quote of the string that begins at `start`. */
function stringEnd(body: Buffer, start: number): number | undefined {
  if (body[start] !== QUOTE) return undefined
  for (let at = start + 1; at < body.length; at += 1) {
    if (body[at] === QUOTE) return at + 1
    if (body[at] === BACKSLASH) at += 1
  }
  return undefined
}

function valueEndOf(body: Buffer, start: number): number | undefined {
  if (body[start] === QUOTE) return stringEnd(body, start)
  return body[start] === OBJECT || body[start] === LIST ? bracketsEnd(body, start) : bareEnd(body, start)
}

/** Where the bracket that opens at `start` is closed. What is inside is parsed later, once it has been verified. */
function bracketsEnd(body: Buffer, start: number): number | undefined {
  let depth = 0
  let at = start
  while (at < body.length) {
    const byte = body[at]
    if (byte === QUOTE) {
      const end = stringEnd(body, at)
      if (end === undefined) return undefined
      at = end
      continue
    }
    at += 1
    if (byte === OBJECT || byte === LIST) depth += 1
    else if (byte === OBJECT_END || byte === LIST_END) depth -= 1
    if (depth === 0) return at
  }
  return undefined
}

function bareEnd(body: Buffer, start: number): number | undefined {
  let at = start
  while (!ENDS_BARE.has(body[at])) at += 1
  return BARE.test(body.toString('latin1', start, at)) ? at : undefined
}

/** The text of a JSON string; null where the bytes are none. */
function textOf(raw: Buffer | undefined): string | null {
  if (raw === undefined || raw[0] !== QUOTE) return null
  try {
    // Decoded, since "sign" and "s\u0069gn" are one name.
    return JSON.parse(raw.toString('utf8')) as string
  } catch {
    // An escape or a control character that no JSON string has: the member has no value that anyone may act on.
    return null
  }
}
