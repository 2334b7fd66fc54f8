import { type Config, halfSetChannels } from '../config.js'
import type { Log } from '../log.js'
import { createAlipay } from './alipay/setup.js'
import type { GatewayObserver } from './caller.js'
import type { Gateway } from './gateway.js'
import { loadAll } from './keys.js'
import { createWechat } from './wechat/setup.js'

export type GatewayDeps = Readonly<{ log: Log; observer: GatewayObserver; now: () => number; random: () => number }>

/** The gateways of the configured channels. Keys are loaded once, here; wrong ones, of either, stop the start. */
export async function createGateways(config: Config, deps: GatewayDeps) {
  for (const half of halfSetChannels(config)) deps.log.warn({ event: 'channel_half_set', ...half })
  const { wechat, alipay } = loadAll({
    wechat: () => (config.WECHAT_MCH_ID === undefined ? [] : [createWechat(config, deps)]),
    alipay: () => (config.ALIPAY_APP_ID === undefined ? [] : [createAlipay(config, deps)]),
  })
  const configured = [...wechat, ...alipay]
  const byChannel: Record<string, Gateway> = {}
  for (const { gateway } of configured) byChannel[gateway.channel] = gateway
  return {
    byChannel,
    close(): void {
      for (const { close } of configured) close()
    },
  }
}

export type Gateways = Awaited<ReturnType<typeof createGateways>>
