import { describe, expect, it } from 'vitest'

import {
  errorRow,
  errorSchema,
  identityOfV2,
  isCloseRefusal,
  isNotFound,
  notFound,
  tradeOf,
  tradeOfV2,
} from '../../src/gateways/wechat/trade.js'

const SP = '1800000001'

/** A genuine answer, in the form that the gateway gives a paid JSAPI order. */
const PAID = {
  transaction_id: '4200001863202305068344507881',
  amount: { currency: 'CNY', payer_currency: 'CNY', payer_total: 1, total: 1 },
  mchid: '1642979517',
  trade_state: 'SUCCESS',
  bank_type: 'OTHERS',
  promotion_detail: [],
  success_time: '2023-05-06T15:17:31+08:00',
  payer: { openid: 'oPuGI5V0' },
  out_trade_no: 'P1',
  appid: 'wxfc0e36204345c206',
  trade_state_desc: '支付成功',
}
const PARTNER = {
  sp_appid: 'wxsp',
  sp_mchid: SP,
  sub_mchid: '1900000109',
  sub_appid: 'wxsub',
  out_trade_no: 'P1',
  trade_state: 'NOTPAY',
  amount: { total: 100, payer_currency: 'CNY' },
}
const V2 = {
  appid: 'wx1',
  mch_id: '1502167371',
  out_trade_no: 'P1',
  trade_state: 'SUCCESS',
  total_fee: '16800',
  fee_type: 'CNY',
  transaction_id: '4200000229201812253067440523',
  time_end: '20181225213839',
}
const fieldsOf = (fields: Readonly<Record<string, string>>) => new Map(Object.entries(fields))

/** GATEWAYS.md, trade_state. */
const STATES = `
SUCCESS    paid
REFUND     refunded
NOTPAY     paying
USERPAYING paying
ACCEPT     paying
CLOSED     closed
REVOKED    closed
PAYERROR   paying
`
  .trim()
  .split('\n')
  .map((line) => line.split(/\s+/) as [string, string])

describe('trade_state', () => {
  it.each(STATES)('%s is %s, in either API', (state, expected) => {
    expect(tradeOf({ ...PAID, trade_state: state }, null)).toMatchObject({ state: expected, gatewayState: state })
    expect(tradeOfV2(fieldsOf({ ...V2, trade_state: state }), null)).toMatchObject({
      state: expected,
      gatewayState: state,
    })
  })

  it.each(STATES)('%s after a reverse is %s, but for a failed attempt, which is closed then', (state, before) => {
    const expected = state === 'PAYERROR' ? 'closed' : before
    expect(tradeOf({ ...PAID, trade_state: state }, null, true)).toMatchObject({ state: expected, gatewayState: state })
    expect(tradeOfV2(fieldsOf({ ...V2, trade_state: state }), null, true)).toMatchObject({ state: expected })
  })

  it.each(['', 'success', 'SUCCESS ', 'TELEPORTED', 'constructor', '__proto__', 'toString'])(
    '%j is unknown',
    (state) => {
      expect(tradeOf({ ...PAID, trade_state: state }, null)).toBeUndefined()
      expect(tradeOfV2(fieldsOf({ ...V2, trade_state: state }), null)).toBeUndefined()
    },
  )
})

describe('a trade', () => {
  it('is what the answer says, and nothing more', () => {
    expect(tradeOf(PAID, null)).toEqual({
      state: 'paid',
      gatewayState: 'SUCCESS',
      outTradeNo: 'P1',
      merchantId: '1642979517',
      appId: 'wxfc0e36204345c206',
      gatewayOrderNo: '4200001863202305068344507881',
      amountFen: 1n,
      currency: 'CNY',
      paidAt: new Date('2023-05-06T07:17:31Z'),
    })
    expect(tradeOfV2(fieldsOf(V2), null)).toEqual({
      state: 'paid',
      gatewayState: 'SUCCESS',
      outTradeNo: 'P1',
      merchantId: '1502167371',
      appId: 'wx1',
      gatewayOrderNo: '4200000229201812253067440523',
      amountFen: 16_800n,
      currency: 'CNY',
      paidAt: new Date('2018-12-25T13:38:39Z'),
    })
  })

  it('that is not paid has no transaction, currency or time', () => {
    const notPaid = {
      amount: { payer_currency: 'CNY', total: 100 },
      appid: 'wx1',
      mchid: '1',
      out_trade_no: 'P1',
      promotion_detail: [],
      scene_info: { device_id: '' },
      trade_state: 'NOTPAY',
    }
    expect(tradeOf(notPaid, null)).toMatchObject({
      state: 'paying',
      amountFen: 100n,
      gatewayOrderNo: null,
      currency: null,
      paidAt: null,
    })
    const { total_fee: _fee, fee_type: _type, time_end: _time, transaction_id: _id, ...closed } = V2
    expect(tradeOfV2(fieldsOf({ ...closed, trade_state: 'CLOSED', transaction_id: '' }), null)).toMatchObject({
      state: 'closed',
      amountFen: null,
      gatewayOrderNo: null,
      currency: null,
      paidAt: null,
    })
  })

  it('told with fields and values that nobody knows yet is told all the same', () => {
    expect(tradeOf({ ...PAID, trade_type: 'TELEPATHY', new_field: [{}], payer: 7 }, null)).toMatchObject({
      state: 'paid',
    })
    expect(tradeOfV2(fieldsOf({ ...V2, new_field: 'x' }), null)).toMatchObject({ state: 'paid' })
  })

  it.each(['appid', 'mchid', 'out_trade_no'])(
    'of an answer without %s is not understood: it names nobody’s order',
    (name) => {
      const { [name as 'appid']: _gone, ...rest } = PAID
      expect(tradeOf(rest, null)).toBeUndefined()
      expect(tradeOf({ ...PAID, [name]: null }, null)).toBeUndefined()
      expect(tradeOf({ ...PAID, [name]: '' }, null)).toBeUndefined()
    },
  )

  it.each(['appid', 'mch_id', 'out_trade_no'])('of an APIv2 answer without %s neither', (name) => {
    expect(tradeOfV2(fieldsOf({ ...V2, [name]: '' }), null)).toBeUndefined()
  })

  it.each([
    ['none', undefined],
    ['null', null],
    ['no total', { currency: 'CNY' }],
    ['a fraction', { total: 1.5 }],
    ['a text', { total: '1' }],
    ['a negative one', { total: -1 }],
    ['one that no float holds', { total: 2 ** 60 }],
    ['one beyond any order', { total: 1e13 }],
  ])('that is paid with %s for an amount is not understood', (_title, amount) => {
    expect(tradeOf({ ...PAID, amount }, null)).toBeUndefined()
  })

  it.each(['', '1.5', '-1', '1e3', '１', '9999999999999999', ' 1'])(
    'that is paid in APIv2 with total_fee %j neither',
    (fee) => {
      expect(tradeOfV2(fieldsOf({ ...V2, total_fee: fee }), null)).toBeUndefined()
    },
  )

  it.each(['20181225', '20181325213839', '20180231213839', '20181225253839', '2018-12-25 21:38'])(
    'with the time %s is not understood',
    (time) => {
      expect(tradeOfV2(fieldsOf({ ...V2, time_end: time }), null)).toBeUndefined()
    },
  )

  it.each(['2023-05-06', 'yesterday', 7])('with the success_time %j is not understood', (time) => {
    expect(tradeOf({ ...PAID, success_time: time }, null)).toBeUndefined()
  })

  it('without a success_time has none', () => {
    expect(tradeOf({ ...PAID, success_time: null }, null)?.paidAt).toBeNull()
    const { success_time: _time, ...rest } = PAID
    expect(tradeOf(rest, null)?.paidAt).toBeNull()
  })

  it.each([null, [], 'text', 7, undefined, {}])('of the answer %j is not understood', (answer) => {
    expect(tradeOf(answer, null)).toBeUndefined()
  })
})

describe('in partner mode', () => {
  it('merchant and app are the sub-merchant and the provider’s app', () => {
    expect(tradeOf(PARTNER, SP)).toMatchObject({ merchantId: '1900000109', appId: 'wxsp' })
    expect(tradeOfV2(fieldsOf({ ...V2, mch_id: SP, sub_mch_id: '1900000109' }), SP)).toMatchObject({
      merchantId: '1900000109',
      appId: 'wx1',
    })
  })

  it('another provider’s answer names that provider, so that the difference is seen', () => {
    expect(tradeOf({ ...PARTNER, sp_mchid: '1800000002' }, SP)?.merchantId).toBe('1800000002')
    expect(tradeOfV2(fieldsOf({ ...V2, mch_id: '1800000002', sub_mch_id: '1900000109' }), SP)?.merchantId).toBe(
      '1800000002',
    )
  })

  it('an answer without provider or sub-merchant is not understood', () => {
    expect(tradeOf({ ...PARTNER, sp_mchid: null }, SP)).toBeUndefined()
    expect(tradeOf({ ...PARTNER, sub_mchid: null }, SP)).toBeUndefined()
    expect(tradeOf(PAID, SP)).toBeUndefined()
    expect(tradeOfV2(fieldsOf({ ...V2, mch_id: SP }), SP)).toBeUndefined()
  })
})

/** `status code | duty reason again isFault`. A code without underscores is the same. */
const ERRORS = `
400 PARAM_ERROR            alert    configuration false false
400 INVALID_REQUEST        alert    configuration false false
400 MCH_NOT_EXISTS         alert    configuration false false
400 APPID_MCHID_NOT_MATCH  alert    configuration false false
401 SIGN_ERROR             alert    configuration false false
403 NO_AUTH                alert    configuration false false
403 RULE_LIMIT             alert    configuration false false
429 FREQUENCY_LIMITED      back_off rate_limited  false false
429 RATELIMITED            back_off rate_limited  false false
500 SYSTEM_ERROR           retry    gateway_error true  true
500 BANK_ERROR             retry    gateway_error true  true
200 SYSTEM_ERROR           retry    gateway_error true  true
429 -                      back_off rate_limited  false false
502 -                      retry    gateway_error true  true
404 ORDER_NOT_EXIST        alert    unknown_code  false false
418 SHORT_AND_STOUT        alert    unknown_code  false false
200 -                      alert    unknown_code  false false
400 constructor            alert    unknown_code  false false
`
  .trim()
  .split('\n')
  .map((line) => line.split(/\s+/) as [string, string, string, string, string, string])

describe('an error code asks of us', () => {
  it.each(ERRORS)('%s %s: %s, %s, again %s, fault %s', (status, code, duty, reason, again, isFault) => {
    const expected = { duty, reason, again: again === 'true', isFault: isFault === 'true' }
    for (const spelled of [code, code.replaceAll('_', ''), code.toLowerCase()]) {
      expect(errorRow(Number(status), spelled === '-' ? '' : spelled)).toEqual(expected)
    }
  })

  it('ORDER_NOT_EXIST alone says that there is none', () => {
    for (const code of ['ORDER_NOT_EXIST', 'ORDERNOTEXIST']) expect(isNotFound(code)).toBe(true)
    for (const code of ['RESOURCE_NOT_EXISTS', 'NOT_FOUND', 'ORDER_NOT_EXISTS', 'MCH_NOT_EXISTS', ''])
      expect(isNotFound(code)).toBe(false)
  })

  it('what a close can be refused with, and what is no refusal', () => {
    for (const code of ['ORDER_CLOSED', 'ORDERPAID', 'TRADE_ERROR', 'ORDERNOTEXIST', 'ORDERREVERSED', 'USERPAYING']) {
      expect(isCloseRefusal(code), code).toBe(true)
    }
    for (const code of ['SYSTEM_ERROR', 'PARAM_ERROR', 'INVALID_REQUEST', 'SIGN_ERROR', 'NO_AUTH', '']) {
      expect(isCloseRefusal(code), code).toBe(false)
    }
  })

  it.each([null, undefined, [], 'text', { code: 7, message: {} }, {}])(
    'an error body that is %j has no code',
    (body) => {
      expect(errorSchema.parse(body)).toEqual({ code: '', message: '' })
    },
  )

  it('a trade that is not there has no state of its own; APIv2 says whose word it is', () => {
    expect(notFound('ORDER_NOT_EXIST')).toMatchObject({ state: 'not_found', merchantId: null, amountFen: null })
    const identity = identityOfV2(fieldsOf({ appid: 'wx1', mch_id: '1' }), null)
    expect(notFound('ORDERNOTEXIST', identity)).toMatchObject({ merchantId: '1', appId: 'wx1' })
    expect(identityOfV2(fieldsOf({}), null)).toEqual({ merchantId: null, appId: null })
  })
})
