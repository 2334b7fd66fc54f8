import { loadConfig } from '../../src/config.js'
import { createAlipay } from '../../src/gateways/alipay/setup.js'
import type { GatewayObserver } from '../../src/gateways/caller.js'
import { createLog } from '../../src/log.js'
import { type AlipaySandbox, type AlipaySandboxOptions, createAlipaySandbox } from '../../src/sandbox/alipay.js'
import { SILENT_OBSERVER } from './silent-observer.js'

export type AlipayUnderTestOptions = Readonly<{
  sandbox?: AlipaySandboxOptions
  settings?: Readonly<Record<string, string>>
  timeoutMs?: number
}>

/** A sandbox Alipay, listening, and the gateway that a merchant's settings give. */
export async function startAlipay(options: AlipayUnderTestOptions = {}) {
  const sandbox: AlipaySandbox = createAlipaySandbox(options.sandbox ?? {})
  await sandbox.listen()
  const calls: Readonly<{ operation: string; outcome: string }>[] = []
  const observer: GatewayObserver = {
    ...SILENT_OBSERVER,
    call: (_channel, operation, outcome) => void calls.push({ operation, outcome }),
  }
  const settings = loadConfig({
    SIGN_REQUIRED: 'false',
    GATEWAY_TIMEOUT_MS: String(options.timeoutMs ?? 3_000),
    ...sandbox.merchantSettings(),
    ...options.settings,
  })
  const { gateway, close } = createAlipay(settings, {
    log: createLog('silent'),
    observer,
    now: Date.now,
    random: () => 0,
  })
  return {
    sandbox,
    gateway,
    calls,
    async stop(): Promise<void> {
      close()
      await sandbox.close()
    },
  }
}

export type AlipayUnderTest = Awaited<ReturnType<typeof startAlipay>>
