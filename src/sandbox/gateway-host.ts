import { answerControl, isControl, type SandboxControl } from './control.js'
import { createExchange, type GatewayCall, type Hold } from './exchange.js'
import { type CallKind, createFaultScript, type FaultInput } from './faults.js'
import { createRequestLog } from './request-log.js'
import { createListener, type Delivery, type Listener, type Received, type TlsMaterial } from './server.js'
import type { TradeBook, TradeInput } from './trades.js'

/** The settings that both gateways have. */
export type HostOptions = Readonly<{
  /** The clock, milliseconds since 1970. */
  now?: () => number
  /** How long an idle connection is kept, ms. Default: the 8 s of the real WeChat gateway. */
  keepAliveTimeoutMs?: number
  /** Whether answers announce that time. */
  keepAliveAnnounced?: boolean
  /** Of the draws for faults with a `rate`. */
  seed?: number
}>

export type HostDeps = Readonly<{
  book: TradeBook
  /** Makes keys ready; called by every `listen`. */
  prepare: () => Promise<void>
  understand: (received: Received) => GatewayCall
  withBackup: boolean
  tls: () => TlsMaterial | undefined
  rotateKeys?: (answersWith?: 'new' | 'old') => Promise<string>
}>

const KEEP_ALIVE_MS = 8000
const PRIMARY_DOWN_MS_DEFAULT = 3000

function controlOf(
  deps: HostDeps,
  faults: ReturnType<typeof createFaultScript>,
  log: ReturnType<typeof createRequestLog>,
  takePrimaryDown: (ms: number) => void,
): SandboxControl {
  const { book } = deps
  return {
    putTrade: (outTradeNo: string, trade: TradeInput) => book.put(outTradeNo, trade),
    getTrade: (outTradeNo: string) => book.view(outTradeNo),
    calls: (outTradeNo: string) => book.callsOf(outTradeNo),
    addFaults(inputs: readonly FaultInput[]) {
      const outage = inputs.find(({ fault }) => fault === 'primary_down')
      faults.add(inputs.filter((input) => input !== outage))
      if (outage !== undefined) {
        takePrimaryDown(outage.ms ?? PRIMARY_DOWN_MS_DEFAULT)
      }
    },
    pendingFaults: () => faults.pending(),
    requests: () => log.all(),
    reset() {
      book.clear()
      faults.clear()
      log.clear()
    },
    ...(deps.rotateKeys === undefined ? {} : { rotateKeys: deps.rotateKeys }),
  }
}

/** What any simulated gateway is: listeners, control routes, trades, faults and a record of requests. */
export function createGatewayHost(options: HostOptions, deps: HostDeps) {
  const now = options.now ?? Date.now
  const faults = createFaultScript(options.seed ?? 1)
  const log = createRequestLog(now)
  const exchange = createExchange(deps.book, faults, log)
  const control = controlOf(deps, faults, log, (ms) => void takePrimaryDown(ms))
  let running: Readonly<{ primary: Listener; backup: Listener; urls: readonly [string, ...string[]] }> | undefined

  function started() {
    if (running === undefined) {
      throw new Error('the sandbox was not started: call listen() first')
    }
    return running
  }

  async function onRequest(received: Received): Promise<Delivery> {
    return isControl(received)
      ? await answerControl(control, received)
      : await exchange.play(deps.understand(received), received)
  }

  function newListener(): Listener {
    return createListener({
      onRequest,
      keepAliveTimeoutMs: options.keepAliveTimeoutMs ?? KEEP_ALIVE_MS,
      keepAliveAnnounced: options.keepAliveAnnounced ?? true,
      tls: deps.tls(),
      now,
    })
  }

  async function startPrimary(): Promise<void> {
    const { primary, urls } = started()
    const { hostname, port } = new URL(urls[0])
    await primary.listen(Number(port), hostname)
  }

  async function takePrimaryDown(ms: number): Promise<void> {
    await started().primary.close()
    // Started by hand meanwhile, or closed for good: then there is nothing left to bring back.
    setTimeout(() => void startPrimary().catch(() => undefined), ms).unref()
  }

  return {
    ...control,
    /** Port 0: any free one. Listening again after `close` keeps keys, trades and faults. */
    async listen(port = 0, host?: string): Promise<{ url: string; backupUrl: string | null }> {
      await deps.prepare()
      const [primary, backup] = [newListener(), newListener()]
      const url = await primary.listen(port, host)
      const backupUrl = deps.withBackup ? await backup.listen(0, host) : null
      running = { primary, backup, urls: backupUrl === null ? [url] : [url, backupUrl] }
      return { url, backupUrl }
    },
    async close(): Promise<void> {
      const closing = running
      running = undefined
      await Promise.all([closing?.primary.close(), closing?.backup.close()])
    },
    urls: (): readonly [string, ...string[]] => started().urls,
    /** Until `startPrimary`: connections to the first host are refused, the backup goes on. */
    stopPrimary: async () => await started().primary.close(),
    startPrimary,
    /** What the real gateway does to connections that have been idle for its 8 s, without the wait. */
    dropIdleConnections(): void {
      running?.primary.dropIdleConnections()
      running?.backup.dropIdleConnections()
    },
    /** Holds the next such call back, carried out but unanswered, until released. */
    holdNext: (on: CallKind, outTradeNo?: string): Hold => exchange.holdNext(on, outTradeNo),
  }
}
