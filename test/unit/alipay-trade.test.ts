import { describe, expect, it } from 'vitest'

import {
  cancelEffect,
  closeRefusal,
  errorRow,
  isNotFoundYet,
  notFoundYet,
  resultSchema,
  tradeOf,
} from '../../src/gateways/alipay/trade.js'
import { paidNode } from '../support/alipay-answers.js'

const told = (change: Record<string, unknown> = {}) => tradeOf(JSON.parse(paidNode(change)))
const resultOf = (code: string, subCode = '') => resultSchema.parse({ code, sub_code: subCode })

describe('a verified answer of code 10000', () => {
  it('tells the trade', () => {
    expect(told()).toEqual({
      state: 'paid',
      gatewayState: 'TRADE_SUCCESS',
      outTradeNo: 'P1',
      merchantId: null,
      appId: null,
      gatewayOrderNo: '2026112422001400000000000001',
      amountFen: 1000n,
      currency: 'CNY',
      paidAt: new Date('2026-11-24T03:04:05Z'),
    })
  })

  it.each([
    ['TRADE_SUCCESS', '2026-11-24 11:04:05', 'paid'],
    ['TRADE_FINISHED', '2026-11-24 11:04:05', 'paid'],
    ['TRADE_SUCCESS', undefined, 'paid'],
    ['WAIT_BUYER_PAY', undefined, 'paying'],
    ['TRADE_CLOSED', '2026-11-24 11:04:05', 'refunded'],
    ['TRADE_CLOSED', undefined, 'closed'],
    ['TRADE_CLOSED', null, 'closed'],
  ])('%s, paid at %s, is %s', (tradeStatus, paidAt, state) => {
    const trade = told({ trade_status: tradeStatus, send_pay_date: paidAt })
    expect(trade).toMatchObject({ state, gatewayState: tradeStatus })
    expect(trade?.paidAt === null).toBe(paidAt === undefined || paidAt === null)
  })

  it.each(['TRADE_TELEPORTED', 'trade_success', 'TRADE_SUCCESS ', '', 'constructor', '__proto__', 'toString', 1, null])(
    'the state %j is not understood',
    (tradeStatus) => {
      expect(told({ trade_status: tradeStatus })).toBeUndefined()
    },
  )

  it.each(['trade_status', 'out_trade_no', 'trade_no', 'total_amount'])('without %s it is not understood', (name) => {
    expect(told({ [name]: undefined })).toBeUndefined()
    expect(told({ [name]: null })).toBeUndefined()
    expect(told({ [name]: '' })).toBeUndefined()
    expect(told({ [name]: 7 })).toBeUndefined()
  })

  it.each([
    ['0.01', 1n],
    ['88.88', 8888n],
    ['88.8', 8880n],
    ['88', 8800n],
    ['100000000.00', 10_000_000_000n],
    // A float would make 1914.999… of it.
    ['19.15', 1915n],
  ])('%s yuan are %s fen', (yuan, fen) => {
    expect(told({ total_amount: yuan })?.amountFen).toBe(fen)
  })

  it.each([
    '10.005',
    '-10.00',
    '+10.00',
    '1e3',
    '1,000.00',
    ' 10.00',
    '10.00 ',
    '０.01',
    '0x10',
    '.5',
    '10.',
    'NaN',
    '99999999999999.00',
  ])('the amount %j is not understood', (yuan) => {
    expect(told({ total_amount: yuan })).toBeUndefined()
  })

  it.each([
    '',
    'yesterday',
    '2026-11-24',
    '2026-11-24T11:04:05',
    '2026-11-24 11:04:05Z',
    '2026-11-24 11:04:05+08:00',
    '2026-13-24 11:04:05',
    '2026-02-30 11:04:05',
    '2026-11-24 24:00:00',
    '2026-11-24 11:60:05',
    '99999-11-24 11:04:05',
    20261124110405,
  ])('a pay date of %j makes the trade unknown, not unpaid', (paidAt) => {
    for (const tradeStatus of ['TRADE_CLOSED', 'TRADE_SUCCESS'])
      expect(told({ trade_status: tradeStatus, send_pay_date: paidAt })).toBeUndefined()
  })

  it('pay dates are Beijing’s, across the day', () => {
    expect(told({ send_pay_date: '2024-02-29 00:30:00' })?.paidAt).toEqual(new Date('2024-02-28T16:30:00Z'))
  })

  it.each([
    [{}, 'CNY'],
    [{ trans_currency: null, settle_currency: null }, 'CNY'],
    [{ trans_currency: '', settle_currency: '' }, 'CNY'],
    [{ trans_currency: 'CNY', settle_currency: 'CNY' }, 'CNY'],
    [{ trans_currency: 'USD', settle_currency: 'CNY' }, 'USD'],
    [{ trans_currency: 'CNY', settle_currency: 'USD' }, 'USD'],
    [{ settle_currency: 'HKD' }, 'HKD'],
    [{ trans_currency: 'GBP', settle_currency: 'USD' }, 'GBP'],
    // What the buyer paid with does not change what the order costs.
    [{ pay_currency: 'HKD', pay_amount: '11.00' }, 'CNY'],
  ])('the currency of %j is %s', (change, currency) => {
    expect(told(change)?.currency).toBe(currency)
  })

  it.each([null, undefined, 'text', 7, [], {}])('%j is not a trade', (answer) => {
    expect(tradeOf(answer)).toBeUndefined()
  })

  it('members that it does not know do not matter', () => {
    expect(told({ new_member: { deep: [1] }, fund_bill_list: [{ amount: '1' }] })?.state).toBe('paid')
  })
})

describe('error codes', () => {
  it.each([
    ['40004', 'ACQ.SYSTEM_ERROR', 'retry', true, true],
    ['20000', 'isp.unknow-error', 'retry', true, true],
    ['20000', 'isp.something-else', 'retry', true, true],
    ['20000', 'aop.unknow-error', 'retry', true, true],
    ['40004', 'aop.ACQ.SYSTEM_ERROR', 'retry', true, true],
    ['40005', 'isv.app-call-limited', 'back_off', false, false],
    ['40005', 'anything', 'back_off', false, false],
    ['40004', 'isv.app-call-limited', 'back_off', false, false],
    ['40001', 'isv.missing-signature', 'alert', false, false],
    ['40002', 'isv.invalid-signature', 'alert', false, false],
    ['40002', 'isv.invalid-app-id', 'alert', false, false],
    ['40003', 'isv.whatever', 'alert', false, false],
    ['40006', 'isv.insufficient-isv-permissions', 'alert', false, false],
    ['20001', 'aop.invalid-auth-token', 'alert', false, false],
    ['40004', 'ACQ.INVALID_PARAMETER', 'alert', false, false],
    ['40004', 'ACQ.ACCESS_FORBIDDEN', 'alert', false, false],
    ['40004', 'ACQ.NEVER_HEARD_OF', 'alert', false, false],
    ['99999', '', 'alert', false, false],
    ['', '', 'alert', false, false],
    ['constructor', 'constructor', 'alert', false, false],
  ])('%s %s: duty %s, again %s, fault %s', (code, subCode, duty, again, isFault) => {
    expect(errorRow(code, subCode)).toMatchObject({ duty, again, isFault })
  })

  it('only a configuration that is known to be wrong is called one', () => {
    expect(errorRow('40002', 'isv.invalid-app-id').reason).toBe('configuration')
    expect(errorRow('40004', 'ACQ.NEVER_HEARD_OF').reason).toBe('unknown_code')
  })

  it('ACQ.TRADE_NOT_EXIST alone means that there is no trade yet', () => {
    expect(isNotFoundYet(resultOf('40004', 'ACQ.TRADE_NOT_EXIST'))).toBe(true)
    for (const [code, subCode] of [
      ['10000', 'ACQ.TRADE_NOT_EXIST'],
      ['40004', 'ACQ.TRADE_NOT_EXIST '],
      ['40004', 'TRADE_NOT_EXIST'],
      ['40004', ''],
      ['20000', 'ACQ.TRADE_NOT_EXIST'],
    ] as const)
      expect(isNotFoundYet(resultOf(code, subCode)), `${code} ${subCode}`).toBe(false)
  })

  it('no trade yet names the order that it speaks of, where it does', () => {
    const named = resultSchema.parse({ code: '40004', sub_code: 'ACQ.TRADE_NOT_EXIST', out_trade_no: 'P1' })
    expect(notFoundYet(named)).toMatchObject({ state: 'not_found_yet', outTradeNo: 'P1', amountFen: null })
    expect(notFoundYet(resultOf('40004', 'ACQ.TRADE_NOT_EXIST')).outTradeNo).toBeNull()
  })
})

describe('a close or cancel', () => {
  it.each([
    ['ACQ.TRADE_NOT_EXIST', 'trade_not_exist'],
    ['ACQ.TRADE_STATUS_ERROR', 'trade_status_error'],
    ['ACQ.REASON_TRADE_STATUS_INVALID', 'trade_status_error'],
    ['ACQ.REASON_ILLEGAL_STATUS', 'trade_status_error'],
    ['ACQ.TRADE_HAS_FINISHED', 'trade_status_error'],
    ['ACQ.TRADE_HAS_CLOSE', 'trade_closed'],
    ['ACQ.REASON_TRADE_BEEN_FREEZEN', 'not_refundable'],
    ['ACQ.SELLER_BALANCE_NOT_ENOUGH', 'not_refundable'],
    ['ACQ.TRADE_CANCEL_TIME_OUT', 'not_refundable'],
    ['ACQ.SYSTEM_ERROR', undefined],
    ['ACQ.INVALID_PARAMETER', undefined],
    ['toString', undefined],
    ['', undefined],
  ])('that answers %s is refused as %s', (subCode, reason) => {
    expect(closeRefusal(resultOf('40004', subCode))).toBe(reason)
    expect(closeRefusal(resultOf('20000', subCode))).toBeUndefined()
  })

  it.each([
    [null, 'accepted'],
    ['close', 'accepted'],
    ['refund', 'refunded'],
    ['', undefined],
    ['teleport', undefined],
  ] as const)('action %s: %s', (action, effect) => {
    expect(cancelEffect(action)).toBe(effect)
  })
})

describe('the parts that every answer has', () => {
  it.each([undefined, null, 'x', 7, [], { code: 10000, msg: null, sub_code: {}, out_trade_no: 7, action: 1 }])(
    'of %j are empty, and nothing is thrown',
    (json) => {
      expect(resultSchema.parse(json)).toMatchObject({ code: '', sub_code: '', out_trade_no: null, action: null })
    },
  )
})
