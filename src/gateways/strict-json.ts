/** Real answers nest four deep; anything far beyond is made to hurt a reader. */
const DEPTH_MAX = 16

// A byte order mark is kept, so that JSON.parse refuses it: it stands in no answer of either gateway.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * JSON from verified bytes. Undefined for what is not UTF-8, not JSON, nested beyond reason, or names a member twice in
 * one object: whoever reads it first must not see another answer than whoever reads it last.
 */
export function parseStrictJson(bytes: Buffer): unknown {
  try {
    const text = UTF8.decode(bytes)
    const names = namesIn(text)
    if (names === null) return undefined
    const value = JSON.parse(text) as unknown
    // Of a name that stands twice in one object, JSON.parse keeps one member: then there are fewer members than names.
    return membersOf(value) === names ? value : undefined
  } catch {
    // The reason is of no use to anyone: what cannot be read proves nothing, and the record has the body.
    return undefined
  }
}

const QUOTE = 0x22
const COLON = 0x3a
const BACKSLASH = 0x5c
/** Square brackets differ from braces in one bit. */
const BRACE_BIT = 0x20
const OPENING = 0x7b
const CLOSING = 0x7d

/**
 * How often a JSON text names a member: once for each colon that is in no string. Null where it nests too deeply, of any
 * text; of what is no JSON the number means nothing, and JSON.parse refuses it.
 */
function namesIn(text: string): number | null {
  let count = 0
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at)
    if (character === QUOTE) at = stringEnd(text, at)
    else if (character === COLON) count += 1
    else if ((character | BRACE_BIT) === OPENING) depth += 1
    else if ((character | BRACE_BIT) === CLOSING) depth -= 1
    if (depth > DEPTH_MAX) return null
  }
  return count
}

/** Where the string that begins at `start` has its closing quote; past the text's end where it has none. */
function stringEnd(text: string, start: number): number {
  let at = start + 1
  while (at < text.length && text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1
  return at
}

/** The members of all objects in `value`, which nests within bounds. */
function membersOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const inner = Object.values(value) as unknown[]
  return inner.reduce<number>((count, each) => count + membersOf(each), Array.isArray(value) ? 0 : inner.length)
}
