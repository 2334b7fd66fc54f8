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
    const value = JSON.parse(text) as unknown
    // Of a name that stands twice in one object, JSON.parse keeps one member: then there are fewer than colons.
    return membersOf(value, DEPTH_MAX) === colonsIn(text) ? value : undefined
  } catch {
    // The reason is of no use to anyone: what cannot be read proves nothing, and the record has the body.
    return undefined
  }
}

/** The members of all objects in `value`; NaN where it nests deeper than `depthLeft`. */
function membersOf(value: unknown, depthLeft: number): number {
  if (typeof value !== 'object' || value === null) return 0
  if (depthLeft === 0) return Number.NaN
  const inner = Object.values(value) as unknown[]
  return inner.reduce<number>(
    (count, each) => count + membersOf(each, depthLeft - 1),
    Array.isArray(value) ? 0 : inner.length,
  )
}

const QUOTE = 0x22
const COLON = 0x3a
const BACKSLASH = 0x5c

/** The colons of a valid JSON text that are in no string: one for each member. */
function colonsIn(text: string): number {
  let count = 0
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at)
    if (character === COLON) count += 1
    else if (character === QUOTE) at = stringEnd(text, at)
  }
  return count
}

/** Where the string that begins at `start` has its closing quote. */
function stringEnd(text: string, start: number): number {
  let at = start + 1
  for (let character = text.charCodeAt(at); character !== QUOTE && at < text.length; character = text.charCodeAt(at))
    at += character === BACKSLASH ? 2 : 1
  return at
}
