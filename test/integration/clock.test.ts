// Clocks that are off, over the whole service: what depends on them, and what people are told.
import { describe, expect, it } from 'vitest'

import type { Sandboxes } from '../support/service.js'
import { startSandboxes, startService, type TestService } from '../support/service.js'

type Kind = 'WeChat Pay APIv3' | 'WeChat Pay APIv2' | 'Alipay'

async function withClock(
  kind: Kind,
  offS: number,
  use: (own: TestService, id: string, lines: Record<string, unknown>[]) => Promise<void>,
) {
  const lines: Record<string, unknown>[] = []
  const sandboxes: Sandboxes = await startSandboxes(kind === 'WeChat Pay APIv2' ? { mode: 'v2' } : {})
  const own = await startService({
    sandboxes,
    now: () => Date.now() + offS * 1000,
    environment: { LOG_LEVEL: 'info' },
    onLogLine: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>),
  })
  try {
    const id = await own.register({ channel: kind === 'Alipay' ? 'ali_pay' : 'wechat_pay' })
    if (kind === 'Alipay') own.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    else own.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    await use(own, id, lines)
  } finally {
    await own.stop()
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  }
}

const warnings = (lines: readonly Record<string, unknown>[]) => lines.filter(({ event }) => event === 'clock_skew')

describe.each<Kind>(['WeChat Pay APIv3', 'WeChat Pay APIv2', 'Alipay'])('%s', (kind) => {
  it.each([240, -240])('a clock %i s off works, and is warned of', async (offS) => {
    await withClock(kind, offS, async (own, id, lines) => {
      expect(await own.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
      expect(warnings(lines)).toMatchObject([
        { level: 'warn', channel: kind === 'Alipay' ? 'ali_pay' : 'wechat_pay', skewS: expect.closeTo(offS, -1) },
      ])
    })
  })

  it('a clock that is right is not', async () => {
    await withClock(kind, 0, async (own, id, lines) => {
      await own.sync(id)
      expect(warnings(lines)).toEqual([])
    })
  })
})

// APIv2 has no times to compare: nothing of it fails with a clock. Alipay allows more than WeChat Pay before it refuses.
describe.each([
  ['WeChat Pay APIv3', 360],
  ['WeChat Pay APIv3', -360],
  ['Alipay', 660],
  ['Alipay', -660],
] as const)('%s, a clock %i s off', (kind, offS) => {
  it('fails closed: nothing changes, and the merchant and the record are told that it is the clock', async () => {
    await withClock(kind, offS, async (own, id) => {
      expect(await own.sync(id)).toMatchObject({ code: 20000, data: null, msg: expect.stringContaining('clock') })
      const { order, syncs, repairs, notices } = await own.history(id)
      expect([order.status, repairs, notices]).toEqual(['progress', [], []])
      expect(syncs).toMatchObject([{ outcome: 'unknown', errorMsg: expect.stringContaining('clock') }])
    })
  })
})
