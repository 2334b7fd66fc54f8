// What the network between the service and a gateway does to a sync: it ends within its deadlines, and nothing is guessed.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { breachesOf } from '../support/invariants.js'
import { type Sandboxes, startSandboxes, startService, type TestService } from '../support/service.js'
import { proxyHttp, type TcpProxy } from '../support/tcp-proxy.js'

const GATEWAY_TIMEOUT_MS = 1_200
/** Query, close, query again, and room for a busy machine. */
const ANSWER_MS_MAX = 3 * GATEWAY_TIMEOUT_MS + 1_000
const CHANNELS = ['wechat_pay', 'ali_pay'] as const
type Channel = (typeof CHANNELS)[number]

const WORDS = {
  wechat_pay: { paid: 'SUCCESS', payable: 'NOTPAY', closed: 'CLOSED', query: '?mchid=', close: '/close' },
  ali_pay: {
    paid: 'TRADE_SUCCESS',
    payable: 'WAIT_BUYER_PAY',
    closed: 'TRADE_CLOSED',
    query: 'alipay.trade.query',
    close: 'alipay.trade.close',
  },
} as const

let sandboxes: Sandboxes
let service: TestService
let proxies: Readonly<Record<Channel, TcpProxy>>
beforeAll(async () => {
  sandboxes = await startSandboxes()
  const wechat = await proxyHttp(sandboxes.wechat.merchantSettings()['WECHAT_BASE_URLS'] ?? '')
  const alipay = await proxyHttp(sandboxes.alipay.merchantSettings()['ALIPAY_GATEWAY_URL'] ?? '')
  proxies = { wechat_pay: wechat.proxy, ali_pay: alipay.proxy }
  service = await startService({
    sandboxes,
    environment: {
      GATEWAY_TIMEOUT_MS: String(GATEWAY_TIMEOUT_MS),
      WECHAT_BASE_URLS: wechat.url.replace(/\/$/, ''),
      ALIPAY_GATEWAY_URL: alipay.url,
    },
  })
})
afterAll(async () => {
  await service.stop()
  for (const proxy of Object.values(proxies)) await proxy.close()
  await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  await service.database.drop()
})
afterEach(async () => {
  for (const proxy of Object.values(proxies)) {
    proxy.setDelay(0)
    proxy.setMode('open')
  }
  expect(await breachesOf(service.pool)).toEqual([])
})

const gatewayOf = (channel: Channel) => (channel === 'ali_pay' ? sandboxes.alipay : sandboxes.wechat)

async function orderThat(channel: Channel, is: 'paid' | 'expired'): Promise<string> {
  const expired = is === 'expired' ? { expiredTime: new Date(Date.now() - 60_000).toISOString() } : {}
  const id = await service.register({ channel, notifyUrl: 'http://127.0.0.1:9/notices', ...expired })
  gatewayOf(channel).putTrade(id, { state: WORDS[channel][is === 'paid' ? 'paid' : 'payable'], amount: 1000 })
  return id
}

/** One call, which must be answered within its deadlines. */
async function timedSync(id: string) {
  const startedMs = performance.now()
  const answer = await service.sync(id)
  expect(performance.now() - startedMs).toBeLessThan(ANSWER_MS_MAX)
  return answer
}

async function expectUnchanged(id: string) {
  const { order, repairs, notices } = await service.history(id)
  expect({ status: order.status, repairs, notices }).toEqual({ status: 'progress', repairs: [], notices: [] })
}

describe.each(CHANNELS)('between the service and %s', (channel) => {
  const words = WORDS[channel]

  it('a slow network is waited for', async () => {
    const id = await orderThat(channel, 'paid')
    proxies[channel].setDelay(150)
    expect(await timedSync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  })

  it.each([
    ['one that is slower than the deadline', (proxy: TcpProxy) => proxy.setDelay(GATEWAY_TIMEOUT_MS)],
    ['half-open connections', (proxy: TcpProxy) => proxy.setMode('silent')],
    ['no connection at all', (proxy: TcpProxy) => proxy.setMode('closed')],
  ])('%s: we do not know, nothing changes, and the next call settles', async (_, break_) => {
    const [kept, id] = [await orderThat(channel, 'paid'), await orderThat(channel, 'paid')]
    // So that a kept connection is there when the network breaks.
    expect(await timedSync(kept)).toMatchObject({ code: 0 })
    break_(proxies[channel])
    expect(await timedSync(id)).toMatchObject({ code: 20000, data: null })
    await expectUnchanged(id)
    proxies[channel].setDelay(0)
    proxies[channel].setMode('open')
    expect(await timedSync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  })

  it.each(['before', 'after'] as const)(
    'a query that is cut off %s it arrived: settled once, or nothing',
    async (moment) => {
      const id = await orderThat(channel, 'paid')
      const cut = proxies[channel].cutOn(words.query, moment)
      const { code } = await timedSync(id)
      await cut
      expect([0, 20000]).toContain(code)
      if (code === 20000) await expectUnchanged(id)
      expect((await timedSync(id)).code).toBe(0)
      expect((await service.history(id)).repairs).toHaveLength(1)
    },
  )

  it('a close that was carried out and whose answer is lost: not guessed; the next call finds it closed', async () => {
    const id = await orderThat(channel, 'expired')
    const cut = proxies[channel].cutOn(words.close, 'after')
    expect(await timedSync(id)).toMatchObject({ code: 20000, data: null })
    await cut
    await expectUnchanged(id)
    expect(gatewayOf(channel).getTrade(id)?.state).toBe(words.closed)
    expect(await timedSync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: true } })
    const { order, repairs } = await service.history(id)
    expect([order.status, repairs.length]).toEqual(['close', 1])
    expect(gatewayOf(channel).calls(id).close).toBe(1)
  })

  it('a close that never arrived: not guessed; the next call closes', async () => {
    const id = await orderThat(channel, 'expired')
    const cut = proxies[channel].cutOn(words.close, 'before')
    expect(await timedSync(id)).toMatchObject({ code: 20000, data: null })
    await cut
    await expectUnchanged(id)
    expect(await timedSync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_timeout', repair: true } })
  })
})
