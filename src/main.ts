#!/usr/bin/env node
import { compose, StartError } from './compose.js'
import { ConfigError, loadConfig } from './config.js'
import { KeyError } from './gateways/keys.js'

/** A drain that takes longer is cut short: running syncs end within their deadlines, and leases expire by themselves. */
const DRAIN_MS_MAX = 9_000

try {
  const service = await compose(loadConfig(process.env))
  const address = await service.start()
  service.log.info({ event: 'started', address })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void drain(service, signal))
} catch (error) {
  const isForPeople = error instanceof ConfigError || error instanceof StartError || error instanceof KeyError
  process.stderr.write(`${isForPeople ? error.message : String(error instanceof Error ? error.stack : error)}\n`)
  process.exitCode = 1
}

let isDraining = false

async function drain(service: Awaited<ReturnType<typeof compose>>, signal: string): Promise<void> {
  if (isDraining) process.exit(1)
  isDraining = true
  service.log.info({ event: 'draining', signal })
  setTimeout(() => {
    service.log.error({ event: 'drain_cut_short', afterMs: DRAIN_MS_MAX })
    process.exit(1)
  }, DRAIN_MS_MAX).unref()
  await service.stop()
  service.log.info({ event: 'stopped' })
  process.exit(0)
}
