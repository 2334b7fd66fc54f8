import { mkdirSync } from 'node:fs'

import Table from 'cli-table3'

import { compose, type Service } from './compose.js'
import { loadConfig } from './config.js'
import { signatureOf, signText } from './domain/sign.js'
import { createAlipaySandbox } from './sandbox/alipay.js'
import { createMerchantSandbox } from './sandbox/merchant.js'
import { createWechatSandbox } from './sandbox/wechat.js'

const WECHAT_PORT = portFrom('DEMO_WECHAT_PORT', 9101)
const ALIPAY_PORT = portFrom('DEMO_ALIPAY_PORT', 9102)
const MERCHANT_PORT = portFrom('DEMO_MERCHANT_PORT', 9103)
const SECRET = '123456'
const MINUTE_MS = 60_000
/** From the start until the sweeper settles an order that nobody calls for. */
const BY_ITSELF_AFTER_MS = 5_000

type Wechat = ReturnType<typeof createWechatSandbox>
type Alipay = ReturnType<typeof createAlipaySandbox>
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

const dataDir = process.env['DATA_DIR'] ?? './.data'
mkdirSync(dataDir, { recursive: true })
const wechat = createWechatSandbox()
const alipay = createAlipaySandbox()
const merchant = createMerchantSandbox({
  secrets: [SECRET],
  signType: 'MD5',
  onNotice: ({ body, verified }) =>
    say(
      `notice  order ${String(body['paymentId'])} is ${String(body['status'])}, signature ${verified ? 'holds' : 'IS WRONG'}`,
    ),
})
await Promise.all([wechat.listen(WECHAT_PORT), alipay.listen(ALIPAY_PORT), merchant.listen(MERCHANT_PORT)])
const service = await compose(
  loadConfig({
    SIGN_SECRETS: SECRET,
    OPS_TOKENS: 'demo:demo-token',
    LOG_LEVEL: 'warn',
    GATEWAY_TIMEOUT_MS: '3000',
    ...wechat.merchantSettings(),
    ...alipay.merchantSettings(),
    ...process.env,
  }),
)
const address = (await service.start()).replace('0.0.0.0', '127.0.0.1')
await present(service, wechat, alipay)
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void end())

async function present(demo: Service, wechatGateway: Wechat, alipayGateway: Alipay): Promise<void> {
  // New numbers at each start: orders of an earlier demo stay in the database as they are.
  const first = BigInt(Date.now()) * 1_000_000n
  const table = new Table({ head: ['', 'situation', 'channel', 'code', 'gatewayStatus', 'repair', 'what happens'] })
  const curls: string[] = []
  for (const [index, situation] of SITUATIONS.entries()) {
    const paymentId = first + BigInt(index)
    await register(situation, paymentId)
    arrange(situation, paymentId.toString(), wechatGateway, alipayGateway)
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
  // The sweeper leaves them alone, so that the calls below find what the table says.
  const ids = SITUATIONS.map((_, index) => first + BigInt(index))
  await demo.database.prisma.order.updateMany({ where: { id: { in: ids } }, data: { nextSyncAt: null } })
  const byItself = first + BigInt(SITUATIONS.length)
  await registerPaid(demo, wechatGateway, byItself)
  say(curls.join('\n'))
  say(table.toString())
  say(
    `\nThe service is on ${address}. Each line above gives what the table says; called again it repairs nothing more.`,
  )
  say(`Order ${byItself} is called for by nobody: the sweeper settles it in about ${BY_ITSELF_AFTER_MS / 1000} s.`)
  say(`The operators' page: ${address}/console (token: demo-token)`)
  say(`One order's story:  curl -s -H 'Authorization: Bearer demo-token' ${address}/ops/orders/${first}`)
  say('Ctrl-C ends everything.')
}

/** Paid there, and due soon: it comes right without a call. */
async function registerPaid(demo: Service, gateway: Wechat, paymentId: bigint): Promise<void> {
  const title = 'settled by itself'
  const trade = { state: 'SUCCESS' }
  await register({ title, channel: 'wechat_pay', trade, expected: ok('pay_success', true), note: '' }, paymentId)
  gateway.putTrade(paymentId.toString(), { amount: 1000, ...trade })
  const nextSyncAt = new Date(Date.now() + BY_ITSELF_AFTER_MS)
  await demo.database.prisma.order.update({ where: { id: paymentId }, data: { nextSyncAt } })
}

async function register({ title, channel, order }: Situation, paymentId: bigint): Promise<void> {
  const response = await fetch(`${address}/ops/orders`, {
    method: 'POST',
    headers: { authorization: 'Bearer demo-token', 'content-type': 'application/json' },
    body: JSON.stringify({
      paymentId: paymentId.toString(),
      businessNo: `DEMO${paymentId}`,
      title,
      channel,
      payWay: 'qr_code',
      amount: 1000,
      createTime: new Date(Date.now() - 10 * MINUTE_MS).toISOString(),
      expiredTime: new Date(Date.now() + 60 * MINUTE_MS).toISOString(),
      notifyUrl: `http://127.0.0.1:${MERCHANT_PORT}/notice`,
      ...order,
    }),
  })
  if (response.status !== 201)
    throw new Error(`registering a demo order answered ${response.status}: ${await response.text()}`)
}

function arrange(
  { channel, trade, fault }: Situation,
  outTradeNo: string,
  wechatGateway: Wechat,
  alipayGateway: Alipay,
): void {
  const gateway = channel === 'wechat_pay' ? wechatGateway : alipayGateway
  if (trade !== null) gateway.putTrade(outTradeNo, { amount: 1000, ...trade })
  if (fault !== undefined) gateway.addFaults([{ on: 'query', fault: fault as 'html502', times: 1000, outTradeNo }])
}

function curlLine(paymentId: bigint): string {
  const reqTime = Math.floor(Date.now() / 1000)
  const sign = signatureOf(signText({ paymentId, reqTime }), SECRET, 'MD5')
  const body = `{"paymentId":${paymentId},"reqTime":${reqTime},"sign":"${sign}"}`
  return `curl -s ${address}/unipay/syncPay -H 'Content-Type: application/json' -d '${body}'`
}

async function end(): Promise<void> {
  process.once('SIGINT', () => process.exit(1))
  await service.stop()
  await Promise.all([wechat.close(), alipay.close(), merchant.close()])
  process.exit(0)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** Ports of the demo's own, where the usual ones are taken. */
function portFrom(name: string, usual: number): number {
  const port = Number(process.env[name] ?? usual)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new RangeError(`${name} must be a port`)
  return port
}
