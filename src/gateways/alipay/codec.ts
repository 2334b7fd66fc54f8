import { type KeyObject, sign, verify } from 'node:crypto'
import { promisify } from 'node:util'

import { signatureBytes } from '../signature-bytes.js'
import { scanEnvelope } from './envelope.js'

const signAsync = promisify(sign)

/** Alipay reads timestamps in China's time, which knows no summer time. */
const BEIJING_OFFSET_MS = 8 * 3_600_000

export type AppKey = Readonly<{
  appId: string
  privateKey: KeyObject
  /** Certificate mode: the serial numbers of our certificate and of Alipay's roots. Null in key mode. */
  certificates: Readonly<{ appCertSn: string; rootCertSn: string }> | null
}>

/** The form body of one call, signed (Alipay, RSA2). */
export async function formOf(
  method: string,
  bizContent: Readonly<Record<string, string>>,
  key: AppKey,
  nowMs: number,
): Promise<string> {
  const parameters: Record<string, string> = {
    app_id: key.appId,
    method,
    format: 'JSON',
    charset: 'utf-8',
    sign_type: 'RSA2',
    timestamp: new Date(nowMs + BEIJING_OFFSET_MS).toISOString().slice(0, 19).replace('T', ' '),
    version: '1.0',
    biz_content: JSON.stringify(bizContent),
  }
  if (key.certificates !== null) {
    parameters['app_cert_sn'] = key.certificates.appCertSn
    parameters['alipay_root_cert_sn'] = key.certificates.rootCertSn
  }
  const signature = await signAsync('sha256', Buffer.from(signingText(parameters), 'utf8'), key.privateKey)
  parameters['sign'] = signature.toString('base64')
  return new URLSearchParams(parameters).toString()
}

/** What a request is signed over: the sorted, raw (not URL-encoded), non-empty parameters without `sign`. */
export function signingText(parameters: Readonly<Record<string, string>>): string {
  return Object.entries(parameters)
    .filter(([name, value]) => name !== 'sign' && value !== '')
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
}

/** Keys that answers may be signed with. `certSn` is null in key mode, where answers name no certificate. */
export type AnswerKeys = readonly Readonly<{ certSn: string | null; key: KeyObject }>[]

export type Opened =
  | Readonly<{ kind: 'verified'; node: Buffer }>
  | Readonly<{
      kind: 'untrusted'
      reason: 'unreadable' | 'unsigned' | 'bad_signature' | 'rotated_certificate'
      /** What it says all the same; it may be heeded as advice ("slow down"), never as a state. */
      node: Buffer | null
      /** The certificate that it names. */
      certSn: string | null
    }>

/**
 * The response node's exact bytes, once the signature over them holds. An `error_response` counts as unsigned even where
 * it has a signature: Alipay gives it in place of an answer to the method that was called.
 */
export function openEnvelope(body: Buffer, responseName: string, keys: AnswerKeys): Opened {
  const envelope = scanEnvelope(body, responseName)
  if (envelope === undefined) return { kind: 'untrusted', reason: 'unreadable', node: null, certSn: null }
  const { node, errorNode, sign: signature, certSn } = envelope
  const untrusted = { kind: 'untrusted', node: node ?? errorNode, certSn } as const
  if (node === null || signature === null || signature === '') return { ...untrusted, reason: 'unsigned' }
  // An answer that names no certificate may be of any of ours; one that names another cannot be verified at all.
  const named = keys.filter((known) => known.certSn === null || certSn === null || known.certSn === certSn)
  if (named.length === 0) return { ...untrusted, reason: 'rotated_certificate' }
  const isGenuine = named.some(({ key }) => {
    const bytes = signatureBytes(signature, key)
    return bytes !== null && verify('sha256', node, key, bytes)
  })
  return isGenuine ? { kind: 'verified', node } : { ...untrusted, reason: 'bad_signature' }
}
