#!/usr/bin/env node
import { compose, startFailure } from './compose.js'
import { loadConfig } from './config.js'
import { versionHere } from './version.js'

/** One second for balancers to see that this process is not ready, one for clients whose connections are still open. */
const DRAIN_TIMES = { listenMs: 1_000, quietMs: 1_000 }
/** From here on, gateways are waited for no longer: what is not known by then is answered as unknown, and recorded. */
const HURRY_AFTER_MS = 7_000
/** Calls that are repeated within their own deadline are ended again. */
const HURRY_EVERY_MS = 200
/** A drain that takes longer is cut short, and is over within 10 s in any case. */
const DRAIN_MS_MAX = 9_000
/** For giving the leases back then. */
const RELEASE_MS_MAX = 500

// From the first moment: as process 1 of a container, a process without a handler does not even notice the signal.
let isDraining = false
let service: Awaited<ReturnType<typeof compose>> | undefined
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void drain(signal))

try {
  const config = loadConfig(process.env)
  service = await compose(config)
  const address = await service.start()
  const channels = Object.keys(service.gateways.byChannel)
  service.log.info({ event: 'started', address, version: versionHere(), roles: config.ROLES, channels })
} catch (error) {
  process.stderr.write(`${startFailure(error)}\n`)
  process.exitCode = 1
  // What was built already must not keep this process: without its server, nobody would see it at work.
  await service?.stop().catch(() => process.exit(1))
}

async function drain(signal: string): Promise<void> {
  // Nothing was begun yet, or the second signal: somebody is in a hurry.
  if (service === undefined || isDraining) process.exit(service === undefined ? 0 : 1)
  isDraining = true
  const draining = service
  draining.log.info({ event: 'draining', signal })
  setTimeout(() => setInterval(() => draining.hurry(), HURRY_EVERY_MS), HURRY_AFTER_MS)
  setTimeout(() => void cutShort(draining), DRAIN_MS_MAX)
  try {
    await draining.stop(DRAIN_TIMES)
    draining.log.info({ event: 'stopped' })
    process.exit(0)
  } catch (error) {
    draining.log.error({ event: 'drain_failed', err: error })
    process.exit(1)
  }
}

async function cutShort(draining: Awaited<ReturnType<typeof compose>>): Promise<void> {
  draining.log.error({ event: 'drain_cut_short', afterMs: DRAIN_MS_MAX })
  setTimeout(() => process.exit(1), RELEASE_MS_MAX)
  try {
    await draining.abandon()
  } catch (error) {
    draining.log.warn({ event: 'leases_not_released', err: error })
  }
  process.exit(1)
}
