import { type KeyObject, sign, verify } from 'node:crypto'
import { promisify } from 'node:util'

// The asynchronous form: an RSA signature is half a millisecond that the event loop can spend elsewhere.
const signAsync = promisify<string, Buffer, KeyObject, Buffer>(sign)

/** What a request is signed over: the raw, non-empty parameters but `sign`, sorted by name (Alipay, "signing"). */
export function requestText(parameters: ReadonlyMap<string, string>): string {
  return [...parameters]
    .filter(([name, value]) => name !== 'sign' && value !== '')
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
}

/** RSA2: Base64 RSASSA-PKCS1-v1_5 with SHA-256 over UTF-8. */
export async function signText(privateKey: KeyObject, text: string): Promise<string> {
  return (await signAsync('RSA-SHA256', Buffer.from(text), privateKey)).toString('base64')
}

export function verifyText(publicKey: KeyObject, text: string, signatureBase64: string): boolean {
  const signature = Buffer.from(signatureBase64, 'base64')
  return verify('RSA-SHA256', Buffer.from(text), publicKey, signature)
}

/** JSON as Alipay writes it: every slash escaped, which re-serialising undoes. */
export function serialise(node: object): string {
  return JSON.stringify(node).replaceAll('/', '\\/')
}
