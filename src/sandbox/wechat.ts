import { randomBytes } from 'node:crypto'
import { compact } from './beijing-time.js'
import { createGatewayHost, type HostOptions } from './gateway-host.js'
import { keyPairFrom, privatePem, publicPem, sharedKeyPair } from './keys.js'
import { refuseProduction } from './server.js'
import { createTradeBook } from './trades.js'
import {
  type PlatformKey,
  WECHAT_PAID_STATES,
  WECHAT_STATES,
  type WechatAccount,
  type WechatContext,
} from './wechat-account.js'
import type { V2SignType } from './wechat-crypto.js'
import { createWechatV3 } from './wechat-v3.js'

export type WechatMode = 'public_key' | 'certificate' | 'v2'

export type WechatSandboxOptions = HostOptions &
  Readonly<{
    /** Which settings `merchantSettings` gives; and whether answers are signed by a public key or a certificate's. */
    mode?: WechatMode
    mchId?: string
    appId?: string
    /** Partner mode: the service provider's number; `mchId` is then the sub-merchant's. */
    spMchId?: string
    subAppId?: string
    apiV3Key?: string
    apiV2Key?: string
    v2SignType?: V2SignType
    /** PKCS#8 PEM; default: one generated per process. */
    merchantPrivateKey?: string
    platformPrivateKey?: string
    merchantSerial?: string
    publicKeyId?: string
    /** A second listener, for `api2.mch.weixin.qq.com`. */
    backup?: boolean
    /** Error codes without underscores, as some of the real ones come. */
    plainCodes?: boolean
  }>

const CERTIFICATE_LIFE_MS = 5 * 365 * 24 * 3600 * 1000

/** 28 digits: `4200`, six of the batch, the day, and ten of the trade. */
function newTransactionId(createdAt: number, serial: number): string {
  return `4200001863${compact(createdAt).slice(0, 8)}${String(serial).padStart(10, '0')}`
}

function accountFrom(options: WechatSandboxOptions): WechatAccount {
  return {
    mchId: options.mchId ?? '1900000109',
    appId: options.appId ?? 'wx8888888888888888',
    spMchId: options.spMchId ?? null,
    subAppId: options.subAppId ?? null,
    merchantSerial: options.merchantSerial ?? randomBytes(20).toString('hex').toUpperCase(),
    apiV3Key: options.apiV3Key ?? randomBytes(16).toString('hex'),
    apiV2Key: options.apiV2Key ?? randomBytes(16).toString('hex'),
    v2SignType: options.v2SignType ?? 'HMAC-SHA256',
  }
}

async function contextFrom(
  options: WechatSandboxOptions,
  account: WechatAccount,
  book: WechatContext['book'],
  now: () => number,
): Promise<WechatContext> {
  const [merchant, platform] = await Promise.all([
    keyPairFrom(options.merchantPrivateKey, 'wechat-merchant'),
    keyPairFrom(options.platformPrivateKey, 'wechat-platform'),
  ])
  const signer: PlatformKey = {
    serial: options.publicKeyId ?? `PUB_KEY_ID_0${account.mchId}${new Date(now()).getUTCFullYear()}${'0'.repeat(10)}1`,
    pair: platform,
    certificatePem: null,
    effectiveAt: now(),
    expiresAt: now() + CERTIFICATE_LIFE_MS,
  }
  return {
    account,
    merchant,
    platformKeys: [signer],
    signer,
    stranger: () => sharedKeyPair('stranger'),
    book,
    now,
    plainCodes: options.plainCodes ?? false,
  }
}

function settingsOf(mode: WechatMode, context: WechatContext, urls: readonly string[]): Record<string, string> {
  const { account } = context
  return {
    WECHAT_MCH_ID: account.mchId,
    WECHAT_APP_ID: account.appId,
    WECHAT_API: mode === 'v2' ? 'v2' : 'v3',
    WECHAT_PRIVATE_KEY: privatePem(context.merchant),
    WECHAT_CERT_SERIAL: account.merchantSerial,
    WECHAT_API_V3_KEY: account.apiV3Key,
    WECHAT_API_V2_KEY: account.apiV2Key,
    WECHAT_V2_SIGN_TYPE: account.v2SignType,
    WECHAT_BASE_URLS: urls.join(','),
    ...(account.spMchId === null ? {} : { WECHAT_SP_MCH_ID: account.spMchId }),
    ...(mode === 'public_key'
      ? { WECHAT_PUBLIC_KEY_ID: context.signer.serial, WECHAT_PUBLIC_KEY: publicPem(context.signer.pair) }
      : {}),
  }
}

/** A simulated WeChat Pay. `listen` first; then `merchantSettings` is what a merchant of it would be given. */
export function createWechatSandbox(options: WechatSandboxOptions = {}) {
  refuseProduction()
  const mode = options.mode ?? 'public_key'
  const now = options.now ?? Date.now
  const account = accountFrom(options)
  const book = createTradeBook({
    states: WECHAT_STATES,
    paidStates: WECHAT_PAID_STATES,
    tradeType: 'NATIVE',
    now,
    newTransactionId,
  })
  let running: Readonly<{ context: WechatContext; v3: ReturnType<typeof createWechatV3> }> | undefined

  function started() {
    if (running === undefined) {
      throw new Error('the sandbox was not started: call listen() first')
    }
    return running
  }

  const { urls, ...host } = createGatewayHost(options, {
    book,
    withBackup: options.backup ?? false,
    tls: () => undefined,
    async prepare() {
      const context = running?.context ?? (await contextFrom(options, account, book, now))
      running ??= { context, v3: createWechatV3(context) }
    },
    understand: (received) => started().v3.understand(received),
  })

  return {
    ...host,
    /** Under the names of the service's settings (INTERFACE.md). */
    merchantSettings: () => settingsOf(mode, started().context, urls()),
  }
}
export type WechatSandbox = ReturnType<typeof createWechatSandbox>
