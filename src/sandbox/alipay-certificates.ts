import { createHash, generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import type { AlipayCertificates } from './alipay-account.js'
import {
  type CertificateRequest,
  certificateNumber,
  type DistinguishedName,
  issueCertificate,
  rootCertificateNumber,
} from './certificates.js'
import { type KeyPair, sharedKeyPair } from './keys.js'

const generateEc = promisify(generateKeyPair)

const DAY_MS = 24 * 3600 * 1000
const LIFE_MS = 5 * 365 * DAY_MS

function named(commonName: string, unit: string): DistinguishedName {
  return [
    ['C', 'CN'],
    ['O', 'Ant Financial sandbox'],
    ['OU', unit],
    ['CN', commonName],
  ]
}

const UNIT = 'Certification Authority sandbox'
const ROOT = named('Ant Financial Certification Authority R1 sandbox', UNIT)
const EC_ROOT = named('Ant Financial Certification Authority E1 sandbox', UNIT)
const ISSUER = named('Ant Financial Certification Authority Class 2 R1 sandbox', UNIT)

/** 32 hexadecimal digits, as the real ones have, that stay the same for the same input. */
function serialFrom(input: Buffer | string): string {
  return `20${createHash('md5').update(input).digest('hex').slice(2)}`.toUpperCase()
}

function serialOf(request: Issue): string {
  // An authority's comes from its name: a merchant keeps the root file while the sandbox makes new roots at each start.
  return serialFrom(
    request.isAuthority ? JSON.stringify(request.subject) : request.publicKey.export({ type: 'spki', format: 'der' }),
  )
}

type Issue = Pick<CertificateRequest, 'subject' | 'issuer' | 'publicKey' | 'issuerKey' | 'isAuthority'>

async function issue(request: Issue, now: number): Promise<string> {
  const serial = serialOf(request)
  return await issueCertificate({ ...request, serial, notBefore: now - DAY_MS, notAfter: now + LIFE_MS })
}

/** The chain of a certificate-mode app: roots, issuing authority, Alipay's certificate and the app's. */
export async function alipayCertificates(
  app: KeyPair,
  alipay: KeyPair,
  appId: string,
  now: number,
): Promise<AlipayCertificates> {
  const [root, issuer, ecRoot] = await Promise.all([
    sharedKeyPair('alipay-root'),
    sharedKeyPair('alipay-issuer'),
    generateEc('ec', { namedCurve: 'P-256' }),
  ])
  const byRoot = { issuer: ROOT, issuerKey: root.privateKey, isAuthority: true }
  const byIssuer = { issuer: ISSUER, issuerKey: issuer.privateKey, isAuthority: false }
  const byEcRoot = { issuer: EC_ROOT, issuerKey: ecRoot.privateKey, isAuthority: true }
  const [rootPem, ecRootPem, issuerPem, alipayPem, appPem] = await Promise.all([
    issue({ ...byRoot, subject: ROOT, publicKey: root.publicKey }, now),
    issue({ ...byEcRoot, subject: EC_ROOT, publicKey: ecRoot.publicKey }, now),
    issue({ ...byRoot, subject: ISSUER, publicKey: issuer.publicKey }, now),
    issue({ ...byIssuer, subject: named('支付宝(中国)网络技术有限公司', 'Alipay'), publicKey: alipay.publicKey }, now),
    issue({ ...byIssuer, subject: named(appId, 'Alipay'), publicKey: app.publicKey }, now),
  ])
  // The real root file mixes RSA with other algorithms as well; only the RSA ones count in its number.
  const roots = `${ecRootPem}\n${rootPem}`
  return {
    app: appPem,
    alipay: `${alipayPem}${issuerPem}`,
    root: roots,
    numbers: {
      app: certificateNumber(appPem),
      root: rootCertificateNumber(roots),
      alipay: certificateNumber(alipayPem),
    },
  }
}
