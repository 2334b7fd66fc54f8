import type { KeyObject } from 'node:crypto'

/**
 * The bytes of a base64 RSA signature that this key can have made; null for anything else. Node's decoder skips what it
 * does not know and drops unused bits, so that many texts would stand for one signature: only the canonical one counts.
 */
export function signatureBytes(base64: string, key: KeyObject): Buffer | null {
  const length = Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8)
  // Looked at first: nothing longer than a signature is decoded at all.
  if (base64.length !== Math.ceil(length / 3) * 4) return null
  const bytes = Buffer.from(base64, 'base64')
  return bytes.length === length && bytes.toString('base64') === base64 ? bytes : null
}
