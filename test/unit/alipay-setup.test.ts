import { generateKeyPairSync } from 'node:crypto'

import { beforeAll, describe, expect, it } from 'vitest'

import { ConfigError, loadConfig } from '../../src/config.js'
import { createAlipay } from '../../src/gateways/alipay/setup.js'
import { KeyError } from '../../src/gateways/keys.js'
import { createLog } from '../../src/log.js'
import { issueCertificate } from '../../src/sandbox/certificates.js'
import { ALIPAY, APP, pemOf } from '../support/alipay-answers.js'
import { SILENT_OBSERVER } from '../support/silent-observer.js'

const DAY_MS = 86_400_000
const NOW_MS = Date.now()
const EC = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const WEAK = generateKeyPairSync('rsa', { modulusLength: 1024 })

type Kind = 'app' | 'alipay' | 'next' | 'authority' | 'weak' | 'expired' | 'ending' | 'ec-root'
const made: Partial<Record<Kind, string>> = {}
const pem = (kind: Kind): string => made[kind] ?? ''

beforeAll(async () => {
  const base = {
    subject: [['CN', 'subject']],
    issuer: [
      ['C', 'CN'],
      ['CN', 'issuer'],
    ],
    publicKey: ALIPAY.publicKey,
    issuerKey: ALIPAY.privateKey,
    notBefore: NOW_MS - 100 * DAY_MS,
    notAfter: NOW_MS + 100 * DAY_MS,
    isAuthority: false,
  } as const
  const issue = async (kind: Kind, serial: string, change: object) => {
    made[kind] = await issueCertificate({ ...base, serial, ...change })
  }
  await Promise.all([
    issue('app', '01', { publicKey: APP.publicKey }),
    issue('alipay', '02', {}),
    issue('next', '03', { publicKey: APP.publicKey }),
    issue('authority', '04', { isAuthority: true }),
    issue('weak', '05', { publicKey: WEAK.publicKey }),
    issue('expired', '06', { notAfter: NOW_MS - 2 * DAY_MS }),
    issue('ending', '07', { publicKey: APP.publicKey, notAfter: NOW_MS + 10 * DAY_MS }),
    issue('ec-root', '08', { issuerKey: EC.privateKey }),
  ])
})

const KEY_MODE = {
  ALIPAY_APP_ID: '9021000100000001',
  ALIPAY_PRIVATE_KEY: pemOf(APP.privateKey),
  ALIPAY_PUBLIC_KEY: pemOf(ALIPAY.publicKey),
}
const certificateMode = () => ({
  ...KEY_MODE,
  ALIPAY_PUBLIC_KEY: undefined,
  ALIPAY_APP_CERT: pem('app'),
  ALIPAY_CERT: pem('alipay'),
  ALIPAY_ROOT_CERT: pem('authority'),
})

/** What the start says: the refusal, or the certificates that it warns of. */
function start(settings: Readonly<Record<string, string | undefined>>): string | string[] {
  const warnings: string[] = []
  const log = createLog('warn', {
    write(line) {
      const { setting, daysLeft } = JSON.parse(line) as { setting: string; daysLeft: number }
      warnings.push(`${setting}: ${daysLeft}`)
    },
  })
  try {
    const config = loadConfig({ SIGN_REQUIRED: 'false', ...settings })
    createAlipay(config, { log, observer: SILENT_OBSERVER, now: () => NOW_MS, random: Math.random }).close()
    return warnings
  } catch (error) {
    if (error instanceof KeyError || error instanceof ConfigError) return error.message
    throw error
  }
}

describe('settings that Alipay can be asked with', () => {
  const bare = (text: string) => text.replaceAll(/-----[^-]+-----|\s/g, '')
  it('key mode, in PEM or in the bare base64 that Alipay’s tools hand out', () => {
    expect(start(KEY_MODE)).toEqual([])
    expect(
      start({
        ...KEY_MODE,
        ALIPAY_PRIVATE_KEY: bare(KEY_MODE.ALIPAY_PRIVATE_KEY),
        ALIPAY_PUBLIC_KEY: bare(KEY_MODE.ALIPAY_PUBLIC_KEY),
      }),
    ).toEqual([])
  })

  it('certificate mode, with the issuing authority and the next certificate in the file', () => {
    expect(start(certificateMode())).toEqual([])
    const chain = `${pem('alipay')}\n${pem('authority')}\n${pem('next')}`
    expect(start({ ...certificateMode(), ALIPAY_CERT: chain })).toEqual([])
  })

  it('an expired certificate beside a valid one is left out', () => {
    expect(start({ ...certificateMode(), ALIPAY_CERT: `${pem('expired')}${pem('alipay')}` })).toEqual([])
  })

  it('a certificate that ends within a month is warned of, with the whole days it has left', () => {
    expect(start({ ...certificateMode(), ALIPAY_APP_CERT: pem('ending') })).toEqual(['ALIPAY_APP_CERT: 9'])
    expect(start({ ...certificateMode(), ALIPAY_CERT: `${pem('alipay')}${pem('ending')}` })).toEqual(['ALIPAY_CERT: 9'])
  })
})

describe('settings that stop the start, each with its name', () => {
  it.each<[string, () => Readonly<Record<string, string | undefined>>]>([
    ['ALIPAY_APP_ID is missing', () => ({ ...KEY_MODE, ALIPAY_APP_ID: undefined })],
    ['ALIPAY_PRIVATE_KEY is missing', () => ({ ...KEY_MODE, ALIPAY_PRIVATE_KEY: undefined })],
    ['ALIPAY_PRIVATE_KEY is not a private key', () => ({ ...KEY_MODE, ALIPAY_PRIVATE_KEY: 'nonsense' })],
    ['ALIPAY_PRIVATE_KEY has 1024 bits', () => ({ ...KEY_MODE, ALIPAY_PRIVATE_KEY: pemOf(WEAK.privateKey) })],
    ['ALIPAY_PUBLIC_KEY is missing', () => ({ ...KEY_MODE, ALIPAY_PUBLIC_KEY: undefined })],
    ['ALIPAY_PUBLIC_KEY is the app’s own', () => ({ ...KEY_MODE, ALIPAY_PUBLIC_KEY: pemOf(APP.publicKey) })],
    ['ALIPAY_PUBLIC_KEY and certificates are set', () => ({ ...KEY_MODE, ALIPAY_CERT: pem('alipay') })],
    ['ALIPAY_APP_CERT is missing', () => ({ ...certificateMode(), ALIPAY_APP_CERT: undefined })],
    ['ALIPAY_CERT is missing', () => ({ ...certificateMode(), ALIPAY_CERT: undefined })],
    ['ALIPAY_ROOT_CERT is missing', () => ({ ...certificateMode(), ALIPAY_ROOT_CERT: undefined })],
    ['ALIPAY_APP_CERT is not an X.509', () => ({ ...certificateMode(), ALIPAY_APP_CERT: 'nonsense' })],
    ['ALIPAY_APP_CERT and ALIPAY_PRIVATE_KEY do not', () => ({ ...certificateMode(), ALIPAY_APP_CERT: pem('alipay') })],
    ['ALIPAY_APP_CERT expired', () => ({ ...certificateMode(), ALIPAY_APP_CERT: pem('expired') })],
    ['ALIPAY_CERT is not an X.509', () => ({ ...certificateMode(), ALIPAY_CERT: 'nonsense' })],
    [
      'ALIPAY_CERT is not an X.509',
      () => ({ ...certificateMode(), ALIPAY_CERT: `${pem('alipay')}${pem('next').replace('MII', 'AAA')}` }),
    ],
    ['ALIPAY_CERT expired on', () => ({ ...certificateMode(), ALIPAY_CERT: pem('expired') })],
    ['ALIPAY_CERT has 1024 bits', () => ({ ...certificateMode(), ALIPAY_CERT: pem('weak') })],
    ['ALIPAY_ROOT_CERT is not an X.509', () => ({ ...certificateMode(), ALIPAY_ROOT_CERT: 'nonsense' })],
    ['ALIPAY_ROOT_CERT holds no certificate', () => ({ ...certificateMode(), ALIPAY_ROOT_CERT: pem('ec-root') })],
  ])('%s', (message, settings) => {
    const said = start(settings())
    expect(said).toContain(message)
    expect(said).not.toContain(KEY_MODE.ALIPAY_PRIVATE_KEY.slice(40, 80))
  })

  it('all of them at once', () => {
    expect(start({ ...KEY_MODE, ALIPAY_PRIVATE_KEY: 'nonsense', ALIPAY_PUBLIC_KEY: 'nonsense' })).toMatch(
      /^ALIPAY_PRIVATE_KEY is not .*\nALIPAY_PUBLIC_KEY is not .*$/,
    )
    const nonsense = { ALIPAY_PRIVATE_KEY: 'n', ALIPAY_APP_CERT: 'n', ALIPAY_CERT: 'n', ALIPAY_ROOT_CERT: 'n' }
    const said = String(start({ ...certificateMode(), ...nonsense }))
    expect(said.split('\n').map((line) => line.split(' ')[0])).toEqual(Object.keys(nonsense))
  })
})
