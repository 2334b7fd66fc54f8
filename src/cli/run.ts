import type { Core } from '../compose.js'
import { type Config, loadConfig } from '../config.js'
import { KeyError } from '../gateways/keys.js'
import { CommandFailed, sayAside } from './output.js'

/** As a shell counts who ended by a signal. Not SIGHUP: to heed it would undo `nohup`. */
const STATUS_OF = { SIGINT: 130, SIGTERM: 143 } as const
/** For giving leases back when a command is interrupted: nobody waits longer for a database that is away. */
const RELEASE_MS_MAX = 2_000

/**
 * The service's own composition, without its server and its loops. What it logs goes to standard error, from
 * `logLevel` on, so that standard output is the command's alone. Only `migrate` changes the tables of a database that was
 * given.
 */
export async function withService<T>(
  work: (core: Core) => Promise<T>,
  logLevel: 'error' | 'silent' = 'error',
): Promise<T> {
  const config = loadConfig(process.env)
  const core = await composed(config, logLevel)
  const signals = Object.keys(STATUS_OF) as (keyof typeof STATUS_OF)[]
  const onSignal = (signal: keyof typeof STATUS_OF) => void leave(core, signal)
  for (const signal of signals) process.on(signal, onSignal)
  try {
    const reason = await core.database.whyNotReady()
    if (reason !== null) throw new CommandFailed(`Not ready: ${reason}. What to do about it: unipay doctor`)
    return await work(core)
  } finally {
    await core.stop().catch((error: unknown) => sayAside(`It did not end cleanly: ${String(error)}`))
    for (const signal of signals) process.off(signal, onSignal)
  }
}

/** Gives back what is being synced, which would else be busy for merchants until the lease ends, and is gone. */
async function leave(core: Core, signal: keyof typeof STATUS_OF): Promise<void> {
  // A batch stops by itself, in its own way.
  if (process.listenerCount(signal) > 1) return
  const end = (told: string) => {
    sayAside(`Interrupted by ${signal}. ${told}`)
    process.exit(STATUS_OF[signal])
  }
  setTimeout(end, RELEASE_MS_MAX, 'What was being synced stays busy until its lease ends, within a minute.')
  try {
    end(`Orders given back, for others to sync: ${await core.leases.releaseHeld()}`)
  } catch (error) {
    end(`What was being synced stays busy until its lease ends, within a minute: ${String(error)}`)
  }
}

/** Loaded only now: what was mistyped is told at once. */
async function composed(config: Config, logLevel: string): Promise<Core> {
  const [{ composeCore, StartError }, { createLog }, { default: pino }] = await Promise.all([
    import('../compose.js'),
    import('../log.js'),
    import('pino'),
  ])
  try {
    const log = createLog(logLevel, pino.destination(2))
    return await composeCore({ ...config, MIGRATE_ON_START: config.DATABASE_URL === undefined }, { log })
  } catch (error) {
    if (error instanceof StartError || error instanceof KeyError) throw new CommandFailed(error.message)
    throw error
  }
}
