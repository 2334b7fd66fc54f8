import { afterEach, describe, expect, it } from 'vitest'

import type { CallOptions, TradeRef } from '../../src/gateways/gateway.js'
import type { FaultInput, FaultName } from '../../src/sandbox/faults.js'
import type { TradeInput } from '../../src/sandbox/trades.js'
import { answerOf, paidNode, QUERY_NODE, type SentForm, startAnswering } from '../support/alipay-answers.js'
import { type AlipayUnderTest, type AlipayUnderTestOptions, startAlipay } from '../support/alipay-gateway.js'
import { exerciseGateway } from '../support/exercise-gateway.js'

const EXERCISE = {
  states: {
    TRADE_SUCCESS: 'paid',
    TRADE_FINISHED: 'paid',
    WAIT_BUYER_PAY: 'paying',
    TRADE_CLOSED: 'closed',
  },
  absent: 'not_found_yet',
  open: 'WAIT_BUYER_PAY',
  paid: 'TRADE_SUCCESS',
} as const

exerciseGateway('Alipay, key mode', { ...EXERCISE, start: async (timeoutMs) => await startAlipay({ timeoutMs }) })
exerciseGateway('Alipay, certificate mode, answers with the signature first', {
  ...EXERCISE,
  start: async (timeoutMs) => await startAlipay({ timeoutMs, sandbox: { mode: 'certificate', signFirst: true } }),
})
const OPTIONS: CallOptions = { priority: 'merchant', traceId: 'alipaytest01' }
const REF: TradeRef = { outTradeNo: 'P1', gatewayOrderNo: null, payWay: 'qr_code' }
const BAR_CODE: TradeRef = { ...REF, payWay: 'bar_code' }

const opened: { stop: () => Promise<void> }[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map(async ({ stop }) => await stop()))
})

async function start(trade: TradeInput | null, options: AlipayUnderTestOptions = {}): Promise<AlipayUnderTest> {
  const alipay = await startAlipay(options)
  opened.push(alipay)
  if (trade !== null) alipay.sandbox.putTrade('P1', trade)
  return alipay
}

async function answering(...given: Parameters<typeof startAnswering>) {
  const answering = await startAnswering(...given)
  opened.push(answering)
  return answering
}

describe('GATEWAYS.md, row by row, over real HTTP', () => {
  it.each<[string, TradeInput, object]>([
    ['10000 TRADE_SUCCESS', { state: 'TRADE_SUCCESS', amount: 8888 }, { state: 'paid', amountFen: 8888n }],
    // The buyer had a discount: the order's amount counts, not the buyer's.
    [
      '10000 TRADE_SUCCESS with a discount',
      { state: 'TRADE_SUCCESS', amount: 8888, payerAmount: 8000 },
      { state: 'paid', amountFen: 8888n },
    ],
    ['10000 TRADE_FINISHED', { state: 'TRADE_FINISHED', amount: 1 }, { state: 'paid', amountFen: 1n }],
    [
      '10000 TRADE_SUCCESS, refunded in part',
      { state: 'TRADE_SUCCESS', amount: 1000, refunded: 300 },
      { state: 'paid', amountFen: 1000n },
    ],
    [
      '10000 WAIT_BUYER_PAY',
      { state: 'WAIT_BUYER_PAY', amount: 1000 },
      { state: 'paying', amountFen: 1000n, paidAt: null },
    ],
    [
      '10000 TRADE_CLOSED with send_pay_date',
      { state: 'TRADE_SUCCESS', amount: 1000, refunded: 1000 },
      { state: 'refunded', gatewayState: 'TRADE_CLOSED' },
    ],
    [
      '10000 TRADE_CLOSED without',
      { state: 'TRADE_CLOSED', amount: 1000 },
      { state: 'closed', gatewayState: 'TRADE_CLOSED', paidAt: null },
    ],
    [
      '40004 ACQ.TRADE_NOT_EXIST',
      { state: 'NOT_SCANNED', amount: 1000 },
      { state: 'not_found_yet', gatewayState: 'ACQ.TRADE_NOT_EXIST', outTradeNo: 'P1' },
    ],
  ])('%s', async (_row, trade, expected) => {
    const { gateway } = await start(trade)
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade', trade: expected })
  })

  it('a paid trade tells when, in China’s time, and is of yuan', async () => {
    const { gateway } = await start({ state: 'TRADE_SUCCESS', amount: 1000, paidAt: '2026-11-24T00:30:00+08:00' })
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({
      trade: { paidAt: new Date('2026-11-23T16:30:00Z'), currency: 'CNY', merchantId: null, appId: null },
    })
  })

  const RETRIED = { kind: 'unknown', duty: 'retry', reason: 'gateway_error' }
  const LIMITED = { kind: 'unknown', duty: 'back_off', reason: 'rate_limited' }
  const MISCONFIGURED = { kind: 'unknown', duty: 'alert', reason: 'configuration' }
  it.each<[string, string, object, number]>([
    ['40004', 'ACQ.SYSTEM_ERROR', RETRIED, 3],
    ['20000', 'isp.unknow-error', RETRIED, 3],
    ['20000', 'aop.unknow-error', RETRIED, 3],
    ['40005', 'isv.app-call-limited', LIMITED, 1],
    ['40001', 'isv.missing-app-id', MISCONFIGURED, 1],
    ['40002', 'isv.invalid-signature', MISCONFIGURED, 1],
    ['40006', 'isv.insufficient-isv-permissions', MISCONFIGURED, 1],
    ['20001', 'aop.invalid-auth-token', MISCONFIGURED, 1],
    ['40004', 'ACQ.INVALID_PARAMETER', MISCONFIGURED, 1],
    ['40004', 'ACQ.NEVER_HEARD_OF', { kind: 'unknown', duty: 'alert', reason: 'unknown_code' }, 1],
  ])('%s %s, signed or not: %j after %i calls', async (code, subCode, expected, asked) => {
    const { gateway, sandbox } = await start({ state: 'TRADE_SUCCESS', amount: 1000 })
    for (const signed of [true, false]) {
      const before = sandbox.calls('P1').query
      sandbox.addFaults([{ fault: 'error', on: 'query', code, subCode, signed, message: '网关的话', times: asked }])
      const outcome = await gateway.queryOrder(REF, OPTIONS)
      expect(outcome).toMatchObject({ ...expected, message: '网关的话' })
      expect(outcome.exchanges).toHaveLength(asked)
      expect(sandbox.calls('P1').query - before).toBe(asked)
    }
  })

  it('a system error that passes is asked again, within the one call', async () => {
    const { gateway, sandbox } = await start({ state: 'TRADE_SUCCESS', amount: 1000 })
    sandbox.addFaults([{ fault: 'system_error', times: 2 }])
    const outcome = await gateway.queryOrder(REF, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'trade', trade: { state: 'paid' } })
    expect(outcome.exchanges).toHaveLength(3)
  })

  it.each([
    ['TRADE_STATUS_ERROR', 'TRADE_SUCCESS', 'trade_status_error'],
    ['REASON_TRADE_STATUS_INVALID', 'TRADE_FINISHED', 'trade_status_error'],
    ['REASON_ILLEGAL_STATUS', 'TRADE_CLOSED', 'trade_status_error'],
    ['TRADE_NOT_EXIST', 'NOT_SCANNED', 'trade_not_exist'],
  ])('a close that answers %s was refused', async (_subCode, state, reason) => {
    const { gateway, sandbox } = await start({ state, amount: 1000 })
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'refused', reason })
    expect(sandbox.getTrade('P1')?.state).toBe(state)
  })

  it('a close that answers SYSTEM_ERROR is unknown, and not sent again', async () => {
    const { gateway, sandbox } = await start({ state: 'WAIT_BUYER_PAY', amount: 1000 })
    sandbox.addFaults([{ fault: 'system_error', on: 'close', times: 9 }])
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'unknown', duty: 'retry' })
    expect(sandbox.calls('P1').close).toBe(1)
  })

  it('Alipay has no age before which it does not close', async () => {
    const { gateway } = await start(null)
    expect(gateway.closeNotBeforeAgeS('qr_code')).toBe(0)
    expect(gateway.account).toEqual({ merchantId: null, appId: '9021000100000001' })
  })
})

describe('every fault of INTERFACE.md, on a query of a trade that waits to be paid', () => {
  const UNTRUSTED = { kind: 'unknown', duty: 'untrusted' }
  it.each<[FaultName, Partial<FaultInput>, object]>([
    ['delay', { ms: 100 }, { kind: 'trade', trade: { state: 'paying' } }],
    ['hang', { ms: 3_000 }, { kind: 'unknown', duty: 'retry', reason: 'timeout' }],
    ['reset', {}, { kind: 'unknown', duty: 'retry', reason: 'connection_lost' }],
    ['cut', {}, { kind: 'unknown', duty: 'retry', reason: 'connection_lost' }],
    ['html502', {}, { kind: 'unknown', duty: 'retry', reason: 'gateway_error' }],
    ['rate_limit', {}, { kind: 'unknown', duty: 'back_off', reason: 'rate_limited' }],
    ['system_error', {}, { kind: 'unknown', duty: 'retry', reason: 'gateway_error' }],
    ['unsigned', {}, { ...UNTRUSTED, reason: 'unsigned' }],
    ['tampered', {}, { ...UNTRUSTED, reason: 'bad_signature' }],
    ['stale', {}, { ...UNTRUSTED, reason: 'bad_signature' }],
    ['unknown_serial', {}, { ...UNTRUSTED, reason: 'bad_signature' }],
    // Signed by Alipay: whose order and how much is for the domain to compare.
    ['wrong_amount', {}, { kind: 'trade', trade: { state: 'paying', amountFen: 1001n } }],
    ['wrong_order', {}, { kind: 'trade', trade: { state: 'paying', outTradeNo: 'P1X' } }],
    ['wrong_currency', {}, { kind: 'trade', trade: { state: 'paying', currency: 'USD' } }],
    // Another app's answers are signed with that app's key.
    ['wrong_merchant', {}, { ...UNTRUSTED, reason: 'bad_signature' }],
    ['wrong_app', {}, { ...UNTRUSTED, reason: 'bad_signature' }],
    ['unknown_state', {}, { kind: 'unknown', duty: 'alert', reason: 'unknown_state' }],
    ['missing_fields', {}, { kind: 'unknown', duty: 'alert', reason: 'unknown_state' }],
    ['duplicate_key', {}, { ...UNTRUSTED, reason: 'unreadable' }],
    ['huge', {}, { kind: 'unknown', duty: 'retry', reason: 'too_large' }],
    ['redirect', {}, { kind: 'unknown', duty: 'retry', reason: 'gateway_error' }],
    ['not_exist', {}, { kind: 'trade', trade: { state: 'not_found_yet' } }],
    ['not_exist_unsigned', {}, { ...UNTRUSTED, reason: 'unsigned' }],
    ['empty_sign', {}, { ...UNTRUSTED, reason: 'unsigned' }],
    ['deep', {}, { ...UNTRUSTED, reason: 'unreadable' }],
    ['bad_json', {}, { ...UNTRUSTED, reason: 'unreadable' }],
    ['empty', {}, { ...UNTRUSTED, reason: 'unreadable' }],
    ['doctype', {}, { ...UNTRUSTED, reason: 'unreadable' }],
    ['system_error_unsigned', {}, { kind: 'unknown', duty: 'retry', reason: 'gateway_error' }],
    ['rate_limit_unsigned', {}, { kind: 'unknown', duty: 'back_off', reason: 'rate_limited' }],
  ])('%s', async (fault, more, expected) => {
    const { gateway, sandbox } = await start({ state: 'WAIT_BUYER_PAY', amount: 1000 }, { timeoutMs: 1_000 })
    sandbox.addFaults([{ fault, on: 'query', times: 9, ...more }])
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject(expected)
  })

  it('primary down: nothing was sent, and the next query after it is answered', async () => {
    const { gateway, sandbox } = await start({ state: 'TRADE_SUCCESS', amount: 1000 }, { timeoutMs: 1_000 })
    await sandbox.stopPrimary()
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'unknown', reason: 'unreachable' })
    await sandbox.startPrimary()
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade', trade: { state: 'paid' } })
  })
})

describe('a trade whose Alipay number is known', () => {
  it('is asked for by our own number, so that another trade under it is seen', async () => {
    const { gateway, sandbox } = await start({ state: 'TRADE_SUCCESS', amount: 1000 })
    sandbox.putTrade('OTHER', { state: 'TRADE_SUCCESS', amount: 1000, transactionId: '2026112422001000000000000777' })
    const known = { ...REF, gatewayOrderNo: '2026112422001000000000000777' }
    const outcome = await gateway.queryOrder(known, OPTIONS)
    expect(outcome).toMatchObject({ trade: { gatewayOrderNo: sandbox.getTrade('P1')?.transactionId } })
  })

  it('is asked for by that number too, before it is believed not to exist', async () => {
    const { gateway, sandbox } = await start({ state: 'TRADE_SUCCESS', amount: 1000 })
    sandbox.addFaults([{ fault: 'not_exist', on: 'query' }])
    const known = { ...REF, gatewayOrderNo: sandbox.getTrade('P1')?.transactionId ?? '' }
    const outcome = await gateway.queryOrder(known, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'trade', trade: { state: 'paid', outTradeNo: 'P1' } })
    expect(outcome.exchanges).toHaveLength(2)
  })

  it('does not exist where neither number finds it; and nothing is known while the second is unanswered', async () => {
    const { gateway, sandbox } = await start(null)
    const known = { ...REF, gatewayOrderNo: '2026112422001000000000000001' }
    expect(await gateway.queryOrder(known, OPTIONS)).toMatchObject({ kind: 'trade', trade: { state: 'not_found_yet' } })
    sandbox.addFaults([{ fault: 'not_exist' }, { fault: 'unsigned' }])
    expect(await gateway.queryOrder(known, OPTIONS)).toMatchObject({ kind: 'unknown', duty: 'untrusted' })
  })
})

describe('a payment-code trade is cancelled', () => {
  it('and is closed then', async () => {
    const { gateway, sandbox, calls } = await start({ state: 'WAIT_BUYER_PAY', amount: 1000 })
    expect(await gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({ kind: 'accepted' })
    expect(sandbox.calls('P1')).toMatchObject({ reverse: 1, close: 0 })
    expect(await gateway.queryOrder(BAR_CODE, OPTIONS)).toMatchObject({ trade: { state: 'closed' } })
    expect(calls.map(({ operation }) => operation)).toEqual(['reverse', 'query'])
  })

  it('again where Alipay says so, in the same call', async () => {
    const { gateway, sandbox } = await start({ state: 'WAIT_BUYER_PAY', amount: 1000, recalls: 2 })
    const outcome = await gateway.closeOrder(BAR_CODE, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'accepted' })
    expect(outcome.exchanges).toHaveLength(3)
    expect(sandbox.calls('P1').reverse).toBe(3)
  })

  it('not for ever: unknown after five calls, or when the time is over', async () => {
    const { gateway, sandbox } = await start({ state: 'WAIT_BUYER_PAY', amount: 1000, recalls: 9 })
    expect(await gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({ kind: 'unknown', duty: 'retry' })
    expect(sandbox.calls('P1').reverse).toBe(5)
    const hasty = await start({ state: 'WAIT_BUYER_PAY', amount: 1000, recalls: 9 }, { timeoutMs: 200 })
    const outcome = await hasty.gateway.closeOrder(BAR_CODE, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'unknown', duty: 'retry' })
    expect(outcome.exchanges.length).toBeLessThan(5)
  })

  it('never again on an unsigned word, nor where a plain close is told to', async () => {
    const { gateway, sandbox } = await start({ state: 'WAIT_BUYER_PAY', amount: 1000, recalls: 9 })
    sandbox.addFaults([{ fault: 'unsigned', on: 'reverse' }])
    expect(await gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({ kind: 'unknown' })
    expect(sandbox.calls('P1').reverse).toBe(1)
    sandbox.addFaults([{ fault: 'recall', on: 'close' }])
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'unknown', duty: 'retry' })
    expect(sandbox.calls('P1').close).toBe(1)
  })

  it('and one paid in between is refunded: refused, and the next query says so', async () => {
    const { gateway } = await start({ state: 'WAIT_BUYER_PAY', amount: 1000, payOn: 'close' })
    expect(await gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({ kind: 'refunded' })
    expect(await gateway.queryOrder(BAR_CODE, OPTIONS)).toMatchObject({
      trade: { state: 'refunded', gatewayState: 'TRADE_CLOSED' },
    })
  })

  it('refused where it is finished; accepted where there is nothing to cancel', async () => {
    const finished = await start({ state: 'TRADE_FINISHED', amount: 1000 })
    expect(await finished.gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({
      kind: 'refused',
      reason: 'trade_status_error',
    })
    const absent = await start(null)
    expect(await absent.gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({ kind: 'accepted' })
  })

  it.each([
    ['ACQ.CANCEL_NOT_ALLOWED', 'not_refundable'],
    ['ACQ.REASON_TRADE_REFUND_FEE_ERR', 'refunded_before'],
  ])('refused with %s', async (subCode, reason) => {
    const { gateway, sandbox } = await start({ state: 'TRADE_SUCCESS', amount: 1000 })
    sandbox.addFaults([{ fault: 'error', on: 'reverse', code: '40004', subCode }])
    expect(await gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({ kind: 'refused', reason })
  })

  it('unknown where what it did is not understood', async () => {
    const node = '{"code":"10000","msg":"Success","out_trade_no":"P1","retry_flag":"N","action":"teleport"}'
    const { gateway } = await answering(() => ({ body: answerOf(node, 'alipay_trade_cancel_response') }))
    expect(await gateway.closeOrder(BAR_CODE, OPTIONS)).toMatchObject({ kind: 'unknown', duty: 'alert' })
  })
})

describe('certificate mode', () => {
  it('is served with both serial numbers, and its answers name Alipay’s certificate', async () => {
    const { gateway, sandbox } = await start(
      { state: 'TRADE_SUCCESS', amount: 1000 },
      { sandbox: { mode: 'certificate' } },
    )
    const outcome = await gateway.queryOrder(REF, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'trade', trade: { state: 'paid' } })
    expect(sandbox.requests().at(-1)?.verdict).toBe('valid')
    expect(sandbox.requests().at(-1)?.body.toString()).toMatch(/app_cert_sn=[0-9a-f]{32}/)
  })

  it('an answer under a certificate that we do not have is unknown, and says which to fetch', async () => {
    const { gateway, sandbox } = await start(
      { state: 'TRADE_SUCCESS', amount: 1000 },
      { sandbox: { mode: 'certificate' } },
    )
    await sandbox.rotateKeys()
    const outcome = await gateway.queryOrder(REF, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'unknown', duty: 'untrusted', reason: 'rotated_certificate' })
    expect(outcome).toMatchObject({ message: expect.stringContaining('ALIPAY_CERT') as string })
  })

  it('with the next certificate added to the file, both the old and the new one’s answers verify', async () => {
    const { sandbox, gateway } = await start(
      { state: 'TRADE_SUCCESS', amount: 1000 },
      { sandbox: { mode: 'certificate' } },
    )
    const before = sandbox.merchantSettings()['ALIPAY_CERT'] ?? ''
    await sandbox.rotateKeys()
    const after = sandbox.merchantSettings()['ALIPAY_CERT'] ?? ''
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ reason: 'rotated_certificate' })
    const prepared = await start(null, {
      settings: { ...sandbox.merchantSettings(), ALIPAY_CERT: `${before}${after}`, ALIPAY_PUBLIC_KEY: '' },
    })
    expect(await prepared.gateway.queryOrder(REF, OPTIONS)).toMatchObject({ trade: { state: 'paid' } })
  })

  it('in key mode a rotated key is a bad signature', async () => {
    const { gateway, sandbox } = await start({ state: 'TRADE_SUCCESS', amount: 1000 })
    await sandbox.rotateKeys()
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'unknown', reason: 'bad_signature' })
  })
})

describe('answers to the byte', () => {
  const query = async (body: string | Buffer, status = 200) => {
    const { gateway } = await answering(() => ({ status, body }))
    return await gateway.queryOrder(REF, OPTIONS)
  }

  it('a verified node that names a member twice is unreadable', async () => {
    const node = '{"code":"10000","out_trade_no":"P1","trade_status":"WAIT_BUYER_PAY","trade_status":"TRADE_SUCCESS"}'
    expect(await query(answerOf(node))).toMatchObject({ kind: 'unknown', duty: 'untrusted', reason: 'unreadable' })
  })

  it('a genuine answer to another method under this one’s name tells no trade', async () => {
    const closed = '{"code":"10000","msg":"Success","out_trade_no":"P1","trade_no":"2026112422001400000000000001"}'
    expect(await query(answerOf(closed))).toMatchObject({ kind: 'unknown', reason: 'unknown_state' })
  })

  it('a genuine answer under another method’s name is none', async () => {
    const body = answerOf(paidNode(), 'alipay_trade_close_response')
    expect(await query(body)).toMatchObject({ kind: 'unknown', duty: 'untrusted', reason: 'unreadable' })
  })

  it('an error_response proves nothing though it is signed; its code is heeded', async () => {
    const limited = '{"code":"40005","msg":"Call Limited","sub_code":"isv.app-call-limited","sub_msg":"超限"}'
    expect(await query(answerOf(limited, 'error_response'))).toMatchObject({
      kind: 'unknown',
      duty: 'back_off',
      message: '超限',
    })
    const absent = '{"code":"40004","msg":"Business Failed","sub_code":"ACQ.TRADE_NOT_EXIST","sub_msg":"交易不存在"}'
    expect(await query(answerOf(absent, 'error_response'))).toMatchObject({ kind: 'unknown', duty: 'untrusted' })
    expect(await query(answerOf(paidNode(), 'error_response'))).toMatchObject({ kind: 'unknown', duty: 'untrusted' })
  })

  it.each([201, 204, 302, 400, 403, 404])('a signed trade with HTTP %i is not believed', async (status) => {
    expect(await query(status === 204 ? '' : answerOf(paidNode()), status)).toMatchObject({ kind: 'unknown' })
  })

  it('HTTP 429 asks us to slow down', async () => {
    expect(await query('slow down', 429)).toMatchObject({ kind: 'unknown', duty: 'back_off' })
  })

  it('a close’s answer about another order closes nothing here', async () => {
    const node = '{"code":"10000","msg":"Success","out_trade_no":"P2","trade_no":"2026112422001400000000000001"}'
    const { gateway } = await answering(() => ({ body: answerOf(node, 'alipay_trade_close_response') }))
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'unknown', reason: 'other_order' })
  })

  it('a text of Alipay’s that repeats the whole request is cut, and an answer without any text has one', async () => {
    const long = JSON.stringify({ code: '40002', msg: 'Invalid Arguments', sub_msg: `验签出错${'x'.repeat(5_000)}` })
    const outcome = await query(answerOf(long))
    expect(outcome.kind === 'unknown' ? outcome.message.length : 0).toBe(200)
    expect(await query(answerOf('{"code":"40002","msg":"Invalid Arguments"}'))).toMatchObject({
      message: 'Invalid Arguments',
    })
    expect(await query(answerOf('{"code":"77777"}'))).toMatchObject({ message: '支付网关返回77777' })
  })

  it('each request asks for one number, signed at the moment it is sent', async () => {
    const asked: SentForm[] = []
    const { gateway, forms } = await answering((form) => {
      asked.push(form)
      return { body: answerOf('{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}', QUERY_NODE) }
    })
    await gateway.queryOrder({ ...REF, gatewayOrderNo: '2026112422001400000000000001' }, OPTIONS)
    expect(forms.map((form) => form['biz_content'])).toEqual([
      '{"out_trade_no":"P1"}',
      '{"trade_no":"2026112422001400000000000001"}',
    ])
    expect(asked[0]?.['method']).toBe('alipay.trade.query')
  })
})
