import { type KeyObject, randomBytes, sign, verify } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { promisify } from 'node:util'

import { signatureBytes } from '../signature-bytes.js'

const signAsync = promisify(sign)

const SCHEME = 'WECHATPAY2-SHA256-RSA2048'
/** WeChat Pay APIv3: an answer is good for 5 minutes around its timestamp. */
const TIMESTAMP_SKEW_S_MAX = 300

export type MerchantKey = Readonly<{ mchId: string; serial: string; privateKey: KeyObject }>

/** What to sign: the path with its query exactly as it is sent. */
export type SignedRequest = Readonly<{ method: 'GET' | 'POST'; pathAndQuery: string; body: string }>

/** The Authorization header (WeChat Pay APIv3, build signature). RSA runs on the thread pool: it costs half a millisecond. */
export async function authorize(request: SignedRequest, key: MerchantKey, nowMs: number): Promise<string> {
  const timestamp = Math.floor(nowMs / 1000).toString()
  const nonce = randomBytes(16).toString('hex')
  const message = `${request.method}\n${request.pathAndQuery}\n${timestamp}\n${nonce}\n${request.body}\n`
  const signature = (await signAsync('sha256', Buffer.from(message), key.privateKey)).toString('base64')
  return `${SCHEME} mchid="${key.mchId}",nonce_str="${nonce}",signature="${signature}",timestamp="${timestamp}",serial_no="${key.serial}"`
}

export type Verdict =
  | Readonly<{ kind: 'verified'; skewS: number }>
  | Readonly<{ kind: 'untrusted'; reason: 'unsigned' | 'stale' | 'bad_signature' }>
  | Readonly<{ kind: 'untrusted'; reason: 'unknown_serial'; serial: string }>

/**
 * Is this answer WeChat's, and fresh? Over the raw bytes, before anything is read from them. An unknown serial fails
 * closed, and so do the probes that WeChat sends with WECHATPAY/SIGNTEST/ in front of the signature.
 */
export function verifyAnswer(
  headers: Readonly<IncomingHttpHeaders>,
  body: Buffer,
  keys: ReadonlyMap<string, KeyObject>,
  nowMs: number,
): Verdict {
  const timestamp = headers['wechatpay-timestamp']
  const nonce = headers['wechatpay-nonce']
  const signature = headers['wechatpay-signature']
  const serial = headers['wechatpay-serial']
  if (
    typeof timestamp !== 'string' ||
    typeof nonce !== 'string' ||
    typeof signature !== 'string' ||
    typeof serial !== 'string'
  ) {
    return { kind: 'untrusted', reason: 'unsigned' }
  }
  const key = keys.get(serial)
  if (key === undefined) return { kind: 'untrusted', reason: 'unknown_serial', serial }
  const bytes = signatureBytes(signature, key)
  if (bytes === null || !/^\d{1,12}$/.test(timestamp)) return { kind: 'untrusted', reason: 'bad_signature' }
  const message = Buffer.concat([Buffer.from(`${timestamp}\n${nonce}\n`), body, Buffer.from('\n')])
  if (!verify('sha256', message, key, bytes)) return { kind: 'untrusted', reason: 'bad_signature' }
  // Only a genuine timestamp says anything about the clocks.
  const skewS = Math.round(nowMs / 1000) - Number(timestamp)
  return Math.abs(skewS) <= TIMESTAMP_SKEW_S_MAX ? { kind: 'verified', skewS } : { kind: 'untrusted', reason: 'stale' }
}
