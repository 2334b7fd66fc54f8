/**
 * Characters that show nothing, or turn the text around them: controls, zero-width ones, marks of direction, tags. A title
 * with one of them looks like another title. Joiners count only after ASCII: scripts and emoji need them.
 */
const INVISIBLE =
  // oxlint-disable-next-line no-control-regex -- Controls are what is looked for.
  /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u00AD\u061C\u115F\u1160\u180E\u200B\u200E\u200F\u2028-\u202E\u2060-\u206F\u3164\uFEFF\uFFA0\uFFF9-\uFFFB\u{E0000}-\u{E007F}]|(?<=[\u0000-\u007F])[\u200C\u200D]/gu

/** The same text with what cannot be seen spelled out. */
export function visible(text: string): string {
  return text.replace(
    INVISIBLE,
    (one) => `⟨U+${one.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0') ?? ''}⟩`,
  )
}

/** The same text without it: a number that was pasted out of a chat. */
export function withoutInvisible(text: string): string {
  return text.replace(INVISIBLE, '').trim()
}
