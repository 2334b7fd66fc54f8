import { isSignedBy, type SignType } from '../domain/sign.js'
import type { SyncPayBody } from './body.js'

export type MerchantSigning = Readonly<{ secrets: readonly string[]; type: SignType; required: boolean }>

/** True where the request may pass: signed by one of the secrets over one of its texts, or no signature is required. */
export function isVerified({ sign, signTexts }: SyncPayBody, signing: MerchantSigning): boolean {
  if (!signing.required) return true
  if (sign === null || sign === '') return false
  return signTexts.some((text) => isSignedBy(text, signing.secrets, signing.type, sign))
}
