import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

import { afterEach, describe, expect, it } from 'vitest'

import { createAlipaySandbox } from '../../src/sandbox/alipay.js'
import { createMerchantSandbox } from '../../src/sandbox/merchant.js'
import { createWechatSandbox } from '../../src/sandbox/wechat.js'
import { createDatabase } from '../support/database.js'
import { finishRounds, makeOrdersDue } from '../support/rounds.js'
import {
  type Envelope,
  newPaymentId,
  OPS_TOKEN,
  signedBody,
  startService,
  type TestService,
} from '../support/service.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

type Line = Record<string, unknown> & { level: string; event?: string; traceId?: string }

const MERCHANT_SECRET = 'merchant-secret-0f4c1c6a9d'
const DATABASE_PASSWORD = 'database-password-77aa01'
const WRONG_TOKEN = 'wrong-token-9d8c7b6a5f'
const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

const stops: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop()
})

/** A service whose log is read: as text, and line by line. */
async function logged(options: Parameters<typeof startService>[0] = {}) {
  const texts: string[] = []
  const service = await startService({ ...options, onLogLine: (line) => void texts.push(line) })
  stops.push(async () => await service.stop())
  const lines = () => texts.map((text) => JSON.parse(text) as Line)
  return {
    service,
    text: () => texts.join(''),
    lines,
    of: (traceId: string) => lines().filter((line) => line.traceId === traceId),
  }
}

/** A merchant that keeps what it is told, with the headers. */
async function openMerchant() {
  const received: IncomingHttpHeaders[] = []
  const server = createServer((request, response) => {
    received.push(request.headers)
    request.resume().on('end', () => response.end('SUCCESS'))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  stops.push(async () => await new Promise((resolve) => server.close(resolve)))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/notify`, received }
}

it('a channel that is not configured although some of its settings are is warned of, by their names', async () => {
  const environment = { LOG_LEVEL: 'warn', WECHAT_MCH_ID: '', WECHAT_APP_ID: '', WECHAT_SP_MCH_ID: '1900000109' }
  const { lines, text } = await logged({ environment: { ...environment, ALIPAY_APP_ID: '' } })
  expect(lines()).toMatchObject([
    { level: 'warn', event: 'channel_half_set', channel: 'wechat_pay', lacks: 'WECHAT_MCH_ID' },
    { level: 'warn', event: 'channel_half_set', channel: 'ali_pay', lacks: 'ALIPAY_APP_ID' },
  ])
  expect(lines()[0]?.['set']).toEqual(expect.arrayContaining(['WECHAT_PRIVATE_KEY', 'WECHAT_SP_MCH_ID']))
  // What has a default says nothing of what was meant.
  expect(lines()[1]?.['set']).toEqual(['ALIPAY_PRIVATE_KEY', 'ALIPAY_PUBLIC_KEY'])
  expect(text()).not.toMatch(/BEGIN|1900000109/)
  expect((await logged({ environment: { LOG_LEVEL: 'warn' } })).lines()).toEqual([])
})

describe('one line for each merchant request', () => {
  it('a sync’s has everything that an operator filters by', async () => {
    const { service, of } = await logged({ environment: { LOG_LEVEL: 'info' } })
    const id = await service.registerPaid()
    const answer = await service.post(signedBody({ paymentId: BigInt(id), clientIp: '203.0.113.9' }), {
      'content-type': 'application/json',
      traceparent: TRACEPARENT,
    })
    expect(of(answer.traceId)).toEqual([
      {
        level: 'info',
        time: expect.any(String) as string,
        event: 'sync',
        traceId: answer.traceId,
        traceparent: TRACEPARENT,
        source: 'merchant',
        orderId: id,
        businessNo: `B${id}`,
        channel: 'wechat_pay',
        statusBefore: 'progress',
        outcome: 'synced',
        tradeState: 'paid',
        gatewayStatus: 'pay_success',
        action: 'settle',
        repairNo: answer.data?.repairOrderNo,
        durationMs: expect.any(Number) as number,
      },
    ])
  })

  it('and so has every other answer: one line at info, or one at error where it is 10001', async () => {
    const database = await createDatabase()
    stops.push(async () => await database.drop())
    const { proxy, url } = await proxyDatabase(database.url)
    stops.push(async () => await proxy.close())
    const { service, of } = await logged({
      environment: { LOG_LEVEL: 'info', DATABASE_URL: url, REQ_TIME_WINDOW_S: '60' },
    })
    const wrong = await service.register()
    service.wechat.putTrade(wrong, { state: 'SUCCESS', amount: 1 })
    const unknown = await service.registerPaid()
    service.wechat.addFaults([{ on: 'query', fault: 'unsigned', outTradeNo: unknown }])
    const answers: [Envelope, Partial<Line>][] = [
      [await service.post('{'), { event: 'refused', code: 10005, result: 'unreadable' }],
      [await service.post('{"businessNo":"B"}'), { event: 'refused', code: 10006, result: 'invalid' }],
      [await service.post('{"businessNo":"B","reqTime":1}'), { event: 'refused', code: 20000, result: 'unsigned' }],
      [await service.post(signedBody({ businessNo: 'B', reqTime: 1n })), { event: 'refused', code: 10008 }],
      [await service.post(signedBody({})), { event: 'refused', code: 20000, result: 'orderNotNamed' }],
      [await service.sync(newPaymentId()), { event: 'sync', outcome: 'not_found' }],
      [await service.sync(await service.register({ channel: null })), { event: 'sync', outcome: 'no_channel' }],
      [await service.sync(unknown), { event: 'sync', outcome: 'gateway_unknown', reason: 'unsigned' }],
      [await service.sync(await service.registerPaid()), { event: 'sync', outcome: 'synced' }],
    ]
    for (const [{ traceId }, line] of answers)
      expect(of(traceId)).toEqual([expect.objectContaining({ ...line, level: 'info' })])
    // What a human must look at is told once more, as an error.
    const { traceId } = await service.sync(wrong)
    expect(of(traceId).map(({ level, event }) => [level, event])).toEqual([
      ['error', 'exception_opened'],
      ['info', 'sync'],
    ])
    proxy.setMode('closed')
    const failed = await service.sync(wrong)
    expect(failed.code).toBe(10001)
    expect(of(failed.traceId).map(({ level, event }) => [level, event])).toEqual([['error', 'request_failed']])
    proxy.setMode('open')
  })

  it('but for what a flood is turned away with: it is counted only', async () => {
    const { service, lines } = await logged({ environment: { LOG_LEVEL: 'info', UNIPAY_RATE_PER_S: '1' } })
    const answers = await Promise.all(Array.from({ length: 20 }, async () => await service.post('{')))
    const refused = answers.filter(({ code }) => code === 20000)
    expect(refused.length).toBeGreaterThan(10)
    expect(lines().filter(({ event }) => event === 'refused')).toHaveLength(20 - refused.length)
  })
})

describe('a trace leads from the caller to the notice', () => {
  async function traced(call: (service: TestService, id: string) => Promise<string>) {
    const { service, of } = await logged({ environment: { LOG_LEVEL: 'info' } })
    const merchant = await openMerchant()
    const id = await service.registerPaid({ notifyUrl: merchant.url })
    const traceId = await call(service, id)
    await finishRounds(service.service.courier)
    const { rows } = await service.pool.query<Record<string, string>>(
      `SELECT s.trace_id AS sync, n.trace_id AS notice, n.traceparent
       FROM sync_records s JOIN repair_records r ON r.sync_id = s.id JOIN notices n ON n.repair_no = r.repair_no
       WHERE s.order_id = $1`,
      [id],
    )
    expect(rows).toEqual([{ sync: traceId, notice: traceId, traceparent: TRACEPARENT }])
    expect(of(traceId).map(({ event }) => event)).toEqual(['sync', 'notice'])
    expect(of(traceId)[0]).toMatchObject({ traceparent: TRACEPARENT })
    expect(of(traceId)[1]).toMatchObject({ orderId: id, outcome: 'delivered', state: 'delivered', attempt: 1 })
    expect(merchant.received.map(({ traceparent }) => traceparent)).toEqual([TRACEPARENT])
  }

  it('from a merchant’s call', async () => {
    await traced(async (service, id) => {
      const headers = { 'content-type': 'application/json', traceparent: TRACEPARENT }
      return (await service.post(signedBody({ paymentId: BigInt(id) }), headers)).traceId
    })
  })

  it('from an operator’s', async () => {
    await traced(async ({ url }, id) => {
      const headers = { authorization: `Bearer ${OPS_TOKEN}`, traceparent: TRACEPARENT }
      const response = await fetch(`${url}/ops/orders/${id}/sync`, { method: 'POST', headers })
      return ((await response.json()) as { traceId: string }).traceId
    })
  })

  it('from the request for a batch', async () => {
    await traced(async (service, id) => {
      const headers = {
        authorization: `Bearer ${OPS_TOKEN}`,
        traceparent: TRACEPARENT,
        'content-type': 'application/json',
      }
      const response = await fetch(`${service.url}/ops/batches`, { method: 'POST', headers, body: '{}' })
      expect(response.status).toBe(202)
      while (await service.service.batchRunner.runOnce());
      const { rows } = await service.pool.query<{ trace_id: string }>(
        'SELECT trace_id FROM batch_items WHERE order_id = $1',
        [id],
      )
      return rows[0]?.trace_id ?? ''
    })
  })

  it.each([
    '',
    'nonsense',
    TRACEPARENT.toUpperCase(),
    `${TRACEPARENT}-more`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
  ])('what is no trace, "%s", is not passed on', async (traceparent) => {
    const { service, of } = await logged({ environment: { LOG_LEVEL: 'info' } })
    const merchant = await openMerchant()
    const id = await service.registerPaid({ notifyUrl: merchant.url })
    const headers = { 'content-type': 'application/json', traceparent }
    const { traceId } = await service.post(signedBody({ paymentId: BigInt(id) }), headers)
    await finishRounds(service.service.courier)
    expect(of(traceId)[0]).not.toHaveProperty('traceparent')
    expect(merchant.received.map((received) => received['traceparent'])).toEqual([undefined])
  })
})

describe('a gateway call at debug', () => {
  it('has its exchanges, masked, under the caller’s trace; and at info there is none', async () => {
    const { service, of } = await logged({ environment: { LOG_LEVEL: 'debug' } })
    const { traceId } = await service.sync(await service.registerPaid())
    const [call] = of(traceId).filter(({ event }) => event === 'gateway_call')
    expect(call).toMatchObject({
      level: 'debug',
      channel: 'wechat_pay',
      operation: 'query',
      outcome: 'ok',
      exchanges: [{ method: 'GET', status: 200, body: expect.stringContaining('"openid":"o') as string }],
    })
    const quiet = await logged({ environment: { LOG_LEVEL: 'info' } })
    await quiet.service.sync(await quiet.service.registerPaid())
    expect(quiet.text()).not.toContain('gateway_call')
  })
})

describe('nothing secret and nobody’s id is logged at any level, whatever happens', () => {
  it.each([
    ['public_key', 'key'],
    ['certificate', 'certificate'],
    ['v2', 'key'],
  ] as const)('WeChat Pay in %s mode, Alipay in %s mode', async (wechatMode, alipayMode) => {
    const sandboxes = {
      wechat: createWechatSandbox({ mode: wechatMode }),
      alipay: createAlipaySandbox({ mode: alipayMode }),
    }
    await Promise.all([sandboxes.wechat.listen(), sandboxes.alipay.listen()])
    stops.push(async () => await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()]))
    const merchant = createMerchantSandbox({ secrets: [MERCHANT_SECRET], signType: 'MD5' })
    const notifyUrl = (await merchant.listen()).url
    stops.push(async () => await merchant.close())
    const database = await createDatabase()
    stops.push(async () => await database.drop())
    const { proxy, url } = await proxyDatabase(database.url)
    stops.push(async () => await proxy.close())
    const { service, text, lines } = await logged({
      sandboxes,
      database: { ...database, url: url.replace('@', `:${DATABASE_PASSWORD}@`) },
      environment: {
        LOG_LEVEL: 'trace',
        SIGN_SECRETS: `${MERCHANT_SECRET},123456`,
        GATEWAY_TIMEOUT_MS: '600',
      },
    })
    const hidden = new Set([MERCHANT_SECRET, DATABASE_PASSWORD, WRONG_TOKEN, OPS_TOKEN])
    const settings = { ...sandboxes.wechat.merchantSettings(), ...sandboxes.alipay.merchantSettings() }
    for (const [name, value] of Object.entries(settings)) {
      if (!/KEY$|CERT$/.test(name)) continue
      for (const line of value.split('\n')) if (line.length >= 32 && !line.startsWith('-----')) hidden.add(line)
    }

    const call = async (id: string) => {
      const body = signedBody({ paymentId: BigInt(id) }, MERCHANT_SECRET)
      const answer = await service.post(body, { 'content-type': 'application/json', traceparent: TRACEPARENT })
      for (const { sign } of [JSON.parse(body) as { sign: string }, answer]) if (sign !== undefined) hidden.add(sign)
    }
    const ids: string[] = []
    for (const channel of ['wechat_pay', 'ali_pay'] as const) {
      const sandbox = channel === 'wechat_pay' ? sandboxes.wechat : sandboxes.alipay
      const success = channel === 'wechat_pay' ? 'SUCCESS' : 'TRADE_SUCCESS'
      const open = channel === 'wechat_pay' ? 'NOTPAY' : 'WAIT_BUYER_PAY'
      const order = async (trade: { state: string; amount?: number }, more: Record<string, unknown> = {}) => {
        const id = await service.register({ channel, notifyUrl, ...more })
        sandbox.putTrade(id, { amount: 1000, ...trade })
        ids.push(id)
        return id
      }
      await call(await order({ state: success }))
      await call(await order({ state: success, amount: 999 }))
      const past = { expiredTime: new Date(Date.now() - 1000).toISOString() }
      await call(await order({ state: open }, past))
      await call(await order({ state: open }, { ...past, payWay: 'bar_code' }))
      for (const fault of [
        'tampered',
        'unsigned',
        'html502',
        'system_error',
        'rate_limit',
        'cut',
        'reset',
        'hang',
        'unknown_state',
        'duplicate_key',
      ] as const) {
        const id = await order({ state: success })
        sandbox.addFaults([{ on: 'query', fault, outTradeNo: id }])
        await call(id)
      }
    }
    // Operators: with a right and with a wrong token, in the console as well, and in batches.
    await makeOrdersDue(service.pool)
    await service.sweep()
    await service.ops('POST', `/ops/orders/${ids[0] ?? ''}/sync?dryRun=true`)
    await fetch(`${service.url}/ops/notices`, { headers: { authorization: `Bearer ${WRONG_TOKEN}` } })
    for (const token of [WRONG_TOKEN, OPS_TOKEN]) {
      const signIn = await fetch(`${service.url}/console/sign-in`, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          origin: service.url,
          'sec-fetch-site': 'same-origin',
        },
        body: new URLSearchParams({ token }).toString(),
        redirect: 'manual',
      })
      const cookie = (signIn.headers.getSetCookie()[0] ?? '').split(';')[0] ?? ''
      if (cookie === '') continue
      hidden.add(cookie.slice(cookie.indexOf('=') + 1))
      const page = await (await fetch(`${service.url}/console/orders/${ids[0] ?? ''}`, { headers: { cookie } })).text()
      const csrf = /name="csrf" value="([^"]+)"/.exec(page)?.[1] ?? ''
      expect(csrf).not.toBe('')
      hidden.add(csrf)
    }
    await service.ops('POST', '/ops/batches', { limit: 5 })
    while (await service.service.batchRunner.runOnce());
    await service.ops('POST', '/ops/orders', { sign: WRONG_TOKEN })
    await service.post(`{"sign":"${WRONG_TOKEN}","reqTime":"x"}`)
    // Notices: taken, refused, not answered.
    await finishRounds(service.service.courier)
    for (const behaviour of ['fail', 'error_500', 'reset'] as const) {
      merchant.behave(behaviour)
      await service.pool.query("UPDATE notices SET state = 'pending', delivered_at = NULL, next_attempt_at = now()")
      await finishRounds(service.service.courier)
    }
    for (const notice of merchant.notices()) hidden.add(String(notice.body['sign']))
    const { rows } = await service.pool.query<{ no: string }>(
      'SELECT gateway_order_no AS no FROM orders WHERE gateway_order_no IS NOT NULL',
    )
    for (const { no } of rows) hidden.add(`o${no.slice(-27)}`).add(`2088${no.slice(-12)}`)
    // The database refuses, then is away.
    proxy.setMode('closed')
    await call(ids[0] ?? '')
    await service.ops('GET', `/ops/orders/${ids[0] ?? ''}`)
    await expect(service.service.courier.runOnce()).rejects.toThrow()
    proxy.setMode('open')

    const all = text()
    expect(hidden.size).toBeGreaterThan(60)
    expect([...hidden].filter((secret) => secret.length < 16)).toEqual([])
    expect([...hidden].filter((secret) => all.includes(secret))).toEqual([])
    // Nor any signature that we did not see pass by, nor any key: 100 characters of base64 in a row.
    expect(all.match(/[A-Za-z0-9+/]{100,}/g)).toBeNull()
    expect(all).not.toMatch(/WECHATPAY2-SHA256|signature="|Bearer [^*]/)
    const events = new Set(lines().map(({ event }) => event))
    expect([...events]).toEqual(
      expect.arrayContaining([
        'sync',
        'gateway_call',
        'notice',
        'ops_refused',
        'console_refused',
        'request_failed',
        'refused',
      ]),
    )
  })
})
