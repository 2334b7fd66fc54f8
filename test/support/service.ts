import { randomInt } from 'node:crypto'

import type { Pool } from 'pg'

import { compose, type Service } from '../../src/compose.js'
import { loadConfig } from '../../src/config.js'
import { type SignField, signatureOf, signText } from '../../src/domain/sign.js'
import { createLog } from '../../src/log.js'
import { type AlipaySandbox, createAlipaySandbox } from '../../src/sandbox/alipay.js'
import type { TradeInput } from '../../src/sandbox/trades.js'
import { createWechatSandbox, type WechatSandbox, type WechatSandboxOptions } from '../../src/sandbox/wechat.js'
import { createDatabase, type TestDatabase } from './database.js'

export const SECRET = '123456'
export const OPS_TOKEN = 'test-token-of-ops'

export type Envelope = {
  msg: string
  code: number
  data: {
    gatewayStatus: string
    success: boolean
    repair: boolean
    repairOrderNo: string | null
    errorMsg: string
  } | null
  sign?: string
  traceId: string
}

export type NewOrder = Record<string, unknown> & {
  paymentId: string
  businessNo: string
  channel: string | null
  amount: number
}

/** A history as `GET /ops/orders` shows it, as far as tests look at it. */
export type History = {
  order: Record<string, unknown> & { status: string; gatewayOrderNo: string | null }
  syncs: (Record<string, unknown> & { id: string; repairOrderNo: string | null; outcome: string })[]
  repairs: (Record<string, unknown> & {
    repairOrderNo: string
    syncId: string
    way: string
    statusBefore: string
    statusAfter: string
  })[]
  notices: (Record<string, unknown> & { id: string; repairOrderNo: string; payload: Record<string, unknown> })[]
  exceptions: (Record<string, unknown> & { id: string; kind: string; state: string })[]
}

let lastId = 1_753_370_000_000_000_000n + BigInt(randomInt(1_000_000_000)) * 1_000_000n

/** An order id that no other test has: 19 digits, above 2^53. */
export function newPaymentId(): string {
  lastId += 1n
  return lastId.toString()
}

/** A syncPay body as the merchants' SDK makes it: the id as a bare number, the signature over what is present. */
export function signedBody(fields: Readonly<Record<string, SignField>>, secret = SECRET): string {
  const signed = { reqTime: Math.floor(Date.now() / 1000), ...fields }
  const sign = signatureOf(signText(signed), secret, 'MD5')
  const { paymentId, ...rest } = signed as Record<string, SignField> & { paymentId?: bigint }
  const json = JSON.stringify({ ...rest, sign }, (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  )
  return paymentId === undefined ? json : `{"paymentId":${String(paymentId)},${json.slice(1)}`
}

const SWEEP_ROUNDS_MAX = 10_000

/** Both simulated gateways, listening; whoever made them closes them. */
export type Sandboxes = Readonly<{ wechat: WechatSandbox; alipay: AlipaySandbox }>

export async function startSandboxes(wechat: WechatSandboxOptions = {}): Promise<Sandboxes> {
  const sandboxes = { wechat: createWechatSandbox(wechat), alipay: createAlipaySandbox() }
  await Promise.all([sandboxes.wechat.listen(), sandboxes.alipay.listen()])
  return sandboxes
}

export type ServiceOptions = Readonly<{
  environment?: Record<string, string>
  /** Shared with other services, and not dropped by `stop`. */
  database?: TestDatabase
  /** Shared with other services, listening already, and not closed by `stop`. */
  sandboxes?: Sandboxes
  now?: () => number
  /** Takes the log, line by line, at `environment`'s LOG_LEVEL. */
  onLogLine?: (line: string) => void
}>

/**
 * The whole service in this process, on a free port and a database of its own, with both simulated gateways. Settings in
 * `environment` win.
 */
export async function startService(options: ServiceOptions = {}) {
  const database = options.database ?? (await createDatabase())
  const { wechat, alipay } = options.sandboxes ?? (await startSandboxes())
  const config = loadConfig({
    HOST: '127.0.0.1',
    PORT: '0',
    DATABASE_URL: database.url,
    DATABASE_POOL_MAX: '10',
    SIGN_SECRETS: SECRET,
    OPS_TOKENS: `tester:${OPS_TOKEN}`,
    LOG_LEVEL: process.env['TEST_LOG_LEVEL'] ?? 'silent',
    ROLES: 'api',
    ...wechat.merchantSettings(),
    ...alipay.merchantSettings(),
    ...options.environment,
  })
  const { now, onLogLine } = options
  const service: Service = await compose(config, {
    ...(now === undefined ? {} : { now }),
    ...(onLogLine === undefined ? {} : { log: createLog(config.LOG_LEVEL, { write: onLogLine }) }),
  })
  const url = await service.start()
  const pool: Pool = database.pool()

  async function post(
    body: string | Buffer,
    headers: Record<string, string> = { 'content-type': 'application/json' },
  ): Promise<Envelope> {
    const response = await fetch(`${url}/unipay/syncPay`, {
      method: 'POST',
      headers,
      body: typeof body === 'string' ? body : new Uint8Array(body),
    })
    if (response.status !== 200) throw new Error(`HTTP ${response.status} under /unipay`)
    return (await response.json()) as Envelope
  }

  async function ops(method: 'GET' | 'POST', path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${OPS_TOKEN}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: await response.json() }
  }

  /** Registers an order; what is not given is an old enough WeChat order of 10 yuan. Its id comes back. */
  async function register(order: Partial<NewOrder> = {}): Promise<string> {
    const paymentId = order.paymentId ?? newPaymentId()
    const createTime = new Date(Date.now() - 600_000).toISOString()
    const registered = await ops('POST', '/ops/orders', {
      paymentId,
      businessNo: `B${paymentId}`,
      channel: 'wechat_pay',
      amount: 1000,
      createTime,
      expiredTime: new Date(Date.now() + 600_000).toISOString(),
      ...order,
    })
    if (registered.status !== 201)
      throw new Error(`registering answered ${registered.status}: ${JSON.stringify(registered.body)}`)
    return paymentId
  }

  return {
    url,
    service,
    database,
    pool,
    wechat,
    alipay,
    post,
    ops,
    /** A merchant's signed call for one order. */
    sync: async (paymentId: string) => await post(signedBody({ paymentId: BigInt(paymentId) })),
    register,
    /** The same, paid there: 10 yuan, or as `trade` has it. */
    async registerPaid(order: Partial<NewOrder> = {}, trade: Partial<TradeInput> = {}): Promise<string> {
      const paymentId = await register(order)
      wechat.putTrade(paymentId, { state: 'SUCCESS', amount: 1000, ...trade })
      return paymentId
    },
    /** Closed there, then paid after all: two notices, of which the older one is over. */
    async registerPaidLate(order: Partial<NewOrder> = {}): Promise<string> {
      const paymentId = await register({ notifyUrl: 'http://127.0.0.1:9/notice', ...order })
      for (const state of ['CLOSED', 'SUCCESS']) {
        wechat.putTrade(paymentId, { state, amount: 1000 })
        await post(signedBody({ paymentId: BigInt(paymentId) }))
      }
      return paymentId
    },
    async history(paymentId: string): Promise<History> {
      return (await ops('GET', `/ops/orders/${paymentId}`)).body as History
    },
    /** Sweeps every channel until nothing is due, and waits for what was started. */
    async sweep(): Promise<void> {
      for (const sweeper of service.sweepers) {
        for (let round = 0; await sweeper.runOnce(); round++) {
          if (round >= SWEEP_ROUNDS_MAX) throw new Error('the sweep does not come to an end')
        }
        await sweeper.drain()
      }
    },
    async stop(): Promise<void> {
      await service.stop()
      if (options.sandboxes === undefined) await Promise.all([wechat.close(), alipay.close()])
      if (options.database === undefined) await database.drop()
    },
  }
}

export type TestService = Awaited<ReturnType<typeof startService>>
