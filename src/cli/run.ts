import type { Core } from '../compose.js'
import { type Config, loadConfig } from '../config.js'
import { KeyError } from '../gateways/keys.js'
import { CommandFailed, sayAside } from './output.js'

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
  try {
    const reason = await core.database.whyNotReady()
    if (reason !== null) throw new CommandFailed(`Not ready: ${reason}. What to do about it: unipay doctor`)
    return await work(core)
  } finally {
    await core.stop().catch((error: unknown) => sayAside(`It did not end cleanly: ${String(error)}`))
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
