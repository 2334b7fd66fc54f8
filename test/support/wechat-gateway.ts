import { loadConfig } from '../../src/config.js'
import type { GatewayObserver } from '../../src/gateways/caller.js'
import { createWechat } from '../../src/gateways/wechat/setup.js'
import { createLog } from '../../src/log.js'
import { createWechatSandbox, type WechatSandbox, type WechatSandboxOptions } from '../../src/sandbox/wechat.js'
import { SILENT_OBSERVER } from './silent-observer.js'

export type ObservedCall = Readonly<{ operation: string; outcome: string }>

export type WechatUnderTestOptions = Readonly<{
  sandbox?: WechatSandboxOptions
  settings?: Readonly<Record<string, string>>
  /** The service's clock; the sandbox has its own. */
  now?: () => number
  timeoutMs?: number
}>

/** A sandbox WeChat Pay, listening, and the gateway that a merchant's settings give. */
export async function startWechat(options: WechatUnderTestOptions = {}) {
  const sandbox: WechatSandbox = createWechatSandbox(options.sandbox ?? {})
  await sandbox.listen()
  const calls: ObservedCall[] = []
  const breakerStates: string[] = []
  const lines: Record<string, unknown>[] = []
  const observer: GatewayObserver = {
    ...SILENT_OBSERVER,
    call: (_channel, operation, outcome) => void calls.push({ operation, outcome }),
    breaker: (_channel, state) => void breakerStates.push(state),
  }
  const settings = loadConfig({
    SIGN_REQUIRED: 'false',
    GATEWAY_TIMEOUT_MS: String(options.timeoutMs ?? 3_000),
    ...sandbox.merchantSettings(),
    ...options.settings,
  })
  const authority = sandbox.tlsAuthority()
  const { gateway, close } = createWechat(settings, {
    log: createLog('info', { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }),
    observer,
    now: options.now ?? Date.now,
    random: () => 0,
    ...(authority === null ? {} : { ca: authority }),
  })
  return {
    sandbox,
    gateway,
    calls,
    breakerStates,
    /** What was logged, line by line. */
    lines,
    async stop(): Promise<void> {
      close()
      await sandbox.close()
    },
  }
}

export type WechatUnderTest = Awaited<ReturnType<typeof startWechat>>
