import { randomBytes } from 'node:crypto'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const LENGTH = 12
/** The largest multiple of 62 in a byte: bytes from here on would favour the first letters. */
const FAIR_BELOW = 248

/** 12 characters of [0-9A-Za-z] (CONTRACT: traceId), new for each request. */
export function newTraceId(): string {
  let id = ''
  while (id.length < LENGTH) {
    for (const byte of randomBytes(LENGTH + 4)) {
      if (byte < FAIR_BELOW && id.length < LENGTH) id += ALPHABET[byte % 62]
    }
  }
  return id
}
