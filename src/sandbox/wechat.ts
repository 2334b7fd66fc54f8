import { randomBytes } from 'node:crypto'
import { compact } from './beijing-time.js'
import { createGatewayHost, type HostOptions } from './gateway-host.js'
import { type KeyPair, keyPairFrom, newKeyPair, privatePem, publicPem, sharedKeyPair } from './keys.js'
import { refuseProduction, type TlsMaterial } from './server.js'
import { createTradeBook, type TradeBook } from './trades.js'
import {
  type PlatformKey,
  WECHAT_PAID_STATES,
  WECHAT_STATES,
  type WechatAccount,
  type WechatContext,
} from './wechat-account.js'
import type { V2SignType } from './wechat-crypto.js'
import { merchantCertificate, newPlatformCertificate, newPublicKey, serialOf, tlsMaterial } from './wechat-keys.js'
import { createWechatV2 } from './wechat-v2.js'
import { createWechatV3 } from './wechat-v3.js'

/** Which settings the merchant has. The gateway serves APIv2 and APIv3 in every mode, as the real one does. */
export type WechatMode = 'public_key' | 'certificate' | 'v2'

export type WechatSandboxOptions = HostOptions &
  Readonly<{
    mode?: WechatMode
    mchId?: string
    appId?: string
    /** Partner mode: the service provider's number; `mchId` is then the sub-merchant's, `appId` the provider's. */
    spMchId?: string
    subAppId?: string
    apiV3Key?: string
    apiV2Key?: string
    v2SignType?: V2SignType
    /** PKCS#8 PEM; default: one generated per process. */
    merchantPrivateKey?: string
    platformPrivateKey?: string
    publicKeyId?: string
    /** A second listener, for `api2.mch.weixin.qq.com`. */
    backup?: boolean
    /** HTTPS, with client certificates checked on reversals. Over plain HTTP there is none to check. */
    tls?: boolean
    /** Error codes without underscores, as some of the real ones come. */
    plainCodes?: boolean
  }>

/** 28 digits: `4200`, six of the batch, the day, and ten of the trade. */
function newTransactionId(createdAt: number, serial: number): string {
  return `4200001863${compact(createdAt).slice(0, 8)}${String(serial).padStart(10, '0')}`
}

// Real ids are 45 characters: the prefix, and 34 digits.
let publicKeys = 0
function newPublicKeyId(mchId: string): string {
  publicKeys += 1
  return `PUB_KEY_ID_0${mchId}2024${String(publicKeys).padStart(19, '0')}`
}

function accountFrom(options: WechatSandboxOptions, merchant: KeyPair): WechatAccount {
  return {
    mchId: options.mchId ?? '1900000109',
    appId: options.appId ?? 'wx8888888888888888',
    spMchId: options.spMchId ?? null,
    subAppId: options.subAppId ?? null,
    merchantSerial: serialOf(merchant),
    apiV3Key: options.apiV3Key ?? randomBytes(16).toString('hex'),
    apiV2Key: options.apiV2Key ?? randomBytes(16).toString('hex'),
    v2SignType: options.v2SignType ?? 'HMAC-SHA256',
  }
}

type Prepared = Readonly<{
  context: WechatContext
  v2: ReturnType<typeof createWechatV2>
  v3: ReturnType<typeof createWechatV3>
  clientCertificate: string
  tls: TlsMaterial | undefined
}>

async function prepare(options: WechatSandboxOptions, book: TradeBook, now: () => number): Promise<Prepared> {
  const [merchant, platform] = await Promise.all([
    keyPairFrom(options.merchantPrivateKey, 'wechat-merchant'),
    keyPairFrom(options.platformPrivateKey, 'wechat-platform'),
  ])
  const account = accountFrom(options, merchant)
  const signer =
    options.mode === 'certificate'
      ? await newPlatformCertificate(platform, now())
      : newPublicKey(platform, options.publicKeyId ?? newPublicKeyId(account.mchId), now())
  const context: WechatContext = {
    account,
    merchant,
    platformKeys: [signer],
    signer,
    stranger: () => sharedKeyPair('stranger'),
    book,
    now,
    plainCodes: options.plainCodes ?? false,
  }
  return {
    context,
    v2: createWechatV2(context),
    v3: createWechatV3(context),
    clientCertificate: await merchantCertificate(merchant, account.spMchId ?? account.mchId, now()),
    tls: options.tls === true ? await tlsMaterial(now()) : undefined,
  }
}

function settingsOf(mode: WechatMode, prepared: Prepared, urls: readonly string[]): Record<string, string> {
  const { account, merchant, signer } = prepared.context
  const common = {
    WECHAT_MCH_ID: account.mchId,
    WECHAT_APP_ID: account.appId,
    WECHAT_API_V2_KEY: account.apiV2Key,
    WECHAT_V2_SIGN_TYPE: account.v2SignType,
    WECHAT_CLIENT_CERT: prepared.clientCertificate,
    WECHAT_CLIENT_KEY: privatePem(merchant),
    WECHAT_BASE_URLS: urls.join(','),
    ...(account.spMchId === null ? {} : { WECHAT_SP_MCH_ID: account.spMchId }),
  }
  if (mode === 'v2') {
    return { ...common, WECHAT_API: 'v2' }
  }
  return {
    ...common,
    WECHAT_API: 'v3',
    WECHAT_PRIVATE_KEY: privatePem(merchant),
    WECHAT_CERT_SERIAL: account.merchantSerial,
    WECHAT_API_V3_KEY: account.apiV3Key,
    ...(mode === 'public_key'
      ? { WECHAT_PUBLIC_KEY_ID: signer.serial, WECHAT_PUBLIC_KEY: publicPem(signer.pair) }
      : {}),
  }
}

/** A key more, of the same kind; the one before it stays valid, older ones go. Gives its serial or id. */
async function rotate(context: WechatContext, answersWith: 'new' | 'old'): Promise<string> {
  const pair = await newKeyPair()
  const isCertificate = context.signer.certificatePem !== null
  const added: PlatformKey = isCertificate
    ? await newPlatformCertificate(pair, context.now())
    : newPublicKey(pair, newPublicKeyId(context.account.mchId), context.now())
  context.platformKeys = [context.signer, added]
  context.signer = answersWith === 'new' ? added : context.signer
  return added.serial
}

/** A simulated WeChat Pay. `listen` first; then `merchantSettings` is what a merchant of it would be given. */
export function createWechatSandbox(options: WechatSandboxOptions = {}) {
  refuseProduction()
  const now = options.now ?? Date.now
  const book = createTradeBook({
    states: WECHAT_STATES,
    paidStates: WECHAT_PAID_STATES,
    tradeType: 'NATIVE',
    now,
    newTransactionId,
  })
  let prepared: Prepared | undefined

  function started(): Prepared {
    if (prepared === undefined) {
      throw new Error('the sandbox was not started: call listen() first')
    }
    return prepared
  }

  const rotateKeys = async (answersWith: 'new' | 'old' = 'new') => await rotate(started().context, answersWith)
  const { urls, ...host } = createGatewayHost(options, {
    book,
    withBackup: options.backup ?? false,
    tls: () => started().tls,
    async prepare() {
      prepared ??= await prepare(options, book, now)
    },
    understand(received) {
      const { v2, v3 } = started()
      return v2.speaks(received.path) ? v2.understand(received) : v3.understand(received)
    },
    rotateKeys,
  })

  return {
    ...host,
    rotateKeys,
    /** Under the names of the service's settings (INTERFACE.md). */
    merchantSettings: () => settingsOf(options.mode ?? 'public_key', started(), urls()),
    /** The authority of the HTTPS listener, PEM; null over plain HTTP. */
    tlsAuthority: (): string | null => started().tls?.ca ?? null,
  }
}
export type WechatSandbox = ReturnType<typeof createWechatSandbox>
