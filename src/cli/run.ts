import type { Service } from '../compose.js'
import { type Config, loadConfig } from '../config.js'
import { KeyError } from '../gateways/keys.js'
import { CommandFailed, sayAside } from './output.js'

/**
 * The service's own composition, without listening and without its loops. What it logs goes to standard error, from
 * `logLevel` on, so that standard output is the command's alone. Only `migrate` changes the tables of a database that was
 * given.
 */
export async function withService<T>(
  work: (service: Service) => Promise<T>,
  logLevel: 'error' | 'silent' = 'error',
): Promise<T> {
  const config = loadConfig(process.env)
  const service = await composed(config, logLevel)
  try {
    const reason = await service.database.whyNotReady()
    if (reason !== null) throw new CommandFailed(`Not ready: ${reason}. What to do about it: unipay doctor`)
    return await work(service)
  } finally {
    await service.stop().catch((error: unknown) => sayAside(`It did not end cleanly: ${String(error)}`))
  }
}

/** Loaded only now: what was mistyped is told at once. */
async function composed(config: Config, logLevel: string): Promise<Service> {
  const [{ compose, StartError }, { createLog }, { destination }] = await Promise.all([
    import('../compose.js'),
    import('../log.js'),
    import('pino'),
  ])
  try {
    const log = createLog(logLevel, destination(2))
    return await compose({ ...config, MIGRATE_ON_START: config.DATABASE_URL === undefined }, { log })
  } catch (error) {
    if (error instanceof StartError || error instanceof KeyError) throw new CommandFailed(error.message)
    throw error
  }
}
