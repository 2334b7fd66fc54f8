import { createPrivateKey, createPublicKey, type KeyObject, type X509Certificate } from 'node:crypto'

import { type CertificateSetting, certificatesUsed } from './certificates.js'

/** Keys or certificates that cannot be used: of each, one line that names the setting and says what is wrong with it. */
export class KeyError extends Error {
  readonly lines: readonly string[]
  constructor(...lines: readonly string[]) {
    super(lines.join('\n'))
    this.lines = lines
  }
}

/** Loads each, and refuses them together: one `KeyError` with the lines of all that cannot be used. */
export function loadAll<Loaded extends Readonly<Record<string, unknown>>>(
  loaders: {
    readonly [Name in keyof Loaded]: () => Loaded[Name]
  },
): Loaded {
  const problems: string[] = []
  const loaded = Object.entries(loaders).map(([name, load]) => {
    try {
      return [name, load()] as const
    } catch (error) {
      if (!(error instanceof KeyError)) throw error
      problems.push(...error.lines)
      return [name, undefined] as const
    }
  })
  if (problems.length > 0) throw new KeyError(...problems)
  return Object.fromEntries(loaded) as Loaded
}

/** Both gateways ask for RSA-2048 at least. */
const RSA_BITS_MIN = 2048
const DAY_MS = 86_400_000

/** A private key: PEM (PKCS#1, PKCS#8), or the bare base64 that the gateways' tools hand out. */
export function loadPrivateKey(setting: string, text: string): KeyObject {
  // BEGIN ENCRYPTED PRIVATE KEY, or Proc-Type: 4,ENCRYPTED.
  if (/^(?:-----BEGIN ENCRYPTED |Proc-Type:.*ENCRYPTED)/m.test(text))
    throw new KeyError(`${setting} has a passphrase: set the key without one (openssl rsa -in FILE)`)
  const key = tryEach(
    setting,
    'is not a private key (PEM PKCS#1 or PKCS#8, or its base64)',
    text.includes('-----BEGIN')
      ? [() => createPrivateKey(text)]
      : [
          () => createPrivateKey({ key: der(text), format: 'der', type: 'pkcs8' }),
          () => createPrivateKey({ key: der(text), format: 'der', type: 'pkcs1' }),
        ],
  )
  return strong(setting, key)
}

/** A public key: PEM (SPKI, PKCS#1), an X.509 certificate's, or bare base64 of SPKI. */
export function loadPublicKey(setting: string, text: string): KeyObject {
  // Node would take the public half of it: our own key, then, in the place of the gateway's, and a secret in the wrong one.
  if (text.includes('PRIVATE KEY-----')) throw new KeyError(`${setting} is a private key; the public one belongs here`)
  const key = tryEach(
    setting,
    'is not a public key (PEM SPKI or PKCS#1, an X.509 certificate, or base64 of SPKI)',
    text.includes('-----BEGIN')
      ? [() => createPublicKey(text)]
      : [
          () => createPublicKey({ key: der(text), format: 'der', type: 'spki' }),
          () => createPublicKey({ key: der(text), format: 'der', type: 'pkcs1' }),
        ],
  )
  return strong(setting, key)
}

/** The X.509 certificates of a setting that are used (`certificatesUsed`), expired or not. */
export function loadCertificates(
  setting: CertificateSetting,
  pem: string,
): readonly [X509Certificate, ...X509Certificate[]] {
  return tryEach(setting, 'is not an X.509 certificate (PEM)', [
    () => {
      const [first, ...further] = certificatesUsed(setting, pem)
      if (first === undefined) throw new TypeError('no certificate')
      return [first, ...further]
    },
  ])
}

/** The one X.509 certificate of a setting, valid now. */
export function loadCertificate(setting: CertificateSetting, pem: string, nowMs: number): X509Certificate {
  const [certificate] = loadCertificates(setting, pem)
  if (nowMs < Date.parse(certificate.validFrom))
    throw new KeyError(`${setting} is not valid before ${certificate.validFrom}`)
  if (daysLeftOf(certificate, nowMs) < 0) throw new KeyError(`${setting} expired on ${certificate.validTo}`)
  return certificate
}

/** Days until a certificate expires, rounded down; negative where it has. */
export function daysLeftOf(certificate: X509Certificate, nowMs: number): number {
  return Math.floor((Date.parse(certificate.validTo) - nowMs) / DAY_MS)
}

/** The private key must be the certificate's: else every signature would be refused over there. */
export function requirePair(
  certificateSetting: string,
  certificate: X509Certificate,
  keySetting: string,
  key: KeyObject,
): void {
  if (!certificate.checkPrivateKey(key))
    throw new KeyError(`${certificateSetting} and ${keySetting} do not belong together`)
}

/** An API key of WeChat Pay: 32 bytes (APIv3, AEAD_AES_256_GCM; APIv2, its signatures). */
export function loadApiKey(setting: string, text: string): Buffer {
  const key = Buffer.from(text, 'utf8')
  if (key.length !== 32) throw new KeyError(`${setting} must be 32 bytes, not ${key.length}`)
  return key
}

/** What this mode cannot do without; `loadConfig` has looked for the setting already, and said why it is needed. */
export function required<Value>(setting: string, value: Value | null | undefined): Value {
  if (value === undefined || value === null) throw new KeyError(`${setting} is missing`)
  return value
}

function der(base64: string): Buffer {
  const text = base64.replace(/\s/g, '')
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw new TypeError('not base64')
  return Buffer.from(text, 'base64')
}

function strong(setting: string, key: KeyObject): KeyObject {
  if (key.asymmetricKeyType !== 'rsa') throw new KeyError(`${setting} is not an RSA key`)
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0
  if (bits < RSA_BITS_MIN) throw new KeyError(`${setting} has ${bits} bits; at least ${RSA_BITS_MIN} are needed`)
  return key
}

function tryEach<T>(setting: string, problem: string, ways: readonly (() => T)[]): T {
  for (const way of ways) {
    try {
      return way()
    } catch {
      // The next form may fit; if none does, the message below says what was expected. Parser errors can quote keys.
    }
  }
  throw new KeyError(`${setting} ${problem}`)
}
