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
    return isUnambiguous(text) ? (JSON.parse(text) as unknown) : undefined
  } catch {
    // The reason is of no use to anyone: what cannot be read proves nothing, and the record has the body.
    return undefined
  }
}

/** True of every JSON text within bounds that names no member twice. What is no JSON at all is JSON.parse's to refuse. */
function isUnambiguous(text: string): boolean {
  // One entry for each open bracket: the names seen in an object; null for a list.
  const open: (Set<string> | null)[] = []
  let at = 0
  while (at < text.length) {
    const character = text[at]
    if (character === '"') {
      const end = stringEnd(text, at)
      const names = open.at(-1)
      if (names instanceof Set && isName(text, end)) {
        // Parsed, since "a" and "\u0061" are one name.
        const name = JSON.parse(text.slice(at, end)) as string
        if (names.has(name)) return false
        names.add(name)
      }
      at = end
      continue
    }
    if (character === '{' || character === '[') {
      if (open.length === DEPTH_MAX) return false
      open.push(character === '{' ? new Set() : null)
    } else if (character === '}' || character === ']') open.pop()
    at += 1
  }
  return true
}

/** Just past the closing quote of the string that begins at `start`; past the text's end where it does not close. */
function stringEnd(text: string, start: number): number {
  let at = start + 1
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1
  return at + 1
}

/** Whether the string that ends before `end` names a member: a colon follows. */
function isName(text: string, end: number): boolean {
  let at = end
  while (' \t\r\n'.includes(text[at] ?? '?')) at += 1
  return text[at] === ':'
}
