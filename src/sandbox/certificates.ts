import { createHash, type KeyObject, sign, X509Certificate } from 'node:crypto'
import { promisify } from 'node:util'

/** The parts of a distinguished name, from the most general to the most specific. */
export type DistinguishedName = readonly (readonly [part: 'C' | 'O' | 'OU' | 'CN', value: string])[]

export type CertificateRequest = Readonly<{
  subject: DistinguishedName
  issuer: DistinguishedName
  /** Upper-case hexadecimal, at most 40 digits. */
  serial: string
  publicKey: KeyObject
  issuerKey: KeyObject
  /** Milliseconds since 1970. */
  notBefore: number
  notAfter: number
  isAuthority: boolean
  /** A server's: it is then good for the loopback. */
  isServer?: boolean
}>

const signAsync = promisify<string, Buffer, KeyObject, Buffer>(sign)

// The little of ASN.1's DER that X.509 needs (ITU-T X.690): tag, length, content.
function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents)
  if (content.length < 0x80) {
    return Buffer.concat([Buffer.from([tag, content.length]), content])
  }
  const length = Buffer.alloc(4)
  length.writeUInt32BE(content.length)
  const short = length.subarray(length.findIndex((byte) => byte !== 0))
  return Buffer.concat([Buffer.from([tag, 0x80 | short.length]), short, content])
}

const sequence = (...items: readonly Buffer[]) => der(0x30, ...items)
const set = (...items: readonly Buffer[]) => der(0x31, ...items)
const octets = (content: Buffer) => der(0x04, content)
const bits = (content: Buffer) => der(0x03, Buffer.from([0]), content)
const utf8 = (text: string) => der(0x0c, Buffer.from(text))
const TRUE = der(0x01, Buffer.from([0xff]))
const NULL = der(0x05)

function integer(hex: string): Buffer {
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
  // A first bit of one would make it negative.
  return der(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes)
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const arc of rest) {
    const groups = [arc & 0x7f]
    for (let left = arc >>> 7; left > 0; left >>>= 7) {
      groups.unshift((left & 0x7f) | 0x80)
    }
    bytes.push(...groups)
  }
  return der(0x06, Buffer.from(bytes))
}

// RFC 5280: UTCTime until 2049, GeneralizedTime from then on.
function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')
  const isBefore2050 = new Date(ms).getUTCFullYear() < 2050
  return isBefore2050 ? der(0x17, Buffer.from(`${digits.slice(2)}Z`)) : der(0x18, Buffer.from(`${digits}Z`))
}

const NAME_OIDS = { C: '2.5.4.6', O: '2.5.4.10', OU: '2.5.4.11', CN: '2.5.4.3' } as const

function name(parts: DistinguishedName): Buffer {
  return sequence(...parts.map(([part, value]) => set(sequence(oid(NAME_OIDS[part]), utf8(value)))))
}

function extensions(request: CertificateRequest): Buffer {
  const list: Buffer[] = []
  if (request.isAuthority) {
    list.push(sequence(oid('2.5.29.19'), TRUE, octets(sequence(TRUE))))
  }
  if (request.isServer === true) {
    const names = [
      der(0x82, Buffer.from('localhost')),
      der(0x87, Buffer.from([127, 0, 0, 1])),
      der(0x87, Buffer.concat([Buffer.alloc(15), Buffer.from([1])])),
    ]
    list.push(sequence(oid('2.5.29.17'), octets(sequence(...names))))
  }
  return list.length === 0 ? Buffer.alloc(0) : der(0xa3, sequence(...list))
}

function algorithm(issuerKey: KeyObject): Buffer {
  return issuerKey.asymmetricKeyType === 'rsa'
    ? sequence(oid('1.2.840.113549.1.1.11'), NULL)
    : sequence(oid('1.2.840.10045.4.3.2'))
}

/** An X.509 v3 certificate, PEM; signed with SHA-256 by the issuer's key (RSA or EC). */
export async function issueCertificate(request: CertificateRequest): Promise<string> {
  const signed = sequence(
    der(0xa0, integer('02')),
    integer(request.serial),
    algorithm(request.issuerKey),
    name(request.issuer),
    sequence(time(request.notBefore), time(request.notAfter)),
    name(request.subject),
    request.publicKey.export({ type: 'spki', format: 'der' }),
    extensions(request),
  )
  const signature = await signAsync('SHA256', signed, request.issuerKey)
  const bytes = sequence(signed, algorithm(request.issuerKey), bits(signature))
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

/** Alipay's "SN" of a certificate: MD5 over the issuer, most specific part first, and the decimal serial number. */
export function certificateNumber(pem: string): string {
  const certificate = new X509Certificate(pem)
  const issuer = certificate.issuer.split('\n').reverse().join(',')
  return createHash('md5')
    .update(issuer + BigInt(`0x${certificate.serialNumber}`).toString())
    .digest('hex')
}

function hasRsaKey(pem: string): boolean {
  try {
    return new X509Certificate(pem).publicKey.asymmetricKeyType === 'rsa'
  } catch {
    // A curve that this OpenSSL does not know is at any rate not RSA.
    return false
  }
}

/** Alipay's "SN" of a root file: those of its RSA certificates (each signed by itself), joined. */
export function rootCertificateNumber(pems: string): string {
  const each = pems.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return each.filter(hasRsaKey).map(certificateNumber).join('_')
}
