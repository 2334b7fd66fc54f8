import { setTimeout as pause } from 'node:timers/promises'

import { type Config, ConfigError } from './config.js'
import { nextSyncDelayS } from './domain/schedule.js'
import { ASK_DOCTOR, failureOfSurroundings } from './failure.js'
import { certificateExpiries } from './gateways/certificates.js'
import { KeyError } from './gateways/keys.js'
import { createGateways } from './gateways/registry.js'
import { SESSION_MAX_AGE_S } from './http/console/session.js'
import { drainConnections } from './http/drain.js'
import type { ServerDeps } from './http/server.js'
import { watchLoad } from './http/shed-load.js'
import { createLog, type Log } from './log.js'
import { type Loop, startLoop } from './loop.js'
import { createMetrics } from './metrics.js'
import { type Courier, createCourier } from './notify/courier.js'
import { createBacklog } from './store/backlog.js'
import { createBatches } from './store/batches.js'
import { createDatabase, STATEMENT_WAIT_MS_MAX } from './store/client.js'
import { type EmbeddedPostgres, startEmbedded } from './store/embedded.js'
import { createExceptions } from './store/exceptions.js'
import { createImport } from './store/import.js'
import { createLeases } from './store/leases.js'
import { migrate } from './store/migrate.js'
import { createNotices } from './store/notices.js'
import { createOutbox } from './store/outbox.js'
import { createBatchSelection, createOverview } from './store/overview.js'
import { createRecords } from './store/records.js'
import { createRegistration, type NewOrder } from './store/registration.js'
import { createRetention } from './store/retention.js'
import { createSignOuts } from './store/sign-outs.js'
import { createSyncCommit } from './store/sync-commit.js'
import { createBatchRunner } from './sync/batch.js'
import { GATEWAY_CALLS_MAX } from './sync/repair.js'
import { createSweeper } from './sync/sweeper.js'
import { createSyncOrder } from './sync/sync-order.js'
import { newTraceId } from './trace-id.js'

/** What a lease lives on past the longest sync: room for timers that fire late. Milliseconds. */
const LEASE_MARGIN_MS = 1_000

/** An order that comes with a past is first left to its owner's own sync for this long. Seconds. */
const FIRST_SYNC_NOT_BEFORE_S = 30

/** How often the sweeper and the courier look for due work when there was none. Milliseconds. */
const POLL_MS = 500
/** After a round that failed: the database is probably away. Milliseconds. */
const ERROR_PAUSE_MS = 1_000

/**
 * How a server leaves, in milliseconds: `listenMs` it goes on as before, but is not ready, so that balancers turn away;
 * then it takes no new connection, and those it has are kept for `quietMs` more.
 */
export type DrainTimes = Readonly<{ listenMs: number; quietMs: number }>
const AT_ONCE: DrainTimes = { listenMs: 0, quietMs: 0 }

/** A request that has not arrived in full this long after its beginning is dropped while a server leaves. Milliseconds. */
const LAST_REQUEST_MS_MAX = 3_000

/** A batch's own look at things is short enough; nothing ends its pauses early. */
const NEVER = (): Promise<never> => new Promise(() => undefined)

/** The start was refused for a reason outside the settings; the message is for people. */
export class StartError extends Error {}

/** What to tell of a start that failed: a message where people can mend it, else all that is known. */
export function startFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const isForPeople = [ConfigError, StartError, KeyError].some((kind) => error instanceof kind)
  // A port of the demo's is taken: nothing that doctor looks at.
  const isPort = 'syscall' in error && error.syscall === 'listen'
  if (isForPeople || isPort) return error.message
  const failure = failureOfSurroundings(error)
  return failure === null ? (error.stack ?? error.message) : `${failure}. ${ASK_DOCTOR}`
}

/** How long a lease lives, in milliseconds; `createSyncOrder` refuses one that its syncs could outlive. */
export function leaseMsFor(gatewayTimeoutMs: number): number {
  return STATEMENT_WAIT_MS_MAX + GATEWAY_CALLS_MAX * gatewayTimeoutMs + LEASE_MARGIN_MS
}

type Overrides = Readonly<{ log?: Log; now?: () => number }>

/** All but the server, built and wired once: what a command works with. Nothing runs by itself. */
export async function composeCore(config: Config, overrides: Overrides = {}) {
  const log = overrides.log ?? createLog(config.LOG_LEVEL)
  const now = overrides.now ?? Date.now
  const metrics = createMetrics(now)
  const gateways = await createGateways(config, { log, observer: metrics.gateway, now, random: Math.random })
  for (const { setting, notAfter } of certificateExpiries(config, now())) {
    metrics.gateway.certificateEnds(setting, notAfter.getTime())
  }
  const embedded = config.DATABASE_URL === undefined ? await startOwnDatabase(config, log) : null
  const databaseUrl = config.DATABASE_URL ?? embedded?.url ?? ''
  if (config.MIGRATE_ON_START) await migrateOrRefuse(databaseUrl, log)

  const database = createDatabase({
    url: databaseUrl,
    connectionsMax: config.DATABASE_POOL_MAX,
    onIdleError: (error) => log.warn({ event: 'database_connection_lost', err: error }),
  })
  const leaseMs = leaseMsFor(config.GATEWAY_TIMEOUT_MS)
  const leases = createLeases(database.pool, {
    leaseMs,
    channels: Object.values(gateways.byChannel).map(({ channel }) => channel),
  })
  const syncOrder = createSyncOrder({
    leases,
    commitSync: createSyncCommit(database.pool, leases),
    gateways: gateways.byChannel,
    log,
    observer: metrics.sync,
    policy: { notFoundGraceS: config.NOT_FOUND_GRACE_S, latePayment: config.LATE_PAYMENT },
    bounds: { leaseMs, gatewayCallMs: config.GATEWAY_TIMEOUT_MS, statementMs: STATEMENT_WAIT_MS_MAX },
    monotonicMs: () => performance.now(),
    random: Math.random,
  })
  const batches = createBatches(database.pool, {
    channels: Object.keys(gateways.byChannel),
    takenMs: leaseMs,
  })
  const operations = {
    register: createRegistration(database.pool, database.prisma, { firstSyncAt }),
    registerMany: createImport(database.pool, { firstSyncAt }),
    records: createRecords(database.prisma),
    retention: createRetention(database.pool),
    exceptions: createExceptions(database.prisma),
    notices: createNotices(database.prisma),
    batches,
    batchRatePerSMax: config.GATEWAY_RATE_PER_S,
    syncOrder,
    now,
  }
  const sweepers = Object.values(gateways.byChannel).map((gateway) =>
    createSweeper({ gateway, leases, syncOrder, concurrency: sweeperConcurrency(config), log, newTraceId }),
  )
  const batchRunner = createBatchRunner({
    batches,
    syncOrder,
    gateways: gateways.byChannel,
    concurrency: sweeperConcurrency(config),
    log,
    monotonicMs: () => performance.now(),
  })
  const courier = createCourier({
    outbox: createOutbox(database.pool),
    signing: { secret: config.SIGN_SECRETS[0] ?? null, type: config.SIGN_TYPE },
    allowHosts: config.NOTICE_ALLOW_HOSTS,
    log,
    observer: metrics.courier,
    monotonicMs: () => performance.now(),
    now,
  })

  return {
    log,
    now,
    metrics,
    gateways,
    database,
    leases,
    syncOrder,
    sweepers,
    batchRunner,
    courier,
    /** What operators do, for the routes and for the commands alike. */
    operations,
    /** What runs is finished within its deadlines; then everything is closed. */
    async stop(): Promise<void> {
      await Promise.all([
        ...sweepers.map(async (sweeper) => await sweeper.drain()),
        batchRunner.drain(),
        courier.drain(),
      ])
      courier.close()
      gateways.close()
      await database.close()
      await embedded?.stop()
    },
  }
}

export type Core = Awaited<ReturnType<typeof composeCore>>

/** The service. Nothing listens and nothing runs until `start`. */
export async function compose(config: Config, overrides: Overrides = {}) {
  const core = await composeCore(config, overrides)
  const { log, gateways } = core
  let isDraining = false
  let isListening = true
  const load = watchLoad(core.database.load)
  // Loaded here, not above: commands have no server, and its packages are half of what there is to load.
  const { buildServer } = await import('./http/server.js')
  const server = buildServer(serverDeps(config, core, { overload: load.overload, isDraining: () => isDraining }))

  // Decided when the answer is sent: a call that began before may end on a connection that is dropped once it is idle.
  server.addHook('onSend', (_request, reply, _payload, done) => {
    if (!isListening) void reply.header('connection', 'close')
    done()
  })

  const loops: Loop[] = []
  const loop = (name: string, { runOnce, freed }: Pick<Courier, 'runOnce' | 'freed'>) =>
    loops.push(
      startLoop({ name, runOnce, sooner: freed, idleMs: POLL_MS, errorMs: ERROR_PAUSE_MS, log, random: Math.random }),
    )

  async function drainServer({ listenMs, quietMs }: DrainTimes): Promise<void> {
    if (listenMs > 0) await pause(listenMs)
    isListening = false
    // Nor is anybody waited for who sends his request drop by drop; Node reads these at its next look, a second later.
    server.server.headersTimeout = LAST_REQUEST_MS_MAX
    server.server.requestTimeout = LAST_REQUEST_MS_MAX
    await drainConnections(server.server, quietMs)
    await server.close()
  }

  return {
    ...core,
    server,
    /** Starts this process's roles. Where it listens; every role serves health and metrics, only `api` the rest. */
    async start(): Promise<string> {
      // First of all, since it is what can be refused: the port may be taken.
      const where = { host: config.HOST, port: config.PORT }
      const address = await orRefused('HOST or PORT', async () => await server.listen(where))
      if (config.ROLES.includes('sweeper')) for (const sweeper of core.sweepers) loop('sweeper', sweeper)
      if (config.ROLES.includes('sweeper')) loop('batch', { runOnce: core.batchRunner.runOnce, freed: NEVER })
      if (config.ROLES.includes('courier')) loop('courier', core.courier)
      return address
    },
    /** Readiness off, no new work; what runs is finished within its deadlines; then everything is closed. */
    async stop(times: DrainTimes = AT_ONCE): Promise<void> {
      isDraining = true
      await Promise.all([drainServer(times), ...loops.map(async (running) => await running.stop())])
      load.stop()
      await core.stop()
    },
    /** While `stop` runs: calls to gateways end now, as unknown; their syncs are recorded and give their leases back. */
    hurry(): void {
      gateways.close()
    },
    /** For a drain that is cut short: gives back the leases that would else keep orders busy until they expire. */
    async abandon(): Promise<void> {
      const released = await core.leases.releaseHeld()
      log.warn({ event: 'leases_released', released })
    },
  }
}

export type Service = Awaited<ReturnType<typeof compose>>

type ServerState = Readonly<{ overload: ReturnType<typeof watchLoad>['overload']; isDraining: () => boolean }>

/** What the server of this process's roles works with. */
function serverDeps(config: Config, core: Core, state: ServerState): ServerDeps {
  const { log, now, metrics, gateways, database, syncOrder, operations } = core
  const overview = createOverview(database.pool, Object.keys(gateways.byChannel))
  const backlog = createBacklog(overview, () => performance.now())
  const isApi = config.ROLES.includes('api')
  return {
    log,
    admission: {
      merchantRatePerS: config.UNIPAY_RATE_PER_S,
      overload: state.overload,
      onRefused: metrics.http.refused,
      monotonicMs: () => performance.now(),
    },
    observer: metrics.http,
    trustedProxies: config.TRUST_PROXY,
    syncPay: isApi
      ? {
          syncOrder,
          signing: { secrets: config.SIGN_SECRETS, type: config.SIGN_TYPE, required: config.SIGN_REQUIRED },
          reqTimeWindowS: config.REQ_TIME_WINDOW_S,
          now,
        }
      : null,
    health: {
      notReadyReason: async () => (state.isDraining() ? 'draining' : await database.whyNotReady()),
      metrics: { contentType: metrics.contentType, text: async () => await metrics.text(await backlog()) },
    },
    ops:
      !isApi || config.OPS_TOKENS.length === 0
        ? null
        : {
            tokens: config.OPS_TOKENS,
            ...operations,
          },
    consolePage:
      !isApi || config.OPS_TOKENS.length === 0
        ? null
        : {
            tokens: config.OPS_TOKENS,
            ...operations,
            overview,
            channels: Object.values(gateways.byChannel),
            signOuts: createSignOuts(database.pool, { lifeS: SESSION_MAX_AGE_S }),
            selection: createBatchSelection(database.pool, Object.keys(gateways.byChannel)),
          },
  }
}

/** Half of the channel's places, and no more than its rate lets through in a second: merchants find room, nothing queues long. */
function sweeperConcurrency(config: Config): number {
  return Math.max(1, Math.min(Math.floor(config.GATEWAY_CONCURRENCY / 2), config.GATEWAY_RATE_PER_S))
}

async function startOwnDatabase(config: Config, log: Log): Promise<EmbeddedPostgres> {
  const told = (message: string) => log.info({ event: 'embedded_postgres', message })
  return await orRefused('DATA_DIR', async () => await startEmbedded({ dataDir: config.DATA_DIR, log: told }))
}

/** For settings that doctor does not try: what stands in the way is told with their name, and nobody is sent to it. */
async function orRefused<T>(settings: string, begin: () => Promise<T>): Promise<T> {
  try {
    return await begin()
  } catch (cause) {
    const failure = failureOfSurroundings(cause)
    throw failure === null ? cause : new StartError(`${settings}: ${failure}`, { cause })
  }
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
  // One whose creation lies ahead is new all the same.
  const delayS = nextSyncDelayS({
    status: order.status,
    trade: 'paying',
    ageS: Math.max(0, ageS),
    expiresInS,
    closedForS: null,
  })
  if (delayS === null) return null
  const isOld = ageS > FIRST_SYNC_NOT_BEFORE_S || expiresInS <= 0
  return new Date(now.getTime() + (isOld ? FIRST_SYNC_NOT_BEFORE_S : delayS) * 1000)
}
