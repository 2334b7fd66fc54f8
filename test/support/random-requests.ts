import http, { type RequestOptions } from 'node:http'

import { expect, it } from 'vitest'

import { scrape } from './exposition.js'
import { newPaymentId, OPS_TOKEN, signedBody, startService, type TestService } from './service.js'
import { seededRandom } from './service-process.js'

const SEED = 20_261_124
const WARM_UP = 2_500
const AT_ONCE = 24
/** What is printed of what is too much, where it is. */
const SHOWN_MAX = 20

const PATHS = [
  '/unipay/syncPay',
  '//unipay/syncPay',
  '/unipay/:x',
  '/ops/orders',
  '/ops/orders/:id',
  '/ops/orders/:id/sync',
  '/ops/orders/:id/sync?dryRun=true',
  '/ops/orders?businessNo=:x',
  '/ops/orders/import',
  '/ops/batches',
  '/ops/batches/:id',
  '/ops/batches/:id/cancel',
  '/ops/batches/:id/resume',
  '/ops/exceptions?state=:x',
  '/ops/exceptions/:id/resolve',
  '/ops/notices?cursor=:x',
  '/ops/notices/:id/redeliver',
  '/ops/:x',
  '/console',
  '/console/sign-in',
  '/console/orders/:id',
  '/console/language?to=:x',
  '/console/assets/:x/console.js',
  '/console/:x',
  '/healthz',
  '/readyz',
  '/:x',
  '/:x/:x?:x=:x',
  '/%zz',
  `/${'long'.repeat(60)}/:x`,
]
const TYPES = ['application/json', 'application/json; charset=utf-8', 'text/plain', 'application/x-ndjson', 'text/csv']
const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~'

type Sent = RequestOptions & { readonly body: string }

/** Anything that a client may send: any path, method, header and body, from any address, some of it in order. */
function createRequests(service: TestService, orders: readonly string[], seed: number) {
  const random = seededRandom(seed)
  const { port } = new URL(service.url)
  const whole = (below: number) => Math.floor(random() * below)
  const pick = <T>(list: readonly [T, ...T[]] | readonly T[]): T => list[whole(list.length)] as T
  const chance = (part: number) => random() < part
  const word = (length = 1 + whole(20)) => Array.from({ length }, () => LETTERS[whole(LETTERS.length)]).join('')
  const id = () => (chance(0.3) ? pick(orders) : String(BigInt(whole(2 ** 31)) * BigInt(1 + whole(2 ** 31)) + 1n))
  const address = () => `10.${whole(256)}.${whole(256)}.${whole(256)}`
  const hex = (length: number) => Array.from({ length }, () => whole(16).toString(16)).join('')

  function body(): string {
    const kind = whole(8)
    if (kind === 0) return ''
    if (kind === 1) return word(whole(200))
    if (kind === 2) return JSON.stringify({ [word()]: word(), nested: { [word()]: [word()] } })
    if (kind === 3) return JSON.stringify({ paymentId: id(), reqTime: whole(2 ** 31), sign: hex(32) })
    if (kind === 4) return JSON.stringify({ paymentId: word(), reqTime: whole(2 ** 31) })
    if (kind === 5 && chance(0.1)) return `{"businessNo":"${'x'.repeat(70_000)}"}`
    if (kind === 5) return signedBody({ businessNo: word(), clientIp: chance(0.5) ? address() : word() })
    return signedBody({ paymentId: BigInt(id()) })
  }

  function headers(): Record<string, string> {
    const all: Record<string, string> = {
      'x-forwarded-for': address(),
      authorization: chance(0.8) ? `Bearer ${OPS_TOKEN}` : `Bearer ${word()}`,
      'content-type': chance(0.9) ? pick(TYPES) : `${word()}/${word()}`,
      'user-agent': word(),
      [`x-${word(8).replaceAll(/[^\w-]/g, 'x')}`]: word(),
    }
    if (chance(0.3)) all['traceparent'] = `00-${hex(32)}-${hex(16)}-01`
    if (chance(0.1)) all['accept-version'] = word()
    if (chance(0.1)) all['cookie'] = `unipay_console=${word()}.${word()}`
    if (chance(0.1)) all['accept'] = word()
    return all
  }

  return (): Sent => {
    const isMerchant = chance(0.3)
    const path = isMerchant ? '/unipay/syncPay' : pick(PATHS)
    const method = isMerchant && chance(0.8) ? 'POST' : chance(0.7) ? pick(['GET', 'POST']) : pick(METHODS)
    const filled = path.replaceAll(':id', id).replaceAll(':x', () => encodeURIComponent(word()))
    const sent = method === 'GET' || method === 'HEAD' ? '' : body()
    return { host: '127.0.0.1', port, method, path: filled, headers: headers(), body: sent }
  }
}

/** CONNECT and upgrades are no requests. */
const METHODS = http.METHODS.filter((method) => method !== 'CONNECT')

async function send({ body, ...options }: Sent, agent: http.Agent): Promise<void> {
  await new Promise<void>((resolve) => {
    const request = http.request({ ...options, agent }, (response) => {
      response.resume()
      response.on('close', resolve)
    })
    // A connection that is ended in the middle of what it refuses is an answer as well.
    request.on('error', () => resolve())
    request.end(body)
  })
}

async function sendMany(next: () => Sent, count: number): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE })
  let left = count
  const client = async () => {
    for (; left > 0; left--) await send(next(), agent)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, client))
  agent.destroy()
}

/** Fixed lists that a warm-up cannot go through: how full the machine is and what its memory needs decide. */
const FIXED = [/ kind="(?:major|minor|incremental|weakcb)"$/, / status="(?:409|503)"$/]

/** Every label's every value, over all series, but for those of the fixed lists. */
function labelValuesOf(series: ReadonlySet<string>): Set<string> {
  const values = [...series].flatMap((key) => {
    const [name = '', labels = ''] = key.split(/[{}]/)
    return labels === '' ? [name] : labels.split(/(?<="),/).map((label) => `${name} ${label}`)
  })
  return new Set(values.filter((value) => !FIXED.some((list) => list.test(value))))
}

/** The test: after a warm-up that touched every route, `count` random requests add no label value. */
export function floodMetrics(count: number, timeoutMs: number): void {
  it(`${count} random requests add no value of any label`, { timeout: timeoutMs }, async () => {
    const service = await startService({ environment: { TRUST_PROXY: 'loopback' } })
    try {
      const orders = [newPaymentId(), ...(await ordersIn(service))]
      // What random bodies rarely get to, since these routes take no field that they do not know.
      for (const id of orders) await service.ops('POST', `/ops/orders/${id}/sync`)
      await service.ops('POST', '/ops/batches', {})
      await sendMany(createRequests(service, orders, SEED), WARM_UP)
      await scrape(service.url)
      const before = await scrape(service.url)
      await sendMany(createRequests(service, orders, SEED + 1), count)
      const after = await scrape(service.url)

      const answered = (found: typeof after) =>
        (found.value('unipay_http_request_duration_seconds_count') ?? 0) +
        (found.value('unipay_merchant_request_duration_seconds_count') ?? 0)
      // Not counted: a connection that ended before its answer.
      expect(answered(after) - answered(before)).toBeGreaterThan(count * 0.95)
      const known = labelValuesOf(before.series)
      expect([...labelValuesOf(after.series)].filter((value) => !known.has(value)).slice(0, SHOWN_MAX)).toEqual([])
    } finally {
      await service.stop()
    }
  })
}

/** One order of each outcome. */
async function ordersIn(service: TestService): Promise<string[]> {
  const none = await service.register({ channel: null })
  const foreign = await service.register({ channel: 'union_pay' })
  const states = ['SUCCESS', 'NOTPAY', 'CLOSED', 'REFUND']
  const ids = await Promise.all(
    states.map(async (state) => {
      const id = await service.register()
      service.wechat.putTrade(id, { state, amount: 1000 })
      return id
    }),
  )
  const wrong = await service.register()
  service.wechat.putTrade(wrong, { state: 'SUCCESS', amount: 1 })
  return [none, foreign, wrong, ...ids]
}
