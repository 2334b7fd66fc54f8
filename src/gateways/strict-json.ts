import { parse } from 'lossless-json'

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * JSON from verified bytes. Undefined for what is not UTF-8, not JSON, nested too deeply, or names a key twice with two
 * values: whoever reads it first must not see another answer than whoever reads it last.
 */
export function parseStrictJson(bytes: Buffer): unknown {
  try {
    return parse(utf8.decode(bytes), undefined, { parseNumber: Number })
  } catch {
    // The reason is of no use to anyone: what cannot be read proves nothing, and the record has the body.
    return undefined
  }
}
