import { createHash } from 'node:crypto'

import { describe, expect, it } from 'vitest'

import { type Fen, fenFrom, fenFromYuan, yuanText } from '../../src/domain/money.js'
import { isNoticed, noticePayload, signedNotice } from '../../src/domain/notice.js'
import { CHANNEL_LABELS, channelLabel, ORDER_ID_MAX, type OrderId, orderIdFrom } from '../../src/domain/order.js'
import { RESULT_CODES } from '../../src/domain/result-code.js'
import { nextNoticeDelayS, nextSyncDelayS, retryDelayS, type SyncedOrder } from '../../src/domain/schedule.js'
import { isSignedBy, signatureOf, signText } from '../../src/domain/sign.js'
import { GATEWAY_ORDER_NO_FORM, TRADE_STATES } from '../../src/domain/trade.js'

it('a transaction number is 1 to 64 visible characters from end to end, as a row can hold it', () => {
  for (const text of ['4', '4200001863202400000000000099', 'x'.repeat(64)])
    expect(GATEWAY_ORDER_NO_FORM.test(text), text).toBe(true)
  for (const text of ['', 'x'.repeat(65), ' 4', '4 ', '4\0', '\n4', '4\n', '订4', '4单', '4 2'])
    expect(GATEWAY_ORDER_NO_FORM.test(text), JSON.stringify(text)).toBe(false)
})

it('what is counted by channel has a label for every channel that an order can name, and for none', () => {
  expect(CHANNEL_LABELS).toEqual(['wechat_pay', 'ali_pay', 'other', 'none'])
  for (const label of ['wechat_pay', 'ali_pay'] as const) expect(channelLabel(label)).toBe(label)
  for (const channel of ['union_pay', 'none', 'other', '']) expect(channelLabel(channel), channel).toBe('other')
  expect(channelLabel(null)).toBe('none')
})

describe('money', () => {
  it.each([
    ['0.01', 1n],
    ['0.1', 10n],
    ['88.88', 8888n],
    ['1', 100n],
    ['007.50', 750n],
    ['10000000000.00', 1_000_000_000_000n],
  ])('%s yuan is %s fen', (text, fen) => {
    expect(fenFromYuan(text)).toBe(fen)
  })

  it.each([
    '',
    '1.',
    '.5',
    '1.234',
    '-1',
    '+1',
    '1e2',
    ' 1',
    '1 ',
    '1,000',
    '１',
    '0x1',
    '10000000000.01',
    '1234567890123',
    '1.1.1',
    'NaN',
  ])('%j is no amount', (text) => {
    expect(fenFromYuan(text)).toBeUndefined()
  })

  it('fen are whole, not negative, and bounded', () => {
    expect(fenFrom(0)).toBe(0n)
    expect(fenFrom(1_000_000_000_000)).toBe(1_000_000_000_000n)
    expect(fenFrom(5n)).toBe(5n)
    for (const bad of [-1, 0.5, 1_000_000_000_001, Number.NaN, 2 ** 60, -1n]) expect(fenFrom(bad)).toBeUndefined()
  })

  it.each([
    [0n, '0.00'],
    [5n, '0.05'],
    [12n, '0.12'],
    [123n, '1.23'],
    [100_000n, '1000.00'],
  ])('%s fen are written %s', (fen, text) => {
    expect(yuanText(fen)).toBe(text)
  })
})

describe('order ids', () => {
  it('are 64-bit and above zero', () => {
    expect(orderIdFrom(1n)).toBe(1n)
    expect(orderIdFrom(ORDER_ID_MAX)).toBe(9_223_372_036_854_775_807n)
    for (const bad of [0n, -1n, ORDER_ID_MAX + 1n]) expect(orderIdFrom(bad)).toBeUndefined()
  })
})

describe('signatures', () => {
  it('null and absent are left out, the empty string is kept, sign never counts', () => {
    expect(signText({ b: null, c: '', a: 1n, sign: 'x', d: undefined, e: false })).toBe('a=1&c=&e=false')
  })

  it('quotes and backslashes go from the text but not from the secret', () => {
    expect(signText({ a: '"x\\y"' })).toBe('a=xy')
    expect(signatureOf('a=xy', '"\\', 'MD5')).not.toBe(signatureOf('a=xy', '', 'MD5'))
  })

  it('with no field at all the text begins with the key', () => {
    expect(signText({})).toBe('')
    expect(signatureOf('', 'k', 'MD5')).toBe(createHash('md5').update('&key=k').digest('hex'))
  })

  it('a list is a JSON array of objects with sorted keys, string values and no nulls', () => {
    expect(signText({ list: [{ way: null, channel: 'c', amount: 5 }] })).toBe('list=[{amount:5,channel:c}]')
    expect(
      signText({
        list: [
          { m: 1, z: 2, a: 3, k: null },
          { b: 1, a: 2 },
        ],
      }),
    ).toBe('list=[{a:3,m:1,z:2},{a:2,b:1}]')
    expect(signText({ list: [], a: 1 })).toBe('a=1')
  })

  it('the documented example comes out', () => {
    const text = signText({ businessNo: 'P0001', reqTime: 1_710_465_239n })
    expect(text).toBe('businessNo=P0001&reqTime=1710465239')
    expect(signatureOf(text, '123456', 'MD5')).toBe('836519d17bd157ebd4f63c83929b92be')
  })

  it('any of several secrets verifies, and nothing else does', () => {
    const sign = signatureOf('a=1', 'new', 'HMAC_SHA256')
    expect(isSignedBy('a=1', ['new', 'old'], 'HMAC_SHA256', sign)).toBe(true)
    expect(isSignedBy('a=1', ['old', 'new'], 'HMAC_SHA256', sign)).toBe(true)
    expect(isSignedBy('a=1', ['old'], 'HMAC_SHA256', sign)).toBe(false)
    expect(isSignedBy('a=1', [], 'HMAC_SHA256', sign)).toBe(false)
    expect(isSignedBy('a=1', ['new'], 'MD5', sign)).toBe(false)
    expect(isSignedBy('a=1', ['new'], 'HMAC_SHA256', sign.toUpperCase())).toBe(false)
    expect(isSignedBy('a=1', ['new'], 'HMAC_SHA256', `${sign}0`)).toBe(false)
    expect(isSignedBy('a=1', ['new'], 'HMAC_SHA256', '')).toBe(false)
  })
})

describe('result codes', () => {
  it('are those of the contract', () => {
    expect(
      Object.fromEntries(Object.entries(RESULT_CODES).map(([name, { code, message }]) => [name, `${code} ${message}`])),
    ).toEqual({
      success: '0 success',
      unreadable: '10005 参数处理失败',
      invalid: '10006 验证参数错误',
      unsigned: '20000 未通过签名验证',
      outOfWindow: '10008 请求已过期',
      orderNotNamed: '20000 未查询到支付订单',
      orderNotFound: '20000 未查询到支付订单',
      noChannel: '20000 订单没有异步支付方式，不需要同步',
      channelNotConfigured: '20000 支付通道未配置',
      tooMany: '20000 请求过于频繁，请稍后再试',
      overloaded: '20000 系统繁忙，请稍后再试',
      busy: '10007 支付同步处理中，请勿重复操作',
      amountMismatch: '28100 支付金额异常',
      identityMismatch: '28100 网关订单信息不一致',
      gatewayUnknown: '20000 支付网关未能确认订单状态',
      unexpected: '10001 系统错误',
      noSuchRoute: '10010 未找到接口信息',
    })
  })
})

describe('notices', () => {
  const order = {
    id: 1_753_370_980_523_384_832n as OrderId,
    businessNo: 'P0001',
    channel: 'wechat_pay',
    payWay: 'qr_code',
    amountFen: 1000n as Fen,
    status: 'success',
    createdAt: new Date(1_710_465_239_999),
    payTime: new Date(1_710_465_240_000),
    closeTime: null,
    attach: null,
  } as const

  it('tell an order in whole seconds, fen, and with its id as a string', () => {
    expect(noticePayload(order)).toEqual({
      paymentId: '1753370980523384832',
      businessNo: 'P0001',
      asyncPay: true,
      asyncChannel: 'wechat_pay',
      amount: 1000,
      payChannels: [{ channel: 'wechat_pay', way: 'qrcode', amount: 1000 }],
      status: 'success',
      createTime: 1_710_465_239,
      payTime: 1_710_465_240,
      closeTime: null,
      attach: null,
    })
  })

  it.each([
    ['bar_code', 'barcode'],
    ['jsapi', 'jsapi'],
    ['normal', 'normal'],
  ] as const)('say %s in DaxPay’s own word, %s', (payWay, way) => {
    expect(noticePayload({ ...order, payWay }).payChannels).toMatchObject([{ way }])
  })

  it('an order without a channel has no pay channels; a closed one has its close time', () => {
    const told = noticePayload({ ...order, channel: null, status: 'close', payTime: null, closeTime: new Date(5000) })
    expect(told).toMatchObject({ asyncPay: false, asyncChannel: null, payChannels: [], payTime: null, closeTime: 5 })
  })

  it('carry the signature over what they say', () => {
    const payload = noticePayload(order)
    expect(JSON.parse(signedNotice(payload, 'k', 'MD5'))).toEqual({
      ...payload,
      sign: signatureOf(signText(payload), 'k', 'MD5'),
    })
  })

  it('are not signed where there is no secret: a signature of the empty one anybody could make', () => {
    const payload = { paymentId: '1', payChannels: [] } as unknown as Parameters<typeof signedNotice>[0]
    expect(JSON.parse(signedNotice(payload, null, 'MD5'))).toEqual({ paymentId: '1', payChannels: [], sign: null })
  })

  it('are made of orders that became paid or closed, and of no others', () => {
    const told = (['progress', 'success', 'close', 'refunding', 'partial_refund', 'refunded', 'fail'] as const).filter(
      isNoticed,
    )
    expect(told).toEqual(['success', 'close'])
  })
})

describe('the schedule', () => {
  const live: SyncedOrder = { status: 'progress', trade: 'paying', ageS: 0, expiresInS: 10_000, closedForS: null }

  it.each([
    [0, 5],
    [5, 25],
    [29, 1],
    [30, 30],
    [60, 120],
    [180, 120],
    [300, 300],
    [600, 1200],
    [1800, 1800],
    [7200, 1800],
  ])('an order %s s old is asked for again after %s s', (ageS, delayS) => {
    expect(nextSyncDelayS({ ...live, ageS })).toBe(delayS)
    expect(nextSyncDelayS({ ...live, status: 'fail', ageS })).toBe(delayS)
  })

  // Written with the wrong offset, or by a clock that is ahead.
  it.each([
    [-3, 8],
    [-600, 605],
    [-28_800, 1800],
    [-315_360_000, 1800],
  ])('an order whose creation lies ahead (%s s old) is asked for again after %s s all the same', (ageS, delayS) => {
    expect(nextSyncDelayS({ ...live, ageS, expiresInS: 1800 - ageS })).toBe(delayS)
    expect(nextSyncDelayS({ ...live, status: 'fail', ageS, expiresInS: 1800 - ageS })).toBe(delayS)
  })

  it.each([
    [60, 1800],
    [1800, 1800],
    [40_000, 40_000],
    [5_184_000, 86_400],
  ])(
    'an order %s s old that was never settled and is refunded is asked for after %s s: rarer and rarer',
    (ageS, delayS) => {
      for (const status of ['progress', 'fail'] as const)
        for (const expiresInS of [7, -5])
          expect(nextSyncDelayS({ ...live, status, trade: 'refunded', ageS, expiresInS })).toBe(delayS)
    },
  )

  it('expiry is a due time of its own', () => {
    expect(nextSyncDelayS({ ...live, ageS: 600, expiresInS: 7 })).toBe(7)
    expect(nextSyncDelayS({ ...live, ageS: 600, expiresInS: 0 })).toBe(1200)
    expect(nextSyncDelayS({ ...live, ageS: 600, expiresInS: -5 })).toBe(1200)
  })

  it('settled orders are at rest', () => {
    for (const status of ['success', 'refunding', 'partial_refund', 'refunded'] as const) {
      expect(nextSyncDelayS({ ...live, status, trade: 'paid' })).toBeNull()
    }
  })

  it.each(['not_found_yet', 'not_found'] as const)(
    'an order closed as %s is watched after 5 min, 1 h and 24 h; other closed ones are at rest',
    (trade) => {
      const closed: SyncedOrder = { ...live, status: 'close', trade, closedForS: 0 }
      expect(nextSyncDelayS(closed)).toBe(300)
      // Closed at a time that nobody wrote down: watched from the order's expiry on, and not for good.
      expect(nextSyncDelayS({ ...closed, closedForS: null, expiresInS: -60 })).toBe(240)
      expect(nextSyncDelayS({ ...closed, closedForS: null, expiresInS: 60 })).toBe(300)
      expect(nextSyncDelayS({ ...closed, closedForS: null, expiresInS: -90_000 })).toBeNull()
      expect(nextSyncDelayS({ ...closed, closedForS: 300 })).toBe(3300)
      expect(nextSyncDelayS({ ...closed, closedForS: 3600 })).toBe(82_800)
      expect(nextSyncDelayS({ ...closed, closedForS: 86_400 })).toBeNull()
      expect(nextSyncDelayS({ ...closed, trade: 'closed' })).toBeNull()
    },
  )

  it('an order closed here that can still be paid there is not at rest; any other closed or settled one is', () => {
    const closed: SyncedOrder = { ...live, status: 'close', trade: 'paying', ageS: 60, expiresInS: -1, closedForS: 10 }
    expect(nextSyncDelayS(closed)).toBe(120)
    expect(nextSyncDelayS({ ...closed, ageS: 4000 })).toBe(1800)
    for (const trade of ['paid', 'closed', 'refunded'] as const) expect(nextSyncDelayS({ ...closed, trade })).toBeNull()
    for (const status of ['success', 'refunding', 'partial_refund', 'refunded'] as const)
      for (const trade of TRADE_STATES) expect(nextSyncDelayS({ ...closed, status, trade })).toBeNull()
  })

  it('failures are retried at growing distances, up to half an hour, or a day where a human must act', () => {
    expect([1, 2, 3, 4, 5, 6, 7, 8].map((n) => retryDelayS(n, 'unknown'))).toEqual([
      30, 60, 120, 240, 480, 960, 1800, 1800,
    ])
    expect([1, 12, 13, 5000].map((n) => retryDelayS(n, 'parked'))).toEqual([30, 61_440, 86_400, 86_400])
    // Behind any number of failures of whatever kind: a payment is not left alone for a day since the database was away.
    expect([1, 7, 8, 5000].map((n) => retryDelayS(n, 'threw'))).toEqual([30, 1920, 3600, 3600])
    expect(retryDelayS(0, 'unknown')).toBe(30)
  })

  it('a notice is sent 16 times within 24 h 4 min', () => {
    const delays: number[] = []
    for (let sends = 1; ; sends++) {
      const delay = nextNoticeDelayS(sends)
      if (delay === null) break
      delays.push(delay)
    }
    expect(delays).toEqual([15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600])
    expect(delays.reduce((sum, delay) => sum + delay, 0)).toBe(24 * 3600 + 4 * 60)
  })
})
