import { createPublicKey, type KeyObject, type X509Certificate } from 'node:crypto'

import type { Config } from '../../config.js'
import type { Log } from '../../log.js'
import { createCaller, type GatewayObserver } from '../caller.js'
import { createClockWatch } from '../clock.js'
import type { Gateway } from '../gateway.js'
import { createHttp } from '../http.js'
import { daysLeftOf, KeyError, loadCertificate, loadPrivateKey, loadPublicKey, required, requirePair } from '../keys.js'
import { certificateSn, certificatesIn, rootCertificateSn } from './certificates.js'
import type { AnswerKeys, AppKey } from './codec.js'
import { createAlipayGateway } from './index.js'

export type AlipaySettings = Pick<
  Config,
  Extract<keyof Config, `ALIPAY_${string}`> | 'GATEWAY_TIMEOUT_MS' | 'GATEWAY_RATE_PER_S' | 'GATEWAY_CONCURRENCY'
>

export type AlipaySetupDeps = Readonly<{
  log: Log
  observer: GatewayObserver
  now: () => number
  random: () => number
}>

/** A certificate that ends within so many days is worth a warning at every start. */
const DAYS_LEFT_WARN = 30

/** Alipay as the settings describe it. A key that cannot be used stops the start (`KeyError`, naming the setting). */
export function createAlipay(
  settings: AlipaySettings,
  deps: AlipaySetupDeps,
): Readonly<{ gateway: Gateway; close: () => void }> {
  const why = 'Alipay is configured'
  const appId = required('ALIPAY_APP_ID', settings.ALIPAY_APP_ID, why)
  const privateKey = loadPrivateKey(
    'ALIPAY_PRIVATE_KEY',
    required('ALIPAY_PRIVATE_KEY', settings.ALIPAY_PRIVATE_KEY, why),
  )
  const { certificates, answerKeys } = isCertificateMode(settings)
    ? certificateModeOf(settings, privateKey, deps)
    : keyModeOf(settings, privateKey)
  const http = createHttp({ timeoutMs: settings.GATEWAY_TIMEOUT_MS, connectionsMax: settings.GATEWAY_CONCURRENCY })
  const caller = createCaller({
    channel: 'ali_pay',
    timeoutMs: settings.GATEWAY_TIMEOUT_MS,
    ratePerS: settings.GATEWAY_RATE_PER_S,
    concurrency: settings.GATEWAY_CONCURRENCY,
    log: deps.log,
    observer: deps.observer,
    now: deps.now,
    random: deps.random,
  })
  const key = { appId, privateKey, certificates }
  const gateway = createAlipayGateway(
    { key, answerKeys, gatewayUrl: settings.ALIPAY_GATEWAY_URL },
    { http, caller, now: deps.now, clockWatch: createClockWatch('ali_pay', deps) },
  )
  return { gateway, close: () => http.close() }
}

type Mode = Readonly<{ certificates: AppKey['certificates']; answerKeys: AnswerKeys }>

function isCertificateMode(settings: AlipaySettings): boolean {
  const { ALIPAY_APP_CERT: app, ALIPAY_CERT: alipay, ALIPAY_ROOT_CERT: root } = settings
  const isGiven = app !== undefined || alipay !== undefined || root !== undefined
  if (isGiven && settings.ALIPAY_PUBLIC_KEY !== undefined)
    throw new KeyError('ALIPAY_PUBLIC_KEY and certificates are set: an app has either')
  return isGiven
}

function keyModeOf(settings: AlipaySettings, privateKey: KeyObject): Mode {
  const why = 'it verifies answers (or ALIPAY_APP_CERT, ALIPAY_CERT and ALIPAY_ROOT_CERT)'
  const key = loadPublicKey('ALIPAY_PUBLIC_KEY', required('ALIPAY_PUBLIC_KEY', settings.ALIPAY_PUBLIC_KEY, why))
  // Alipay's console shows both keys side by side.
  if (createPublicKey(privateKey).equals(key))
    throw new KeyError('ALIPAY_PUBLIC_KEY is the app’s own public key; Alipay’s is needed')
  return { certificates: null, answerKeys: [{ certSn: null, key }] }
}

function certificateModeOf(settings: AlipaySettings, privateKey: KeyObject, deps: AlipaySetupDeps): Mode {
  const why = 'certificate mode needs ALIPAY_APP_CERT, ALIPAY_CERT and ALIPAY_ROOT_CERT'
  const nowMs = deps.now()
  const app = loadCertificate('ALIPAY_APP_CERT', required('ALIPAY_APP_CERT', settings.ALIPAY_APP_CERT, why), nowMs)
  requirePair('ALIPAY_APP_CERT', app, 'ALIPAY_PRIVATE_KEY', privateKey)
  const alipay = signersIn(required('ALIPAY_CERT', settings.ALIPAY_CERT, why), nowMs)
  const rootCertSn = rootCertificateSn(
    loadCertificates('ALIPAY_ROOT_CERT', required('ALIPAY_ROOT_CERT', settings.ALIPAY_ROOT_CERT, why)),
  )
  if (rootCertSn === '') throw new KeyError('ALIPAY_ROOT_CERT holds no certificate that is signed with RSA')
  for (const [setting, certificate] of [['ALIPAY_APP_CERT', app] as const, ...alipay.map(toNamed)]) {
    const daysLeft = daysLeftOf(certificate, nowMs)
    if (daysLeft <= DAYS_LEFT_WARN) deps.log.warn({ event: 'certificate_expires', setting, daysLeft })
  }
  return {
    certificates: { appCertSn: certificateSn(app), rootCertSn },
    answerKeys: alipay.map((certificate) => ({
      certSn: certificateSn(certificate),
      key: loadPublicKey('ALIPAY_CERT', certificate.toString()),
    })),
  }
}

function toNamed(certificate: X509Certificate): readonly ['ALIPAY_CERT', X509Certificate] {
  return ['ALIPAY_CERT', certificate]
}

/**
 * The certificates that Alipay may sign with: the file's first, and further ones that are not an authority's, so that the
 * next one can be added before Alipay changes over. Expired ones are left out.
 */
function signersIn(pem: string, nowMs: number): X509Certificate[] {
  const signers = loadCertificates('ALIPAY_CERT', pem).filter((certificate, place) => place === 0 || !certificate.ca)
  const valid = signers.filter((certificate) => daysLeftOf(certificate, nowMs) >= 0)
  if (valid.length === 0) throw new KeyError(`ALIPAY_CERT expired on ${signers[0]?.validTo ?? ''}`)
  return valid
}

function loadCertificates(setting: string, pem: string): X509Certificate[] {
  try {
    const certificates = certificatesIn(pem)
    if (certificates.length > 0) return certificates
  } catch {
    // Which of them is broken does not matter; the file has to be taken anew.
  }
  throw new KeyError(`${setting} is not an X.509 certificate (PEM)`)
}
