import { createCipheriv, createHash, createHmac, type KeyObject, randomBytes, sign, verify } from 'node:crypto'
import { promisify } from 'node:util'

// The asynchronous form: an RSA signature is half a millisecond that the event loop can spend elsewhere.
const signAsync = promisify<string, Buffer, KeyObject, Buffer>(sign)

const SCHEME = 'WECHATPAY2-SHA256-RSA2048'
const AUTHORIZATION_FIELDS = ['mchid', 'nonce_str', 'signature', 'timestamp', 'serial_no'] as const
export type Authorization = Readonly<Record<(typeof AUTHORIZATION_FIELDS)[number], string>>

/** Base64 RSASSA-PKCS1-v1_5 with SHA-256, as in `WECHATPAY2-SHA256-RSA2048`. */
export async function signMessage(privateKey: KeyObject, message: Buffer): Promise<string> {
  return (await signAsync('RSA-SHA256', message, privateKey)).toString('base64')
}

export function verifyMessage(publicKey: KeyObject, message: Buffer, signatureBase64: string): boolean {
  const signature = Buffer.from(signatureBase64, 'base64')
  // Node decodes leniently; the real gateway takes canonical Base64 only.
  return signature.toString('base64') === signatureBase64 && verify('RSA-SHA256', message, publicKey, signature)
}

/** The fields of an Authorization header, in any order; null where the form is wrong or a field is missing or twice. */
export function parseAuthorization(header: string | undefined): Authorization | null {
  if (header === undefined || !header.startsWith(`${SCHEME} `)) {
    return null
  }
  const found = new Map<string, string>()
  for (const part of header.slice(SCHEME.length + 1).split(',')) {
    const match = /^\s*([a-z_]+)="([^"]*)"\s*$/.exec(part)
    const [, name, value] = match ?? []
    if (name === undefined || value === undefined || value === '' || found.has(name)) {
      return null
    }
    found.set(name, value)
  }
  if (!AUTHORIZATION_FIELDS.every((name) => found.has(name))) {
    return null
  }
  return Object.fromEntries(found) as Authorization
}

/** What a request is signed over (WeChat Pay APIv3, "signature generation"). `target`: path and query as sent. */
export function requestMessage(
  request: Readonly<{ method: string; target: string; body: Buffer }>,
  authorization: Pick<Authorization, 'timestamp' | 'nonce_str'>,
): Buffer {
  const head = `${request.method}\n${request.target}\n${authorization.timestamp}\n${authorization.nonce_str}\n`
  return Buffer.concat([Buffer.from(head), request.body, Buffer.from('\n')])
}

/** What an answer is signed over (WeChat Pay APIv3, "signature verification"). */
export function answerMessage(timestamp: string, nonce: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${timestamp}\n${nonce}\n`), body, Buffer.from('\n')])
}

export type EncryptedCertificate = Readonly<{
  algorithm: 'AEAD_AES_256_GCM'
  nonce: string
  associated_data: string
  ciphertext: string
}>

/** A platform certificate as `GET /v3/certificates` sends it: the tag is the last 16 bytes. */
export function encryptCertificate(
  apiV3Key: string,
  pem: string,
  nonce = randomBytes(6).toString('hex'),
): EncryptedCertificate {
  const associatedData = 'certificate'
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(apiV3Key), Buffer.from(nonce))
  cipher.setAAD(Buffer.from(associatedData))
  const sealed = Buffer.concat([cipher.update(pem, 'utf8'), cipher.final(), cipher.getAuthTag()])
  return {
    algorithm: 'AEAD_AES_256_GCM',
    nonce,
    associated_data: associatedData,
    ciphertext: sealed.toString('base64'),
  }
}

export type V2SignType = 'MD5' | 'HMAC-SHA256'

/** The APIv2 signature over all non-empty fields but `sign`; upper-case hex. */
export function signV2(fields: Readonly<Record<string, string>>, apiKey: string, type: V2SignType): string {
  const text = Object.keys(fields)
    .filter((name) => name !== 'sign' && fields[name] !== '')
    .sort()
    .map((name) => `${name}=${fields[name] ?? ''}&`)
    .join('')
  const hash = type === 'MD5' ? createHash('md5') : createHmac('sha256', apiKey)
  return hash.update(`${text}key=${apiKey}`, 'utf8').digest('hex').toUpperCase()
}
