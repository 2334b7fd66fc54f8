import type { Config } from '../config.js'
import type { Log } from '../log.js'
import { createAlipay } from './alipay/setup.js'
import { createCaller, type GatewayObserver } from './caller.js'
import type { Gateway } from './gateway.js'
import { createHttp, type Http } from './http.js'
import { KeyError, loadPrivateKey, loadPublicKey, required } from './keys.js'
import { createWechatGateway } from './wechat/index.js'

export type GatewayDeps = Readonly<{ log: Log; observer: GatewayObserver; now: () => number; random: () => number }>

/** The gateways of the configured channels. Keys are loaded once, here; a wrong one stops the start. */
export async function createGateways(config: Config, deps: GatewayDeps) {
  const byChannel: Record<string, Gateway> = {}
  const https: Http[] = []
  const parts = (channel: string) => {
    const http = createHttp({ timeoutMs: config.GATEWAY_TIMEOUT_MS, connectionsMax: config.GATEWAY_CONCURRENCY })
    https.push(http)
    const caller = createCaller({
      channel,
      timeoutMs: config.GATEWAY_TIMEOUT_MS,
      ratePerS: config.GATEWAY_RATE_PER_S,
      concurrency: config.GATEWAY_CONCURRENCY,
      ...deps,
    })
    return { http, caller, now: deps.now }
  }
  if (config.WECHAT_MCH_ID !== undefined) {
    const onSkew = (skewS: number) => deps.log.warn({ event: 'clock_skew', channel: 'wechat_pay', skewS })
    byChannel['wechat_pay'] = createWechatGateway(wechatConfig(config), { ...parts('wechat_pay'), onSkew })
  }
  const alipay = config.ALIPAY_APP_ID === undefined ? null : createAlipay(config, deps)
  if (alipay !== null) byChannel['ali_pay'] = alipay.gateway
  return {
    byChannel,
    close(): void {
      for (const http of https) http.close()
      alipay?.close()
    },
  }
}

export type Gateways = Awaited<ReturnType<typeof createGateways>>

function wechatConfig(config: Config): Parameters<typeof createWechatGateway>[0] {
  const forV3 = 'WECHAT_API=v3 needs it'
  if (config.WECHAT_API !== 'v3') throw new KeyError('WECHAT_API: only v3 is served')
  const publicKeyId = required('WECHAT_PUBLIC_KEY_ID', config.WECHAT_PUBLIC_KEY_ID, forV3)
  const publicKey = loadPublicKey('WECHAT_PUBLIC_KEY', required('WECHAT_PUBLIC_KEY', config.WECHAT_PUBLIC_KEY, forV3))
  const keys = new Map([[publicKeyId, publicKey]])
  const mchId = required('WECHAT_MCH_ID', config.WECHAT_MCH_ID, forV3)
  return {
    mchId,
    appId: required('WECHAT_APP_ID', config.WECHAT_APP_ID, forV3),
    spMchId: config.WECHAT_SP_MCH_ID ?? null,
    merchantKey: {
      mchId: config.WECHAT_SP_MCH_ID ?? mchId,
      serial: required('WECHAT_CERT_SERIAL', config.WECHAT_CERT_SERIAL, forV3),
      privateKey: loadPrivateKey(
        'WECHAT_PRIVATE_KEY',
        required('WECHAT_PRIVATE_KEY', config.WECHAT_PRIVATE_KEY, forV3),
      ),
    },
    platformKeys: { current: () => keys, preferred: () => publicKeyId },
    baseUrls: config.WECHAT_BASE_URLS.map((url) => url.replace(/\/+$/, '')),
  }
}
