import Table from 'cli-table3'

import { compose, startFailure } from './compose.js'
import { type Config, ConfigError, loadConfig } from './config.js'
import { signatureOf, signText } from './domain/sign.js'
import { createAlipaySandbox } from './sandbox/alipay.js'
import { createMerchantSandbox } from './sandbox/merchant.js'
import { refuseProduction } from './sandbox/server.js'
import { createWechatSandbox } from './sandbox/wechat.js'
import { createDatabase, type Database } from './store/client.js'

const MINUTE_MS = 60_000
/** From the start until the sweeper settles an order that nobody calls for. */
const BY_ITSELF_AFTER_MS = 5_000

type Situation = Readonly<{
  title: string
  channel: 'wechat_pay' | 'ali_pay' | 'union_pay' | null
  order?: Readonly<Record<string, unknown>>
  /** What the gateway knows: its own state name; null where it has no such trade. */
  trade: Readonly<{ state: string; amount?: number; [more: string]: unknown }> | null
  fault?: string
  expected: Readonly<{ code: number; gatewayStatus: string | null; repair: boolean | null }>
  note: string
}>

const ok = (gatewayStatus: string, repair: boolean) => ({ code: 0, gatewayStatus, repair })
const refused = (code: number) => ({ code, gatewayStatus: null, repair: null })
const EXPIRED = { expiredTime: new Date(Date.now() - MINUTE_MS).toISOString() }

/** Orders in telling situations; `expected` is what the first call of each one's curl line answers. */
const SITUATIONS: readonly Situation[] = [
  {
    title: 'paid there, not here',
    channel: 'wechat_pay',
    trade: { state: 'SUCCESS' },
    expected: ok('pay_success', true),
    note: 'settled, notice sent',
  },
  {
    title: 'paid there, not here',
    channel: 'ali_pay',
    trade: { state: 'TRADE_SUCCESS' },
    expected: ok('pay_success', true),
    note: 'settled, notice sent',
  },
  {
    title: 'not paid yet',
    channel: 'wechat_pay',
    trade: { state: 'NOTPAY' },
    expected: ok('pay_progress', false),
    note: 'waits',
  },
  {
    title: 'expired and unpaid',
    channel: 'wechat_pay',
    order: EXPIRED,
    trade: { state: 'NOTPAY' },
    expected: ok('pay_timeout', true),
    note: 'closed there, then here',
  },
  {
    title: 'code not scanned yet',
    channel: 'ali_pay',
    trade: null,
    expected: ok('pay_not_found_unknown', false),
    note: 'waits: the buyer may scan',
  },
  {
    title: 'expired, never scanned',
    channel: 'ali_pay',
    order: EXPIRED,
    trade: null,
    expected: ok('pay_timeout', true),
    note: 'closed here, watched for a day',
  },
  {
    title: 'paid while being closed',
    channel: 'wechat_pay',
    order: EXPIRED,
    trade: { state: 'NOTPAY', payOn: 'close' },
    expected: ok('pay_success', true),
    note: 'the second query tells',
  },
  {
    title: 'closed there',
    channel: 'wechat_pay',
    trade: { state: 'CLOSED' },
    expected: ok('pay_closed', true),
    note: 'closed here',
  },
  {
    title: 'unknown there',
    channel: 'wechat_pay',
    trade: null,
    expected: ok('pay_not_found', true),
    note: 'older than 2 min: closed here',
  },
  {
    title: 'late payment',
    channel: 'ali_pay',
    order: { status: 'close' },
    trade: { state: 'TRADE_SUCCESS' },
    expected: ok('pay_success', true),
    note: 'settled, and an exception',
  },
  {
    title: 'paid here, closed there',
    channel: 'wechat_pay',
    order: { status: 'success', payTime: new Date().toISOString() },
    trade: { state: 'CLOSED' },
    expected: ok('pay_closed', false),
    note: 'never un-paid: an exception',
  },
  {
    title: 'refunded there, never settled',
    channel: 'wechat_pay',
    trade: { state: 'REFUND' },
    expected: ok('pay_refund', false),
    note: 'an exception',
  },
  {
    title: 'wrong amount',
    channel: 'wechat_pay',
    trade: { state: 'SUCCESS', amount: 1 },
    expected: refused(28100),
    note: 'nothing changes, an exception',
  },
  {
    title: 'gateway in trouble',
    channel: 'ali_pay',
    trade: { state: 'TRADE_SUCCESS' },
    fault: 'html502',
    expected: refused(20000),
    note: 'we do not know: nothing changes',
  },
  {
    title: 'forged answer',
    channel: 'wechat_pay',
    trade: { state: 'SUCCESS' },
    fault: 'tampered',
    expected: refused(20000),
    note: 'proves nothing: nothing changes',
  },
  { title: 'channel not configured', channel: 'union_pay', trade: null, expected: refused(20000), note: '' },
  { title: 'no channel', channel: null, trade: null, expected: refused(20000), note: 'nothing to ask' },
]

const SETTLED_BY_ITSELF: Situation = {
  title: 'settled by itself',
  channel: 'wechat_pay',
  trade: { state: 'SUCCESS' },
  expected: ok('pay_success', true),
  note: '',
}

refuseProduction()
/** Where the service already runs, with its gateways; unset: all of it runs in this process. */
const elsewhere = process.env['DEMO_SERVICE_URL']
/** The host under which the service reaches this process. */
const merchantHost = process.env['DEMO_MERCHANT_HOST'] ?? '127.0.0.1'

/** What is ended in turn when somebody has seen enough. */
const endings: (() => Promise<unknown>)[] = []
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void end(0))

const ports = await orGiveUp(() => ({
  wechat: portFrom('DEMO_WECHAT_PORT', 9101),
  alipay: portFrom('DEMO_ALIPAY_PORT', 9102),
  merchant: portFrom('DEMO_MERCHANT_PORT', 9103),
}))

const { config, database, address } = await orGiveUp(async () =>
  elsewhere === undefined ? await startAll() : joinService(elsewhere),
)
const merchant = createMerchantSandbox({
  secrets: config.SIGN_SECRETS,
  signType: config.SIGN_TYPE,
  onNotice: ({ body, verified }) =>
    say(
      `notice  order ${String(body['paymentId'])} is ${String(body['status'])}, signature ${verified ? 'holds' : 'IS WRONG'}`,
    ),
})
endings.push(async () => await merchant.close())
await orGiveUp(async () => {
  await merchant.listen(ports.merchant, elsewhere === undefined ? '127.0.0.1' : '0.0.0.0')
  await present()
})

type Running = Readonly<{ config: Config; database: Database; address: string }>

/** Gateways and service in this process; settings in the environment win over the demo's own. */
async function startAll(): Promise<Running> {
  const wechat = createWechatSandbox()
  const alipay = createAlipaySandbox()
  endings.push(async () => await Promise.all([wechat.close(), alipay.close()]))
  await Promise.all([wechat.listen(ports.wechat), alipay.listen(ports.alipay)])
  const own: Record<string, string> = {
    SIGN_SECRETS: '123456',
    OPS_TOKENS: 'demo:demo-token',
    LOG_LEVEL: 'warn',
    GATEWAY_TIMEOUT_MS: '3000',
    ...wechat.merchantSettings(),
    ...alipay.merchantSettings(),
  }
  const isGivenAsFile = (name: string) => (process.env[`${name}_FILE`] ?? '') !== ''
  const used = Object.entries(own).filter(([name]) => !isGivenAsFile(name))
  const settings = loadConfig({ ...Object.fromEntries(used), ...process.env })
  const service = await compose(settings)
  // Before the gateways: what is under way is finished.
  endings.unshift(async () => await service.stop())
  return {
    config: settings,
    database: service.database,
    address: (await service.start()).replace('0.0.0.0', '127.0.0.1'),
  }
}

/** The settings are those of the service, whose gateways are sandboxes and tell by their addresses where they are. */
function joinService(url: string): Running {
  const settings = loadConfig(process.env)
  if (settings.DATABASE_URL === undefined) throw new ConfigError(['DATABASE_URL is missing beside DEMO_SERVICE_URL'])
  const joined = createDatabase({ url: settings.DATABASE_URL, connectionsMax: 2, onIdleError: () => undefined })
  endings.push(async () => await joined.close())
  return { config: settings, database: joined, address: url }
}

async function present(): Promise<void> {
  // New numbers at each start: orders of an earlier demo stay in the database as they are.
  const first = BigInt(Date.now()) * 1_000_000n
  const table = new Table({ head: ['', 'situation', 'channel', 'code', 'gatewayStatus', 'repair', 'what happens'] })
  const curls: string[] = []
  for (const [index, situation] of SITUATIONS.entries()) {
    const paymentId = first + BigInt(index)
    // The sweeper leaves it alone, so that the call below finds what the table says.
    await arrange(situation, paymentId, null)
    const { code, gatewayStatus, repair } = situation.expected
    table.push([
      index + 1,
      situation.title,
      situation.channel ?? '-',
      code,
      gatewayStatus ?? '-',
      repair ?? '-',
      situation.note,
    ])
    curls.push(`# ${index + 1} ${situation.title}\n${curlLine(paymentId)}`)
  }
  // Paid there, and due soon: it comes right without a call.
  const byItself = first + BigInt(SITUATIONS.length)
  await arrange(SETTLED_BY_ITSELF, byItself, new Date(Date.now() + BY_ITSELF_AFTER_MS))
  say(curls.join('\n'))
  say(table.toString())
  say(
    `\nThe service is on ${shownAddress()}. Each line above gives what the table says; called again it repairs nothing more.`,
  )
  say(`Order ${byItself} is called for by nobody: the sweeper settles it in about ${BY_ITSELF_AFTER_MS / 1000} s.`)
  say(`The operators' page: ${shownAddress()}/console (token: ${operatorToken()})`)
  say(`One order's story:  curl -s -H 'Authorization: Bearer ${operatorToken()}' ${shownAddress()}/ops/orders/${first}`)
  say('Ctrl-C ends everything.')
}

/** The trade as the gateway knows it, the order as we do, and when the sweeper comes by. */
async function arrange(situation: Situation, paymentId: bigint, nextSyncAt: Date | null): Promise<void> {
  const { channel, trade, fault } = situation
  const outTradeNo = paymentId.toString()
  const gateway = new URL(channel === 'ali_pay' ? config.ALIPAY_GATEWAY_URL : (config.WECHAT_BASE_URLS[0] ?? '')).origin
  if (trade !== null) await send('PUT', `${gateway}/_sandbox/trades/${outTradeNo}`, { amount: 1000, ...trade })
  if (fault !== undefined)
    await send('POST', `${gateway}/_sandbox/faults`, [{ on: 'query', fault, times: 1000, outTradeNo }])
  await send('POST', `${address}/ops/orders`, {
    paymentId: outTradeNo,
    businessNo: `DEMO${paymentId}`,
    title: situation.title,
    channel,
    payWay: 'qr_code',
    amount: 1000,
    createTime: new Date(Date.now() - 10 * MINUTE_MS).toISOString(),
    expiredTime: new Date(Date.now() + 60 * MINUTE_MS).toISOString(),
    notifyUrl: `http://${merchantHost}:${ports.merchant}/notice`,
    ...situation.order,
  })
  await database.prisma.order.update({ where: { id: paymentId }, data: { nextSyncAt } })
}

async function send(method: 'PUT' | 'POST', url: string, body: unknown): Promise<void> {
  const response = await fetch(url, {
    method,
    headers: { authorization: `Bearer ${operatorToken()}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${method} ${url} answered ${response.status}: ${await response.text()}`)
}

function operatorToken(): string {
  return config.OPS_TOKENS[0]?.token ?? ''
}

/** As the one who reads the lines below reaches the service. */
function shownAddress(): string {
  return process.env['DEMO_SHOWN_URL'] ?? address
}

function curlLine(paymentId: bigint): string {
  const reqTime = Math.floor(Date.now() / 1000)
  const sign = signatureOf(signText({ paymentId, reqTime }), config.SIGN_SECRETS[0] ?? '', config.SIGN_TYPE)
  const body = `{"paymentId":${paymentId},"reqTime":${reqTime},"sign":"${sign}"}`
  return `curl -s ${shownAddress()}/unipay/syncPay -H 'Content-Type: application/json' -d '${body}'`
}

/** A demo that cannot begin, or go on, says why and ends. */
async function orGiveUp<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    process.stderr.write(`${startFailure(error)}\n`)
    return await end(1)
  }
}

async function end(status: number): Promise<never> {
  process.once('SIGINT', () => process.exit(1))
  for (const ending of endings) await ending()
  process.exit(status)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** Ports of the demo's own, where the usual ones are taken. */
function portFrom(name: string, usual: number): number {
  const port = Number(process.env[name] ?? usual)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new ConfigError([`${name} must be a port`])
  return port
}
