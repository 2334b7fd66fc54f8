import { generateKeyPairSync, X509Certificate } from 'node:crypto'

import { describe, expect, it } from 'vitest'

import {
  daysLeftOf,
  KeyError,
  loadAll,
  loadApiKey,
  loadCertificate,
  loadPrivateKey,
  loadPublicKey,
  required,
  requirePair,
} from '../../src/gateways/keys.js'
import { merchantCertificate } from '../../src/sandbox/wechat-keys.js'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const other = generateKeyPairSync('rsa', { modulusLength: 2048 })
const short = generateKeyPairSync('rsa', { modulusLength: 1024 })
const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const DAY_MS = 86_400_000
const NOW_MS = Date.UTC(2026, 10, 24)

const bare = (pem: string) => pem.replaceAll(/-----[^-]+-----|\s/g, '')
const pkcs8 = rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const pkcs1 = rsa.privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()
const sealed = (type: 'pkcs1' | 'pkcs8') =>
  rsa.privateKey.export({ type, format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' }).toString()
const spki = rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString()
const publicPkcs1 = rsa.publicKey.export({ type: 'pkcs1', format: 'pem' }).toString()

describe('a private key', () => {
  it.each([
    ['PKCS#8', pkcs8],
    ['PKCS#1', pkcs1],
    ['bare base64 of PKCS#8', bare(pkcs8)],
    ['bare base64 of PKCS#1', bare(pkcs1)],
    ['bare base64 in lines', bare(pkcs8).replaceAll(/(.{64})/g, '$1\n')],
    ['with blank lines around', `\n${pkcs8}\n\n`],
  ])('is loaded from %s', (_title, text) => {
    expect(loadPrivateKey('S', text).equals(rsa.privateKey)).toBe(true)
  })

  it.each([
    ['a public key', spki, 'is not a private key'],
    ['sealed by a passphrase', sealed('pkcs8'), 'has a passphrase'],
    ['sealed by a passphrase, as PKCS#1', sealed('pkcs1'), 'has a passphrase'],
    ['nonsense', 'nonsense!', 'is not a private key'],
    ['nothing', '', 'is not a private key'],
    ['a cut PEM', pkcs8.slice(0, 200), 'is not a private key'],
    ['RSA of 1024 bits', short.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), 'has 1024 bits'],
    ['an elliptic curve', curve.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), 'is not an RSA key'],
  ])('that is %s is refused, naming the setting', (_title, text, problem) => {
    expect(() => loadPrivateKey('WECHAT_PRIVATE_KEY', text)).toThrow(KeyError)
    expect(() => loadPrivateKey('WECHAT_PRIVATE_KEY', text)).toThrow(`WECHAT_PRIVATE_KEY ${problem}`)
  })

  it('is never quoted by the error that refuses it', () => {
    const damaged = bare(pkcs8).slice(0, -40)
    let message = ''
    try {
      loadPrivateKey('S', damaged)
    } catch (error) {
      message = String(error) + String((error as Error).cause)
    }
    expect(message).not.toContain(damaged.slice(0, 20))
  })
})

describe('a public key', () => {
  it.each([
    ['SPKI', spki],
    ['PKCS#1', publicPkcs1],
    ['bare base64 of SPKI', bare(spki)],
    ['bare base64 of PKCS#1', bare(publicPkcs1)],
  ])('is loaded from %s', (_title, text) => {
    expect(loadPublicKey('S', text).equals(rsa.publicKey)).toBe(true)
  })

  it('is loaded from a certificate', async () => {
    expect(loadPublicKey('S', await merchantCertificate(rsa, '1', NOW_MS)).equals(rsa.publicKey)).toBe(true)
  })

  it('that is short or nonsense is refused', () => {
    expect(() => loadPublicKey('S', short.publicKey.export({ type: 'spki', format: 'pem' }).toString())).toThrow(
      'S has 1024 bits',
    )
    expect(() => loadPublicKey('S', 'AAAA')).toThrow('S is not a public key')
  })

  it('that is in truth a private key is refused, so that nobody hands one out', () => {
    expect(() => loadPublicKey('S', pkcs8)).toThrow('S is a private key')
  })
})

describe('a certificate', () => {
  it('valid now is loaded, with the days it has left', async () => {
    const certificate = loadCertificate('ALIPAY_APP_CERT', await merchantCertificate(rsa, '1', NOW_MS), NOW_MS)
    expect(daysLeftOf(certificate, NOW_MS)).toBe(5 * 365)
  })

  it('expired, or not valid yet, is refused', async () => {
    const pem = await merchantCertificate(rsa, '1', NOW_MS)
    expect(() => loadCertificate('ALIPAY_APP_CERT', pem, NOW_MS + 5 * 365 * DAY_MS + 1)).toThrow(
      /ALIPAY_APP_CERT expired on/,
    )
    expect(() => loadCertificate('ALIPAY_APP_CERT', pem, NOW_MS - 2 * DAY_MS)).toThrow(
      /ALIPAY_APP_CERT is not valid before/,
    )
    expect(() => loadCertificate('ALIPAY_APP_CERT', spki, NOW_MS)).toThrow(
      'ALIPAY_APP_CERT is not an X.509 certificate',
    )
  })

  it('must be the private key’s', async () => {
    const certificate = new X509Certificate(await merchantCertificate(rsa, '1', NOW_MS))
    expect(() => requirePair('C', certificate, 'K', rsa.privateKey)).not.toThrow()
    expect(() => requirePair('C', certificate, 'K', other.privateKey)).toThrow('C and K do not belong together')
  })
})

describe('the rest', () => {
  it('an API key is 32 bytes, not characters', () => {
    expect(loadApiKey('S', 'a'.repeat(32))).toHaveLength(32)
    expect(() => loadApiKey('S', 'a'.repeat(31))).toThrow('S must be 32 bytes, not 31')
    expect(() => loadApiKey('S', 'ü'.repeat(32))).toThrow('S must be 32 bytes, not 64')
  })

  it('a setting that is missing is named', () => {
    expect(required('S', 'x')).toBe('x')
    expect(() => required('S', undefined)).toThrow('S is missing')
  })
})

describe('several keys', () => {
  it('are loaded together', () => {
    expect(loadAll({ one: () => 1, two: () => 'b' })).toEqual({ one: 1, two: 'b' })
  })

  it('that cannot be used are told together, one line each', () => {
    const load = () =>
      loadAll({
        own: () => loadPrivateKey('OWN', 'nonsense'),
        right: () => loadPrivateKey('RIGHT', pkcs8),
        theirs: () =>
          loadAll({ first: () => loadPublicKey('FIRST', 'AAAA'), second: () => loadApiKey('SECOND', 'short') }),
      })
    expect(load).toThrow(KeyError)
    expect(load).toThrow(/^OWN is not [^\n]+\nFIRST is not [^\n]+\nSECOND must be 32 bytes, not 5$/)
  })

  it('do not hide a failure of another kind', () => {
    const broken = () => {
      throw new TypeError('a bug')
    }
    expect(() => loadAll({ key: () => loadPrivateKey('OWN', 'nonsense'), broken })).toThrow('a bug')
  })
})
