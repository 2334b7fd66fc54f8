import type { X509Certificate } from 'node:crypto'

import type { Config } from '../../config.js'
import type { Log } from '../../log.js'
import { type Caller, createCaller, type GatewayObserver } from '../caller.js'
import { type ClockWatch, createClockWatch } from '../clock.js'
import type { Gateway } from '../gateway.js'
import { createHttp, type Http } from '../http.js'
import {
  daysLeftOf,
  KeyError,
  loadApiV3Key,
  loadCertificate,
  loadPrivateKey,
  loadPublicKey,
  required,
  requirePair,
} from '../keys.js'
import { createDownload, createPlatformCertificates, type PlatformCertificates } from './certificates.js'
import type { MerchantKey } from './codec.js'
import { createHosts, createSignedExchange, type SignedExchange } from './exchange.js'
import { createWechatGateway, type PlatformKeys } from './index.js'
import { createReversal, type Reversal } from './reversal.js'
import { createWechatV2Gateway } from './v2.js'
import type { WechatV2Config } from './v2-call.js'

export type WechatSettings = Pick<
  Config,
  Extract<keyof Config, `WECHAT_${string}`> | 'GATEWAY_TIMEOUT_MS' | 'GATEWAY_RATE_PER_S' | 'GATEWAY_CONCURRENCY'
>

export type WechatSetupDeps = Readonly<{
  log: Log
  observer: GatewayObserver
  now: () => number
  random: () => number
  /** A further certificate authority, PEM, for a simulated gateway. */
  ca?: string
}>

/** A certificate that ends within so many days is worth a warning at every start. */
const DAYS_LEFT_WARN = 30
/** Part of a call's time that a first download of the platform certificates may take: the call itself comes after it. */
const DOWNLOAD_PART = 2

type Parts = Readonly<{
  settings: WechatSettings
  deps: WechatSetupDeps
  http: Http
  caller: Caller
  clockWatch: ClockWatch
}>

/** WeChat Pay as the settings describe it. A key that cannot be used stops the start (`KeyError`, naming the setting). */
export function createWechat(
  settings: WechatSettings,
  deps: WechatSetupDeps,
): Readonly<{ gateway: Gateway; close: () => void }> {
  const opened: Http[] = []
  const open = (tls?: Readonly<{ cert: string; key: string }>): Http => {
    const http = createHttp({
      timeoutMs: settings.GATEWAY_TIMEOUT_MS,
      connectionsMax: settings.GATEWAY_CONCURRENCY,
      ...(tls === undefined ? {} : { tls }),
      ...(deps.ca === undefined ? {} : { ca: deps.ca }),
    })
    opened.push(http)
    return http
  }
  const caller = createCaller({
    channel: 'wechat_pay',
    timeoutMs: settings.GATEWAY_TIMEOUT_MS,
    ratePerS: settings.GATEWAY_RATE_PER_S,
    concurrency: settings.GATEWAY_CONCURRENCY,
    log: deps.log,
    observer: deps.observer,
    now: deps.now,
    random: deps.random,
  })
  const parts = { settings, deps, http: open(), caller, clockWatch: createClockWatch('wechat_pay', deps) }
  const reversal = reversalOf(parts, open)
  return {
    gateway: settings.WECHAT_API === 'v2' ? v2GatewayOf(parts, reversal) : v3GatewayOf(parts, reversal),
    close(): void {
      for (const http of opened) http.close()
    },
  }
}

function v3GatewayOf(parts: Parts, reversal: Reversal | null): Gateway {
  const { settings, deps, http, caller, clockWatch } = parts
  const merchantKey: MerchantKey = {
    mchId: settings.WECHAT_SP_MCH_ID ?? merchantOf(settings).mchId,
    serial: required('WECHAT_CERT_SERIAL', settings.WECHAT_CERT_SERIAL, FOR_V3),
    privateKey: loadPrivateKey(
      'WECHAT_PRIVATE_KEY',
      required('WECHAT_PRIVATE_KEY', settings.WECHAT_PRIVATE_KEY, FOR_V3),
    ),
  }
  const config = { ...merchantOf(settings), merchantKey, platformKeys: platformKeysOf(parts, merchantKey) }
  return createWechatGateway(config, { http, caller, now: deps.now, clockWatch, reversal })
}

function v2GatewayOf({ settings, deps, http, caller, clockWatch }: Parts, reversal: Reversal | null): Gateway {
  return createWechatV2Gateway(v2ConfigOf(settings), { http, caller, now: deps.now, clockWatch, reversal })
}

/**
 * Public-key mode, certificate mode, or both: a merchant that moves from one to the other gets answers signed by either.
 * With a public key, certificates are only looked for when an answer names one.
 */
function platformKeysOf(parts: Parts, merchantKey: MerchantKey): PlatformKeys {
  const { settings } = parts
  const id = settings.WECHAT_PUBLIC_KEY_ID
  const pem = settings.WECHAT_PUBLIC_KEY
  const certificates = certificatesOf(parts, merchantKey)
  if (id === undefined && pem === undefined) {
    if (certificates === null) required('WECHAT_API_V3_KEY', undefined, 'platform certificates are sealed with it')
    else return certificates
  }
  const publicKeyId = required('WECHAT_PUBLIC_KEY_ID', id, 'WECHAT_PUBLIC_KEY is set')
  const publicKey = loadPublicKey(
    'WECHAT_PUBLIC_KEY',
    required('WECHAT_PUBLIC_KEY', pem, 'WECHAT_PUBLIC_KEY_ID is set'),
  )
  const own = new Map([[publicKeyId, publicKey]])
  if (certificates === null) return { current: () => own, preferred: () => publicKeyId }
  return {
    current: () => (certificates.current().size === 0 ? own : new Map([...certificates.current(), ...own])),
    preferred: () => publicKeyId,
    learn: async (serial, signal) => !serial.startsWith('PUB_KEY_ID_') && (await certificates.learn(serial, signal)),
  }
}

function certificatesOf({ settings, deps, http }: Parts, merchantKey: MerchantKey): PlatformCertificates | null {
  if (settings.WECHAT_API_V3_KEY === undefined) return null
  const { baseUrls } = merchantOf(settings)
  const send = createSignedExchange({ http, hosts: createHosts(baseUrls, deps.now), merchantKey, now: deps.now })
  const exchange: SignedExchange = async (...request) => {
    const outcome = await send(...request)
    if (deps.log.isLevelEnabled('debug')) {
      const exchanges = [outcome.exchange]
      deps.log.debug({ event: 'gateway_call', channel: 'wechat_pay', operation: 'certificates', exchanges })
    }
    return outcome
  }
  const download = createDownload({
    exchange,
    apiV3Key: loadApiV3Key('WECHAT_API_V3_KEY', settings.WECHAT_API_V3_KEY),
    timeoutMs: settings.GATEWAY_TIMEOUT_MS / DOWNLOAD_PART,
    hostsCount: baseUrls.length,
    now: deps.now,
  })
  return createPlatformCertificates({
    now: deps.now,
    async download() {
      const certificates = await download()
      const event = certificates === null ? 'platform_certificates_failed' : 'platform_certificates'
      const serials = certificates?.map(({ serial }) => serial)
      if (certificates === null) deps.log.error({ event, channel: 'wechat_pay' })
      else {
        deps.log.info({ event, channel: 'wechat_pay', serials })
        const endsAtMs = Math.max(...certificates.map(({ validToMs }) => validToMs))
        deps.observer.certificateEnds('wechat_platform', endsAtMs)
      }
      return certificates
    },
  })
}

/** Null where the settings for reversals are missing; half of them is a mistake. */
function reversalOf(
  { settings, deps, caller, clockWatch }: Parts,
  open: (tls: { cert: string; key: string }) => Http,
): Reversal | null {
  const { WECHAT_CLIENT_CERT: cert, WECHAT_CLIENT_KEY: key, WECHAT_API_V2_KEY: apiKey } = settings
  if (cert === undefined && key === undefined) return null
  const certificatePem = required('WECHAT_CLIENT_CERT', cert, 'WECHAT_CLIENT_KEY is set')
  const keyPem = required('WECHAT_CLIENT_KEY', key, 'WECHAT_CLIENT_CERT is set')
  const certificate = loadCertificate('WECHAT_CLIENT_CERT', certificatePem, deps.now())
  const privateKey = loadPrivateKey('WECHAT_CLIENT_KEY', keyPem)
  requirePair('WECHAT_CLIENT_CERT', certificate, 'WECHAT_CLIENT_KEY', privateKey)
  warnOfExpiry('WECHAT_CLIENT_CERT', certificate, deps)
  // An APIv3 merchant without an APIv2 key has no payment-code orders to reverse; asked for one, it is told what is missing.
  if (apiKey === undefined) return null
  const tls = { cert: certificatePem, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
  return createReversal(v2ConfigOf(settings), { certifiedHttp: open(tls), caller, now: deps.now, clockWatch })
}

const FOR_V3 = 'WECHAT_API=v3 needs it'

function v2ConfigOf(settings: WechatSettings): WechatV2Config {
  const apiKey = required('WECHAT_API_V2_KEY', settings.WECHAT_API_V2_KEY, 'WECHAT_API=v2 needs it')
  if (Buffer.byteLength(apiKey) !== 32)
    throw new KeyError(`WECHAT_API_V2_KEY must be 32 bytes, not ${Buffer.byteLength(apiKey)}`)
  return { ...merchantOf(settings), apiKey, signType: settings.WECHAT_V2_SIGN_TYPE }
}

function merchantOf(settings: WechatSettings) {
  return {
    mchId: required('WECHAT_MCH_ID', settings.WECHAT_MCH_ID, 'WeChat Pay is configured'),
    appId: required('WECHAT_APP_ID', settings.WECHAT_APP_ID, 'WeChat Pay is configured'),
    spMchId: settings.WECHAT_SP_MCH_ID ?? null,
    baseUrls: settings.WECHAT_BASE_URLS.map((url) => url.replace(/\/+$/, '')),
  }
}

function warnOfExpiry(setting: string, certificate: X509Certificate, deps: WechatSetupDeps): void {
  const daysLeft = daysLeftOf(certificate, deps.now())
  if (daysLeft <= DAYS_LEFT_WARN) deps.log.warn({ event: 'certificate_expires', setting, daysLeft })
}
