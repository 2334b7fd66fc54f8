import type { KeyObject, X509Certificate } from 'node:crypto'

import type { Config } from '../../config.js'
import type { Log } from '../../log.js'
import { type Caller, createCaller, type GatewayObserver } from '../caller.js'
import { type ClockWatch, createClockWatch } from '../clock.js'
import type { Gateway } from '../gateway.js'
import { createHttp, type Http } from '../http.js'
import {
  daysLeftOf,
  loadAll,
  loadApiKey,
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
  keys: Keys
  deps: WechatSetupDeps
  http: Http
  caller: Caller
  clockWatch: ClockWatch
}>

/** WeChat Pay as the settings describe it. Keys that cannot be used stop the start (`KeyError`, naming the settings). */
export function createWechat(
  settings: WechatSettings,
  deps: WechatSetupDeps,
): Readonly<{ gateway: Gateway; close: () => void }> {
  const keys = keysOf(settings, deps)
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
  const parts = { settings, keys, deps, http: open(), caller, clockWatch: createClockWatch('wechat_pay', deps) }
  const reversal = reversalOf(parts, open)
  return {
    gateway: settings.WECHAT_API === 'v2' ? v2GatewayOf(parts, reversal) : v3GatewayOf(parts, reversal),
    close(): void {
      for (const http of opened) http.close()
    },
  }
}

/** Null: not given, or not used in this mode. */
type Keys = Readonly<{
  privateKey: KeyObject | null
  publicKey: KeyObject | null
  apiV3Key: Buffer | null
  apiV2Key: string | null
  client: Readonly<{ cert: string; key: string }> | null
}>

/** Every key among the settings, so that all that is wrong with them is told at once. */
function keysOf(settings: WechatSettings, deps: WechatSetupDeps): Keys {
  const isV3 = settings.WECHAT_API === 'v3'
  const { WECHAT_PRIVATE_KEY, WECHAT_PUBLIC_KEY, WECHAT_API_V3_KEY, WECHAT_API_V2_KEY } = settings
  const given = <Key>(setting: string, text: string | undefined, load: (setting: string, text: string) => Key) =>
    text === undefined ? null : load(setting, text)
  return loadAll<Keys>({
    privateKey: () => (isV3 ? given('WECHAT_PRIVATE_KEY', WECHAT_PRIVATE_KEY, loadPrivateKey) : null),
    publicKey: () => (isV3 ? given('WECHAT_PUBLIC_KEY', WECHAT_PUBLIC_KEY, loadPublicKey) : null),
    apiV3Key: () => (isV3 ? given('WECHAT_API_V3_KEY', WECHAT_API_V3_KEY, loadApiKey) : null),
    apiV2Key: () => given('WECHAT_API_V2_KEY', WECHAT_API_V2_KEY, loadApiKey)?.toString('utf8') ?? null,
    client: () => clientCertificateOf(settings, deps),
  })
}

function v3GatewayOf(parts: Parts, reversal: Reversal | null): Gateway {
  const { settings, keys, deps, http, caller, clockWatch } = parts
  const merchantKey: MerchantKey = {
    mchId: settings.WECHAT_SP_MCH_ID ?? merchantOf(settings).mchId,
    serial: required('WECHAT_CERT_SERIAL', settings.WECHAT_CERT_SERIAL),
    privateKey: required('WECHAT_PRIVATE_KEY', keys.privateKey),
  }
  const config = { ...merchantOf(settings), merchantKey, platformKeys: platformKeysOf(parts, merchantKey) }
  return createWechatGateway(config, { http, caller, now: deps.now, clockWatch, reversal })
}

function v2GatewayOf({ settings, keys, deps, http, caller, clockWatch }: Parts, reversal: Reversal | null): Gateway {
  const config = v2ConfigOf(settings, required('WECHAT_API_V2_KEY', keys.apiV2Key))
  return createWechatV2Gateway(config, { http, caller, now: deps.now, clockWatch, reversal })
}

/**
 * Public-key mode, certificate mode, or both: a merchant that moves from one to the other gets answers signed by either.
 * With a public key, certificates are only looked for when an answer names one.
 */
function platformKeysOf(parts: Parts, merchantKey: MerchantKey): PlatformKeys {
  const { settings, keys } = parts
  const certificates = certificatesOf(parts, merchantKey)
  if (keys.publicKey === null) return required('WECHAT_API_V3_KEY', certificates)
  const publicKeyId = required('WECHAT_PUBLIC_KEY_ID', settings.WECHAT_PUBLIC_KEY_ID)
  const own = new Map([[publicKeyId, keys.publicKey]])
  if (certificates === null) return { current: () => own, preferred: () => publicKeyId }
  return {
    current: () => (certificates.current().size === 0 ? own : new Map([...certificates.current(), ...own])),
    preferred: () => publicKeyId,
    learn: async (serial, signal) => !serial.startsWith('PUB_KEY_ID_') && (await certificates.learn(serial, signal)),
  }
}

function certificatesOf({ settings, keys, deps, http }: Parts, merchantKey: MerchantKey): PlatformCertificates | null {
  if (keys.apiV3Key === null) return null
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
    apiV3Key: keys.apiV3Key,
    timeoutMs: settings.GATEWAY_TIMEOUT_MS / DOWNLOAD_PART,
    hostsCount: baseUrls.length,
    now: deps.now,
  })
  return createPlatformCertificates({
    now: deps.now,
    async download() {
      const downloaded = await download()
      if (downloaded.kind === 'failed') {
        const { message } = downloaded
        deps.log.error({ event: 'platform_certificates_failed', channel: 'wechat_pay', message })
        return downloaded
      }
      const { certificates } = downloaded
      const serials = certificates.map(({ serial }) => serial)
      deps.log.info({ event: 'platform_certificates', channel: 'wechat_pay', serials })
      const endsAtMs = Math.max(...certificates.map(({ validToMs }) => validToMs))
      deps.observer.certificateEnds('wechat_platform', endsAtMs)
      return downloaded
    },
  })
}

/** Null where the certificate for reversals is not set. */
function clientCertificateOf(settings: WechatSettings, deps: WechatSetupDeps): Keys['client'] {
  const { WECHAT_CLIENT_CERT: certificatePem, WECHAT_CLIENT_KEY: keyPem } = settings
  if (certificatePem === undefined && keyPem === undefined) return null
  const cert = required('WECHAT_CLIENT_CERT', certificatePem)
  const { certificate, privateKey } = loadAll({
    certificate: () => loadCertificate('WECHAT_CLIENT_CERT', cert, deps.now()),
    privateKey: () => loadPrivateKey('WECHAT_CLIENT_KEY', required('WECHAT_CLIENT_KEY', keyPem)),
  })
  requirePair('WECHAT_CLIENT_CERT', certificate, 'WECHAT_CLIENT_KEY', privateKey)
  warnOfExpiry('WECHAT_CLIENT_CERT', certificate, deps)
  return { cert, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
}

function reversalOf(
  { settings, keys, deps, caller, clockWatch }: Parts,
  open: (tls: { cert: string; key: string }) => Http,
): Reversal | null {
  // An APIv3 merchant without an APIv2 key has no payment-code orders to reverse; asked for one, it is told what is missing.
  if (keys.client === null || keys.apiV2Key === null) return null
  const config = v2ConfigOf(settings, keys.apiV2Key)
  return createReversal(config, { certifiedHttp: open(keys.client), caller, now: deps.now, clockWatch })
}

function v2ConfigOf(settings: WechatSettings, apiKey: string): WechatV2Config {
  return { ...merchantOf(settings), apiKey, signType: settings.WECHAT_V2_SIGN_TYPE }
}

function merchantOf(settings: WechatSettings) {
  return {
    mchId: required('WECHAT_MCH_ID', settings.WECHAT_MCH_ID),
    appId: required('WECHAT_APP_ID', settings.WECHAT_APP_ID),
    spMchId: settings.WECHAT_SP_MCH_ID ?? null,
    baseUrls: settings.WECHAT_BASE_URLS.map((url) => url.replace(/\/+$/, '')),
  }
}

function warnOfExpiry(setting: string, certificate: X509Certificate, deps: WechatSetupDeps): void {
  const daysLeft = daysLeftOf(certificate, deps.now())
  if (daysLeft <= DAYS_LEFT_WARN) deps.log.warn({ event: 'certificate_expires', setting, daysLeft })
}
