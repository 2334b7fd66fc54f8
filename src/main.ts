#!/usr/bin/env node
import { compose, StartError } from './compose.js'
import { ConfigError, loadConfig } from './config.js'
import { KeyError } from './gateways/keys.js'

/** A drain that takes longer is cut short: running syncs end within their deadlines, and leases expire by themselves. */
const DRAIN_MS_MAX = 9_000
/** For giving the leases back then. Exit within 10 s in all. */
const RELEASE_MS_MAX = 700

// From the first moment: as process 1 of a container, a process without a handler does not even notice the signal.
let isDraining = false
let service: Awaited<ReturnType<typeof compose>> | undefined
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void drain(signal))

try {
  service = await compose(loadConfig(process.env))
  const address = await service.start()
  service.log.info({ event: 'started', address })
} catch (error) {
  const isForPeople = error instanceof ConfigError || error instanceof StartError || error instanceof KeyError
  process.stderr.write(`${isForPeople ? error.message : String(error instanceof Error ? error.stack : error)}\n`)
  process.exitCode = 1
}

async function drain(signal: string): Promise<void> {
  // Nothing was begun yet, or the second signal: somebody is in a hurry.
  if (service === undefined || isDraining) process.exit(service === undefined ? 0 : 1)
  isDraining = true
  service.log.info({ event: 'draining', signal })
  setTimeout(() => {
    service?.log.error({ event: 'drain_cut_short', afterMs: DRAIN_MS_MAX })
    setTimeout(() => process.exit(1), RELEASE_MS_MAX)
    void service?.abandon().finally(() => process.exit(1))
  }, DRAIN_MS_MAX).unref()
  await service.stop()
  service.log.info({ event: 'stopped' })
  process.exit(0)
}
