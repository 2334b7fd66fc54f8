import { createHash } from 'node:crypto'
import { type DistinguishedName, issueCertificate } from './certificates.js'
import { type KeyPair, sharedKeyPair } from './keys.js'
import type { TlsMaterial } from './server.js'
import type { PlatformKey } from './wechat-account.js'

const DAY_MS = 24 * 3600 * 1000
// The real ones live five years.
const LIFE_MS = 5 * 365 * DAY_MS

const AUTHORITY_NAME: DistinguishedName = [
  ['C', 'CN'],
  ['O', 'Tenpay.com'],
  ['OU', 'Tenpay.com CA Center'],
  ['CN', 'Tenpay.com Root CA'],
]

/** 40 hexadecimal digits that stay the same for the same key, as a certificate's would. */
export function serialOf(pair: KeyPair): string {
  const spki = pair.publicKey.export({ type: 'spki', format: 'der' })
  // A first digit of 5, as in the real ones: a serial with leading zeros would be written shorter.
  return `5${createHash('sha1').update(spki).digest('hex').slice(1)}`.toUpperCase()
}

async function issue(
  pair: KeyPair,
  commonName: string,
  now: number,
  kind: 'leaf' | 'server' | 'authority',
): Promise<string> {
  const authority = await sharedKeyPair('wechat-authority')
  return await issueCertificate({
    subject: kind === 'authority' ? AUTHORITY_NAME : [...AUTHORITY_NAME.slice(0, 2), ['CN', commonName]],
    issuer: AUTHORITY_NAME,
    serial: serialOf(pair),
    publicKey: pair.publicKey,
    issuerKey: authority.privateKey,
    notBefore: now - DAY_MS,
    notAfter: now + LIFE_MS,
    isAuthority: kind === 'authority',
    isServer: kind === 'server',
  })
}

/** A platform certificate and its key. */
export async function newPlatformCertificate(pair: KeyPair, now: number): Promise<PlatformKey> {
  return {
    serial: serialOf(pair),
    pair,
    certificatePem: await issue(pair, 'Tenpay.com sign', now, 'leaf'),
    effectiveAt: now - DAY_MS,
    expiresAt: now - DAY_MS + LIFE_MS,
  }
}

/** A public-key-mode key: no certificate, known by its id. */
export function newPublicKey(pair: KeyPair, id: string, now: number): PlatformKey {
  return { serial: id, pair, certificatePem: null, effectiveAt: now, expiresAt: now + LIFE_MS }
}

/** The merchant's API certificate: its serial goes into Authorization, itself into the TLS of a reverse. */
export async function merchantCertificate(pair: KeyPair, mchId: string, now: number): Promise<string> {
  return await issue(pair, mchId, now, 'leaf')
}

/** What an HTTPS listener needs: a certificate for the loopback, and the authority of the merchants' certificates. */
export async function tlsMaterial(now: number): Promise<TlsMaterial> {
  const [authority, server] = await Promise.all([sharedKeyPair('wechat-authority'), sharedKeyPair('wechat-tls')])
  return {
    key: server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: await issue(server, 'api.mch.weixin.qq.com', now, 'server'),
    ca: await issue(authority, 'Tenpay.com Root CA', now, 'authority'),
  }
}
