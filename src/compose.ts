import type { Config } from './config.js'
import { nextSyncDelayS } from './domain/schedule.js'
import { createGateways } from './gateways/registry.js'
import { buildServer } from './http/server.js'
import { createLog, type Log } from './log.js'
import { createMetrics } from './metrics.js'
import { createDatabase, STATEMENT_WAIT_MS_MAX } from './store/client.js'
import { type EmbeddedPostgres, startEmbedded } from './store/embedded.js'
import { migrate } from './store/migrate.js'
import { createOrders } from './store/orders.js'
import { createRecords } from './store/records.js'
import { createRegistration, type NewOrder } from './store/registration.js'
import { createSyncOrder } from './sync/sync-order.js'

/** A sync asks the gateway at most three times: query, close, query again. */
const GATEWAY_CALLS_PER_SYNC_MAX = 3

/** An order that comes with a past is first left to its owner's own sync for this long. Seconds. */
const FIRST_SYNC_NOT_BEFORE_S = 30

/** The start was refused for a reason outside the settings; the message is for people. */
export class StartError extends Error {}

/**
 * How long a lease lives, in milliseconds: longer than the longest possible run, so that nobody else asks the gateway
 * about the same order while one sync still does.
 */
export function leaseMsFor(gatewayTimeoutMs: number): number {
  const longestRunMs = GATEWAY_CALLS_PER_SYNC_MAX * gatewayTimeoutMs + STATEMENT_WAIT_MS_MAX
  const leaseMs = longestRunMs + 1_000
  if (leaseMs <= longestRunMs) throw new RangeError('a lease must outlive the longest sync')
  return leaseMs
}

/** Builds and wires everything, once. Nothing listens and nothing runs until `start`. */
export async function compose(config: Config, overrides: Readonly<{ log?: Log; now?: () => number }> = {}) {
  const log = overrides.log ?? createLog(config.LOG_LEVEL)
  const now = overrides.now ?? Date.now
  const metrics = createMetrics()
  const gateways = await createGateways(config, { log, observer: metrics.gateway, now, random: Math.random })
  const embedded = config.DATABASE_URL === undefined ? await startOwnDatabase(config, log) : null
  const databaseUrl = config.DATABASE_URL ?? embedded?.url ?? ''
  if (config.MIGRATE_ON_START) await migrateOrRefuse(databaseUrl, log)

  const database = createDatabase({
    url: databaseUrl,
    connectionsMax: config.DATABASE_POOL_MAX,
    onIdleError: (error) => log.warn({ event: 'database_connection_lost', err: error }),
  })
  const orders = createOrders(database.pool, {
    leaseMs: leaseMsFor(config.GATEWAY_TIMEOUT_MS),
    channels: Object.keys(gateways.byChannel),
  })
  const syncOrder = createSyncOrder({
    orders,
    gateways: gateways.byChannel,
    log,
    observer: metrics.sync,
    policy: { notFoundGraceS: config.NOT_FOUND_GRACE_S, latePayment: config.LATE_PAYMENT },
    monotonicMs: () => performance.now(),
    random: Math.random,
  })
  let isDraining = false
  const server = buildServer({
    log,
    syncPay: {
      syncOrder,
      signing: { secrets: config.SIGN_SECRETS, type: config.SIGN_TYPE, required: config.SIGN_REQUIRED },
      reqTimeWindowS: config.REQ_TIME_WINDOW_S,
      now,
    },
    health: {
      notReadyReason: async () => (isDraining ? 'draining' : await database.whyNotReady()),
      metrics,
    },
    ops:
      config.OPS_TOKENS.length === 0
        ? null
        : {
            tokens: config.OPS_TOKENS,
            register: createRegistration(database.prisma, { firstSyncAt }),
            records: createRecords(database.prisma),
            now,
          },
  })

  return {
    log,
    server,
    database,
    syncOrder,
    /** Where it listens; null where this process does not serve HTTP. */
    async start(): Promise<string | null> {
      return await server.listen({ host: config.HOST, port: config.PORT })
    },
    /** Readiness off, no new work; what runs is finished; then everything is closed. */
    async stop(): Promise<void> {
      isDraining = true
      await server.close()
      gateways.close()
      await database.close()
      await embedded?.stop()
    },
  }
}

export type Service = Awaited<ReturnType<typeof compose>>

async function startOwnDatabase(config: Config, log: Log): Promise<EmbeddedPostgres> {
  return await startEmbedded({
    dataDir: config.DATA_DIR,
    log: (message) => log.info({ event: 'embedded_postgres', message }),
  })
}

async function migrateOrRefuse(url: string, log: Log): Promise<void> {
  const outcome = await migrate({ connectionString: url })
  if (outcome.kind === 'refused') throw new StartError(`The database cannot be used: ${outcome.message}`)
  if (outcome.applied.length > 0) log.info({ event: 'migrated', applied: outcome.applied })
  if (outcome.unknown.length > 0) log.warn({ event: 'database_is_newer', unknown: outcome.unknown })
}

function firstSyncAt(order: NewOrder, createdAt: Date, expiresAt: Date, now: Date): Date | null {
  if (order.channel === null) return null
  const ageS = (now.getTime() - createdAt.getTime()) / 1000
  const expiresInS = (expiresAt.getTime() - now.getTime()) / 1000
  const delayS = nextSyncDelayS({ status: order.status, trade: 'paying', ageS, expiresInS, closedForS: null })
  if (delayS === null) return null
  const isOld = ageS > FIRST_SYNC_NOT_BEFORE_S || expiresInS <= 0
  return new Date(now.getTime() + (isOld ? FIRST_SYNC_NOT_BEFORE_S : delayS) * 1000)
}
