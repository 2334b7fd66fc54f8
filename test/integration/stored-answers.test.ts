// What a gateway, or a proxy in front of it, sends is kept as evidence, whatever characters it has.
import { afterEach, expect, it } from 'vitest'

import { startService } from '../support/service.js'
import { APP_ID, MCH_ID, paidTrade, signed, startAnsweringWechat } from '../support/wechat-answers.js'

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop()
})

/** A service whose gateway answers each query with `answer`; and an order of it. */
async function withAnswer(status: number, answer: (orderId: string) => string) {
  let body = ''
  const gateway = await startAnsweringWechat((_request, response) => {
    response.writeHead(status, status === 200 ? signed(body) : {}).end(body)
  })
  stops.push(gateway.stop)
  const service = await startService({ environment: gateway.settings })
  stops.push(service.stop)
  const id = await service.register()
  body = answer(id)
  return { service, id }
}

async function storedBody(service: Awaited<ReturnType<typeof startService>>, id: string): Promise<string> {
  const { rows } = await service.pool.query<{ exchanges: readonly { body: string }[]; error_msg: string | null }>(
    'SELECT exchanges, error_msg FROM sync_records WHERE order_id = $1',
    [id],
  )
  expect(rows).toHaveLength(1)
  return rows[0]?.exchanges[0]?.body ?? ''
}

it.each([
  ['a NUL and half a pair, as escapes', 'a\\u0000b\\ud800c'],
  ['a backslash before what looks like one', 'a\\\\u0000b'],
])('a paid trade with %s in its subject settles the order, and is kept as it came', async (_title, attach) => {
  const { service, id } = await withAnswer(200, (orderId) =>
    paidTrade({ out_trade_no: orderId, appid: APP_ID, mchid: MCH_ID, attach: 'ATTACH' }).replace('ATTACH', attach),
  )
  expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  expect(await storedBody(service, id)).toContain(`"attach":"${attach}"`)
})

it.each(['0001-01-01T00:00:00+08:00', '9999-12-31T23:59:59-08:00'])(
  'a paid trade settles the order, however odd its time: %s',
  async (successTime) => {
    const { service, id } = await withAnswer(200, (orderId) =>
      paidTrade({ out_trade_no: orderId, success_time: successTime }),
    )
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  },
)

it.each([
  ['NULs among its bytes', 'bad\0gate\0way', 'bad\uFFFDgate\uFFFDway'],
  ['a pair where it is cut short', `${'x'.repeat(199)}\u{1F600}`, `${'x'.repeat(199)}\uFFFD`],
])('a page with %s is kept without them, and nothing changes', async (_title, page, kept) => {
  const { service, id } = await withAnswer(502, () => page)
  expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
  expect(await storedBody(service, id)).toBe(kept)
})
