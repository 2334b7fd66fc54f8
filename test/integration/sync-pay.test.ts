import { request } from 'node:http'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { signatureOf, signText } from '../../src/domain/sign.js'
import { newPaymentId, SECRET, signedBody, startService, type TestService } from '../support/service.js'

let service: TestService

beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

const past = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString()

describe('a merchant’s call', () => {
  it('settles an order that is paid there, once, with records that name each other', async () => {
    const id = await service.register({ notifyUrl: 'http://127.0.0.1:9/none' })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    const answer = await service.sync(id)
    expect(answer).toMatchObject({
      code: 0,
      msg: 'success',
      data: { gatewayStatus: 'pay_success', success: true, repair: true, errorMsg: '' },
    })
    expect(answer.data?.repairOrderNo).toMatch(/^\d{19}$/)
    expect(answer.traceId).toMatch(/^[0-9A-Za-z]{12}$/)

    const again = await service.sync(id)
    expect(again).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: false, repairOrderNo: null } })

    const { order, syncs, repairs, notices } = await service.history(id)
    expect(order).toMatchObject({ status: 'success', payTime: expect.any(String), gatewayOrderNo: expect.any(String) })
    expect(repairs).toMatchObject([{ way: 'pay_success', statusBefore: 'progress', statusAfter: 'success' }])
    expect(syncs).toHaveLength(2)
    expect(syncs[1]).toMatchObject({
      traceId: answer.traceId,
      repairOrderNo: answer.data?.repairOrderNo,
      outcome: 'synced',
    })
    expect(repairs[0]).toMatchObject({ repairOrderNo: answer.data?.repairOrderNo, syncId: syncs[1]?.id })
    expect(notices).toMatchObject([
      { repairOrderNo: answer.data?.repairOrderNo, payload: { paymentId: id, status: 'success', amount: 1000 } },
    ])
  })

  it('its answer carries the signature that the merchants’ SDK verifies', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    for (const answer of [await service.sync(id), await service.sync(id)]) {
      const { gatewayStatus, repair, repairOrderNo } = answer.data ?? {
        gatewayStatus: '',
        repair: false,
        repairOrderNo: null,
      }
      expect(answer.sign).toBe(signatureOf(signText({ gatewayStatus, repair, repairOrderNo }), SECRET, 'MD5'))
    }
  })

  it('an error has data null and no sign', async () => {
    const answer = await service.post('{}')
    expect(answer).toEqual({
      msg: '验证参数错误: reqTime: 请求时间必填',
      code: 10006,
      data: null,
      traceId: expect.any(String),
    })
    expect(Object.keys(answer)).toEqual(['msg', 'code', 'data', 'traceId'])
  })

  it('a 19-digit id as a bare number finds its order, and its neighbour does not', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
    expect(await service.sync((BigInt(id) + 1n).toString())).toMatchObject({ code: 20000, msg: '未查询到支付订单' })
  })

  it('finds an order by its business number, and by nothing else where a payment id is given too', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
    expect(await service.post(signedBody({ businessNo: `B${id}` }))).toMatchObject({ code: 0 })
    expect(await service.post(signedBody({ paymentId: 1n, businessNo: `B${id}` }))).toMatchObject({
      code: 20000,
      msg: '未查询到支付订单',
    })
    expect(await service.post(signedBody({}))).toMatchObject({ code: 20000, msg: '未查询到支付订单' })
    expect(await service.post(signedBody({ businessNo: 'a\0b' }))).toMatchObject({
      code: 20000,
      msg: '未查询到支付订单',
    })
    expect(await service.post(signedBody({ paymentId: -5n }))).toMatchObject({ code: 20000, msg: '未查询到支付订单' })
  })

  it('an order without a channel, and one of a channel that is not configured, are told apart', async () => {
    const none = await service.register({ channel: null })
    const other = await service.register({ channel: 'union_pay' })
    expect(await service.sync(none)).toMatchObject({ code: 20000, msg: '订单没有异步支付方式，不需要同步' })
    expect(await service.sync(other)).toMatchObject({ code: 20000, msg: '支付通道未配置: union_pay' })
  })
})

describe('each situation gets its repair', () => {
  const expired = { expiredTime: past(1) }
  it.each([
    ['paid at Alipay', { channel: 'ali_pay' }, 'TRADE_SUCCESS', 'pay_success', true, 'success'],
    ['finished at Alipay', { channel: 'ali_pay' }, 'TRADE_FINISHED', 'pay_success', true, 'success'],
    ['not paid yet', {}, 'NOTPAY', 'pay_progress', false, 'progress'],
    ['being paid', {}, 'USERPAYING', 'pay_progress', false, 'progress'],
    ['expired, unpaid', expired, 'NOTPAY', 'pay_timeout', true, 'close'],
    ['expired, unpaid at Alipay', { channel: 'ali_pay', ...expired }, 'WAIT_BUYER_PAY', 'pay_timeout', true, 'close'],
    ['not scanned at Alipay', { channel: 'ali_pay' }, null, 'pay_not_found_unknown', false, 'progress'],
    ['expired, never scanned', { channel: 'ali_pay', ...expired }, null, 'pay_timeout', true, 'close'],
    ['closed there', {}, 'CLOSED', 'pay_closed', true, 'close'],
    ['unknown there', {}, null, 'pay_not_found', true, 'close'],
    [
      'unknown there, but young',
      { createTime: past(0), expiredTime: past(-30) },
      null,
      'pay_not_found',
      false,
      'progress',
    ],
    ['refunded there, never settled', {}, 'REFUND', 'pay_refund', false, 'progress'],
    ['paid here, closed there', { status: 'success', payTime: past(5) }, 'CLOSED', 'pay_closed', false, 'success'],
    ['closed here, paid there', { status: 'close' }, 'SUCCESS', 'pay_success', true, 'success'],
    ['closed here, payable there', { status: 'close' }, 'NOTPAY', 'pay_closed', true, 'close'],
    ['failed here, payable there', { status: 'fail' }, 'NOTPAY', 'pay_progress', true, 'progress'],
  ] as const)('%s', async (_, order, state, gatewayStatus, repair, status) => {
    const id = await service.register(order)
    const gateway = 'channel' in order && order.channel === 'ali_pay' ? service.alipay : service.wechat
    if (state !== null) gateway.putTrade(id, { state, amount: 1000 })
    const first = await service.sync(id)
    expect(first).toMatchObject({ code: 0, data: { gatewayStatus, repair } })
    const second = await service.sync(id)
    expect(second).toMatchObject({ code: 0, data: { repair: false, repairOrderNo: null } })
    const history = await service.history(id)
    expect(history.order.status).toBe(status)
    expect(history.repairs).toHaveLength(repair ? 1 : 0)
  })
})

describe('nothing but verified evidence changes an order', () => {
  const same = async (id: string) => {
    const { order, repairs, notices } = await service.history(id)
    expect(order.status).toBe('progress')
    expect([repairs, notices]).toEqual([[], []])
  }

  it.each([
    'unsigned',
    'tampered',
    'stale',
    'unknown_serial',
    'html502',
    'system_error',
    'rate_limit',
    'cut',
    'reset',
    'unknown_state',
    'duplicate_key',
    'huge',
    'redirect',
  ] as const)('a paid trade whose answer is %s: 20000, and a record of the failure', async (fault) => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    service.wechat.addFaults([{ on: 'query', fault, times: 10, outTradeNo: id }])
    expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
    await same(id)
    expect((await service.history(id)).syncs).toMatchObject([
      { outcome: 'unknown', gatewayStatus: 'pay_fail', errorCode: 20000 },
    ])
  })

  it.each([
    ['wrong_amount', 'amount_mismatch', '支付金额异常'],
    ['wrong_order', 'identity_mismatch', '网关订单信息不一致'],
    ['wrong_merchant', 'identity_mismatch', '网关订单信息不一致'],
  ] as const)('an answer with %s: 28100 and one exception, however often it is asked', async (fault, kind, message) => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    service.wechat.addFaults([{ on: 'query', fault, times: 3, outTradeNo: id }])
    for (let call = 0; call < 3; call++) {
      expect(await service.sync(id)).toMatchObject({ code: 28100, msg: expect.stringContaining(message) })
    }
    await same(id)
    expect((await service.history(id)).exceptions).toMatchObject([{ kind, state: 'open', seenCount: 3 }])
  })
})

describe('many calls at once', () => {
  it('200 for one order: one query in flight at any time, one repair, the others 10007 or repair false', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    const answers = await Promise.all(Array.from({ length: 200 }, async () => await service.sync(id)))
    expect(answers.filter(({ data }) => data?.repair === true)).toHaveLength(1)
    for (const { code, data } of answers) {
      if (code === 0) continue
      expect({ code, data }).toEqual({ code: 10007, data: null })
    }
    expect(service.wechat.calls(id).queriesInFlightMax).toBe(1)
    const { order, repairs, notices } = await service.history(id)
    expect(order.status).toBe('success')
    expect(repairs).toHaveLength(1)
    expect(notices).toHaveLength(0)
  })
})

describe('every answer under /unipay is HTTP 200 with its code', () => {
  const raw = async (path: string, init: RequestInit) => {
    const response = await fetch(`${service.url}${path}`, init)
    return { status: response.status, type: response.headers.get('content-type'), text: await response.text() }
  }
  const json = { 'content-type': 'application/json' }
  it.each([
    ['GET', '/unipay/syncPay', {}, undefined, 10010],
    ['PUT', '/unipay/syncPay', json, '{}', 10010],
    ['DELETE', '/unipay/syncPay', {}, undefined, 10010],
    ['POST', '/unipay/other', json, '{}', 10010],
    ['POST', '/unipay', json, '{}', 10010],
    ['PUT', '/unipay/syncPay', json, '{bad', 10010],
    ['POST', '/unipay/other', json, '', 10010],
    ['POST', '/unipay/other', json, `"${'x'.repeat(2_000_000)}"`, 10010],
    ['POST', '/unipay/other', { 'content-type': 'application/xml' }, '<a/>', 10010],
    ['GET', '/unipay/%zz', {}, undefined, 10010],
    ['POST', '/%75nipay/syncPay', json, '{}', 10006],
    ['POST', '/%75nipay/syncPay', { 'content-type': 'application/xml' }, '<a/>', 10005],
    ['POST', '/%75nipay/other', json, '{bad', 10010],
    ['POST', '/unipay/syncPay', { 'content-type': 'text/plain' }, '{"reqTime":1}', 10005],
    ['POST', '/unipay/syncPay', { 'content-type': 'application/x-www-form-urlencoded' }, 'a=b', 10005],
    ['POST', '/unipay/syncPay', { 'content-type': 'application/xml' }, '<a/>', 10005],
    ['POST', '/unipay/syncPay', json, '', 10005],
    ['POST', '/unipay/syncPay', {}, undefined, 10005],
    ['POST', '/unipay/syncPay', json, '{', 10005],
    ['POST', '/unipay/syncPay', json, `{"a":"${'x'.repeat(65_536)}"}`, 10005],
    ['POST', '/unipay/syncPay', { 'content-type': 'application/json;charset=UTF-8' }, '{}', 10006],
    ['POST', '/unipay/syncPay', { 'content-type': 'Application/JSON' }, '{}', 10006],
    ['POST', '//unipay/syncPay', json, '{}', 10006],
    ['POST', '//unipay//syncPay', json, '{}', 10006],
    ['POST', '/unipay/syncPay?x=1', json, '{}', 10006],
  ] as const)('%s %s %j (%#)', async (method, path, headers, body, code) => {
    const answer = await raw(path, { method, headers, ...(body === undefined ? {} : { body }) })
    expect(answer.status).toBe(200)
    expect(answer.type).toContain('application/json')
    expect(JSON.parse(answer.text)).toEqual({
      code,
      msg: expect.any(String),
      data: null,
      traceId: expect.stringMatching(/^\w{12}$/),
    })
  })

  /** What no fetch would send: the whole address in the request line, or an expectation nobody knows. */
  it.each([
    ['POST', 'http://example.com/unipay/syncPay', {}, 10006],
    ['POST', 'http://example.com/unipay/syncPay', { 'content-type': 'text/plain' }, 10005],
    ['POST', 'https://example.com//unipay/other', {}, 10010],
    ['POST', '/unipay/syncPay', { expect: 'the-unexpected' }, 10006],
    ['POST', '/unipay/syncPay', { expect: '100-continue' }, 10006],
  ] as const)('%s %s %j: %i', async (method, path, headers, code) => {
    const { hostname, port } = new URL(service.url)
    const answer = await new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
      const options = { hostname, port, method, path, headers: { ...json, 'content-length': 2, ...headers } }
      const call = request(options, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part
        })
        response.on('end', () => resolve({ status: response.statusCode, text }))
      })
      call.on('error', reject)
      call.end('{}')
    })
    expect(answer.status).toBe(200)
    expect(JSON.parse(answer.text)).toMatchObject({ code, data: null })
  })

  it('elsewhere, statuses are the conventional ones', async () => {
    expect((await raw('/nothing', {})).status).toBe(404)
    expect((await raw('/nothing', { method: 'POST', headers: json, body: '{bad' })).status).toBe(404)
    expect((await raw('/ops/orders/1', {})).status).toBe(401)
    expect((await raw('/healthz', {})).status).toBe(200)
    expect((await raw('/readyz', {})).status).toBe(200)
  })
})

describe('time windows and secrets', () => {
  it('outside a configured window is 10008; wrongly signed is told first; either secret of a rotation verifies, the first signs', async () => {
    const strict = await startService({
      database: service.database,
      environment: { REQ_TIME_WINDOW_S: '300', SIGN_SECRETS: 'new-secret,123456' },
    })
    try {
      const now = Math.floor(Date.now() / 1000)
      expect(await strict.post(signedBody({ businessNo: 'none', reqTime: now - 301 }))).toMatchObject({
        code: 10008,
        msg: '请求已过期',
      })
      expect(await strict.post(signedBody({ businessNo: 'none', reqTime: now + 310 }))).toMatchObject({ code: 10008 })
      expect(await strict.post(signedBody({ businessNo: 'none', reqTime: now - 301 }, 'wrong'))).toMatchObject({
        code: 20000,
        msg: '未通过签名验证',
      })
      expect(await strict.post(signedBody({ businessNo: 'none', reqTime: now - 290 }))).toMatchObject({
        code: 20000,
        msg: '未查询到支付订单',
      })
      const id = await strict.register({ paymentId: newPaymentId() })
      strict.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
      const answer = await strict.sync(id)
      expect(answer.sign).toBe(signatureOf('gatewayStatus=pay_progress&repair=false', 'new-secret', 'MD5'))
    } finally {
      await strict.stop()
    }
  })

  it('a merchant may sign all that was sent', async () => {
    const fields = { businessNo: 'none', reqTime: 1, version: '2.0', extra: 'x' }
    const sign = signatureOf(signText(fields), SECRET, 'MD5')
    expect(await service.post(JSON.stringify({ ...fields, sign }))).toMatchObject({ msg: '未查询到支付订单' })
    expect(await service.post(JSON.stringify({ ...fields, extra: 'y', sign }))).toMatchObject({ msg: '未通过签名验证' })
  })
})
