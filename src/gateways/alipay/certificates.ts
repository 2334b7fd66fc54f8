import { createHash, type X509Certificate } from 'node:crypto'

/** 1.2.840.113549.1.1, the family of RSA signatures, as DER writes it. */
const RSA_SIGNATURES = Buffer.from('2a864886f70d0101', 'hex')

/**
 * Alipay's serial number of a certificate: MD5 over its issuer, most specific part first, and its decimal serial number
 * (Alipay, certificate mode).
 */
export function certificateSn(certificate: X509Certificate): string {
  const issuer = certificate.issuer.split('\n').reverse().join(',')
  const serial = BigInt(`0x${certificate.serialNumber}`).toString()
  return createHash('md5')
    .update(issuer + serial, 'utf8')
    .digest('hex')
}

/** Alipay's serial number of its root file: those of the certificates in it that are signed with RSA, joined by `_`. */
export function rootCertificateSn(certificates: readonly X509Certificate[]): string {
  return certificates.filter(isSignedWithRsa).map(certificateSn).join('_')
}

/**
 * Node tells a certificate's key but not its signature's algorithm; the key of a root that is not RSA may be of a curve
 * that this OpenSSL does not know. The algorithm stands right behind the signed part (RFC 5280): SEQUENCE { signed part,
 * SEQUENCE { OID … } … }.
 */
function isSignedWithRsa({ raw }: X509Certificate): boolean {
  const signed = contentOf(raw, 0).start
  const algorithm = contentOf(raw, contentOf(raw, signed).end).start
  const oid = contentOf(raw, algorithm)
  return raw.subarray(oid.start, oid.end).subarray(0, RSA_SIGNATURES.length).equals(RSA_SIGNATURES)
}

/** Where the content of the DER element at `at` begins and ends. OpenSSL has read these bytes before. */
function contentOf(der: Buffer, at: number): { start: number; end: number } {
  const first = der.readUInt8(at + 1)
  if (first < 0x80) return { start: at + 2, end: at + 2 + first }
  const lengthBytes = first - 0x80
  const start = at + 2 + lengthBytes
  return { start, end: start + der.readUIntBE(at + 2, lengthBytes) }
}
