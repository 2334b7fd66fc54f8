import { ALIPAY_PAID_STATES, ALIPAY_STATES, type AlipayContext } from './alipay-account.js'
import { alipayCertificates } from './alipay-certificates.js'
import { createAlipayGateway } from './alipay-gateway.js'
import { compact } from './beijing-time.js'
import { createGatewayHost, type HostOptions } from './gateway-host.js'
import { keyPairFrom, newKeyPair, privatePem, publicPem, sharedKeyPair } from './keys.js'
import { refuseProduction } from './server.js'
import { createTradeBook } from './trades.js'

export type AlipayMode = 'key' | 'certificate'

export type AlipaySandboxOptions = HostOptions &
  Readonly<{
    mode?: AlipayMode
    appId?: string
    /** PKCS#8 PEM; default: one generated per process. */
    appPrivateKey?: string
    alipayPrivateKey?: string
    /** Answers begin with `sign`; the real ones do either. */
    signFirst?: boolean
  }>

/** 28 digits: the day, `22001`, and 15 of the trade. */
function newTradeNo(createdAt: number, serial: number): string {
  return `${compact(createdAt).slice(0, 8)}22001${String(serial).padStart(15, '0')}`
}

async function contextFrom(
  options: AlipaySandboxOptions,
  book: AlipayContext['book'],
  now: () => number,
): Promise<AlipayContext> {
  const [app, alipay] = await Promise.all([
    keyPairFrom(options.appPrivateKey, 'alipay-app'),
    keyPairFrom(options.alipayPrivateKey, 'alipay-platform'),
  ])
  const appId = options.appId ?? '9021000100000001'
  return {
    appId,
    app,
    alipay,
    stranger: () => sharedKeyPair('stranger'),
    certificates: options.mode === 'certificate' ? await alipayCertificates(app, alipay, appId, now()) : null,
    signFirst: options.signFirst ?? false,
    book,
    now,
  }
}

function settingsOf(context: AlipayContext, url: string): Record<string, string> {
  const { certificates } = context
  return {
    ALIPAY_APP_ID: context.appId,
    ALIPAY_PRIVATE_KEY: privatePem(context.app),
    ALIPAY_GATEWAY_URL: `${url}/gateway.do`,
    ...(certificates === null
      ? { ALIPAY_PUBLIC_KEY: publicPem(context.alipay) }
      : {
          ALIPAY_APP_CERT: certificates.app,
          ALIPAY_CERT: certificates.alipay,
          ALIPAY_ROOT_CERT: certificates.root,
        }),
  }
}

/** Alipay signs with a new key from now on; gives the certificate's number, or nothing in key mode. */
async function rotate(context: AlipayContext): Promise<string> {
  const alipay = await newKeyPair()
  const isCertificateMode = context.certificates !== null
  context.certificates = isCertificateMode
    ? await alipayCertificates(context.app, alipay, context.appId, context.now())
    : null
  context.alipay = alipay
  return context.certificates?.numbers.alipay ?? ''
}

/** A simulated Alipay. `listen` first; then `merchantSettings` is what a merchant of it would be given. */
export function createAlipaySandbox(options: AlipaySandboxOptions = {}) {
  refuseProduction()
  const now = options.now ?? Date.now
  const book = createTradeBook({
    states: ALIPAY_STATES,
    paidStates: ALIPAY_PAID_STATES,
    tradeType: 'QR_CODE',
    now,
    newTransactionId: newTradeNo,
  })
  let running: Readonly<{ context: AlipayContext; gateway: ReturnType<typeof createAlipayGateway> }> | undefined

  function started() {
    if (running === undefined) {
      throw new Error('the sandbox was not started: call listen() first')
    }
    return running
  }

  const rotateKeys = async () => await rotate(started().context)
  const { urls, ...host } = createGatewayHost(options, {
    book,
    withBackup: false,
    tls: () => undefined,
    async prepare() {
      const context = running?.context ?? (await contextFrom(options, book, now))
      running ??= { context, gateway: createAlipayGateway(context) }
    },
    understand: (received) => started().gateway.understand(received),
    rotateKeys,
  })

  return {
    ...host,
    rotateKeys,
    /** Under the names of the service's settings (INTERFACE.md). */
    merchantSettings: () => settingsOf(started().context, urls()[0]),
  }
}
export type AlipaySandbox = ReturnType<typeof createAlipaySandbox>
