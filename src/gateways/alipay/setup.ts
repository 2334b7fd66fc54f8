import { createPublicKey, type KeyObject, type X509Certificate } from 'node:crypto'

import type { Config } from '../../config.js'
import type { Log } from '../../log.js'
import { createCaller, type GatewayObserver } from '../caller.js'
import { createClockWatch } from '../clock.js'
import type { Gateway } from '../gateway.js'
import { createHttp } from '../http.js'
import {
  daysLeftOf,
  KeyError,
  loadAll,
  loadCertificate,
  loadCertificates,
  loadPrivateKey,
  loadPublicKey,
  required,
  requirePair,
} from '../keys.js'
import { certificateSn, rootCertificateSn } from './certificates.js'
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

/** Alipay as the settings describe it. Keys that cannot be used stop the start (`KeyError`, naming the settings). */
export function createAlipay(
  settings: AlipaySettings,
  deps: AlipaySetupDeps,
): Readonly<{ gateway: Gateway; close: () => void }> {
  const appId = required('ALIPAY_APP_ID', settings.ALIPAY_APP_ID)
  const { privateKey, certificates, answerKeys } =
    settings.ALIPAY_APP_CERT === undefined ? keyModeOf(settings) : certificateModeOf(settings, deps)
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

type Mode = Readonly<{ privateKey: KeyObject; certificates: AppKey['certificates']; answerKeys: AnswerKeys }>

function keyModeOf(settings: AlipaySettings): Mode {
  const { privateKey, key } = loadAll({
    privateKey: () => privateKeyOf(settings),
    key: () => loadPublicKey('ALIPAY_PUBLIC_KEY', required('ALIPAY_PUBLIC_KEY', settings.ALIPAY_PUBLIC_KEY)),
  })
  // Alipay's console shows both keys side by side.
  if (createPublicKey(privateKey).equals(key))
    throw new KeyError('ALIPAY_PUBLIC_KEY is the app’s own public key; Alipay’s is needed')
  return { privateKey, certificates: null, answerKeys: [{ certSn: null, key }] }
}

function certificateModeOf(settings: AlipaySettings, deps: AlipaySetupDeps): Mode {
  const nowMs = deps.now()
  const { privateKey, app, alipay, rootCertSn } = loadAll({
    privateKey: () => privateKeyOf(settings),
    app: () => loadCertificate('ALIPAY_APP_CERT', required('ALIPAY_APP_CERT', settings.ALIPAY_APP_CERT), nowMs),
    alipay: () => signersIn(required('ALIPAY_CERT', settings.ALIPAY_CERT), nowMs),
    rootCertSn: () => rootCertSnIn(required('ALIPAY_ROOT_CERT', settings.ALIPAY_ROOT_CERT)),
  })
  requirePair('ALIPAY_APP_CERT', app, 'ALIPAY_PRIVATE_KEY', privateKey)
  for (const [setting, certificate] of [['ALIPAY_APP_CERT', app] as const, ...alipay.map(toNamed)]) {
    const daysLeft = daysLeftOf(certificate, nowMs)
    if (daysLeft <= DAYS_LEFT_WARN) deps.log.warn({ event: 'certificate_expires', setting, daysLeft })
  }
  return {
    privateKey,
    certificates: { appCertSn: certificateSn(app), rootCertSn },
    answerKeys: alipay.map(({ certificate, key }) => ({ certSn: certificateSn(certificate), key })),
  }
}

function privateKeyOf(settings: AlipaySettings): KeyObject {
  return loadPrivateKey('ALIPAY_PRIVATE_KEY', required('ALIPAY_PRIVATE_KEY', settings.ALIPAY_PRIVATE_KEY))
}

type Signer = Readonly<{ certificate: X509Certificate; key: KeyObject }>

function toNamed({ certificate }: Signer): readonly ['ALIPAY_CERT', X509Certificate] {
  return ['ALIPAY_CERT', certificate]
}

/** The certificates that Alipay may sign with. Expired ones are left out. */
function signersIn(pem: string, nowMs: number): Signer[] {
  const signers = loadCertificates('ALIPAY_CERT', pem)
  const valid = signers.filter((certificate) => daysLeftOf(certificate, nowMs) >= 0)
  if (valid.length === 0) throw new KeyError(`ALIPAY_CERT expired on ${signers[0].validTo}`)
  return valid.map((certificate) => ({ certificate, key: loadPublicKey('ALIPAY_CERT', certificate.toString()) }))
}

function rootCertSnIn(pem: string): string {
  const sn = rootCertificateSn(loadCertificates('ALIPAY_ROOT_CERT', pem))
  if (sn === '') throw new KeyError('ALIPAY_ROOT_CERT holds no certificate that is signed with RSA')
  return sn
}
