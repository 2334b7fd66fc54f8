import { afterEach, describe, expect, it } from 'vitest'

import type { CallOptions, TradeRef } from '../../src/gateways/gateway.js'
import type { FaultInput } from '../../src/sandbox/faults.js'
import { privatePem, sharedKeyPair } from '../../src/sandbox/keys.js'
import { startWechat, type WechatUnderTest, type WechatUnderTestOptions } from '../support/wechat-gateway.js'

const OPTIONS: CallOptions = { priority: 'merchant', traceId: 'rows00000001' }
const REF: TradeRef = { outTradeNo: 'P1', gatewayOrderNo: null, payWay: 'qr_code' }
const CODE: TradeRef = { ...REF, payWay: 'bar_code' }
const STRANGER = privatePem(await sharedKeyPair('stranger'))

const opened: WechatUnderTest[] = []
async function start(options: WechatUnderTestOptions = {}): Promise<WechatUnderTest> {
  const started = await startWechat(options)
  opened.push(started)
  return started
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map(async (started) => await started.stop()))
})

async function queryUnder(fault: FaultInput, options: WechatUnderTestOptions = {}) {
  const started = await start(options)
  started.sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
  started.sandbox.addFaults([{ times: 20, ...fault }])
  return await started.gateway.queryOrder(REF, OPTIONS)
}

async function closeUnder(fault: FaultInput | null, state: string, options: WechatUnderTestOptions = {}) {
  const started = await start(options)
  started.sandbox.putTrade('P1', { state, amount: 1000 })
  if (fault !== null) started.sandbox.addFaults([{ times: 20, ...fault }])
  const outcome = await started.gateway.closeOrder(REF, OPTIONS)
  return { outcome, asked: started.sandbox.calls('P1').close }
}

/** `status code | signed | kind duty reason | requests`, as GATEWAYS.md has them; codes come with and without underscores. */
const QUERY_ROWS = `
404 ORDER_NOT_EXIST         signed   trade                          1
404 ORDERNOTEXIST           signed   trade                          1
404 ORDER_NOT_EXIST         unsigned unknown alert   unknown_code   1
404 RESOURCE_NOT_EXISTS     signed   unknown alert   unknown_code   1
400 ORDER_NOT_EXIST         signed   unknown alert   unknown_code   1
400 PARAM_ERROR             signed   unknown alert   configuration  1
400 PARAMERROR              signed   unknown alert   configuration  1
400 INVALID_REQUEST         signed   unknown alert   configuration  1
400 MCH_NOT_EXISTS          signed   unknown alert   configuration  1
400 APPID_MCHID_NOT_MATCH   signed   unknown alert   configuration  1
401 SIGN_ERROR              unsigned unknown alert   configuration  1
403 NO_AUTH                 signed   unknown alert   configuration  1
403 RULE_LIMIT              signed   unknown alert   configuration  1
429 FREQUENCY_LIMITED       signed   unknown back_off rate_limited  1
429 FREQUENCYLIMITED        unsigned unknown back_off rate_limited  1
429 SOMETHING_NEW           unsigned unknown back_off rate_limited  1
500 SYSTEM_ERROR            signed   unknown retry   gateway_error  3
500 SYSTEMERROR             unsigned unknown retry   gateway_error  3
500 BANK_ERROR              signed   unknown retry   gateway_error  3
503 SOMETHING_NEW           unsigned unknown retry   gateway_error  3
400 SOMETHING_NEW           signed   unknown alert   unknown_code   1
302 SOMETHING_NEW           unsigned unknown alert   unknown_code   1
`
  .trim()
  .split('\n')
  .map((line) => line.split(/\s+/))

describe('APIv3, a query answered with an error', () => {
  it.each(QUERY_ROWS)('%s %s, %s: %s %s %s', async (status, code, signed, kind, ...rest) => {
    const requests = Number(rest.at(-1))
    const fault = {
      fault: 'error',
      on: 'query',
      status: Number(status),
      code: code ?? '',
      signed: signed === 'signed',
    } as const
    const outcome = await queryUnder(fault)
    if (kind === 'trade') expect(outcome).toMatchObject({ kind, trade: { state: 'not_found' } })
    else expect(outcome).toMatchObject({ kind, duty: rest[0], reason: rest[1] })
    expect(outcome.exchanges).toHaveLength(requests)
  })
})

describe('APIv3, the shape and the signature of a query’s answer', () => {
  it.each([
    ['unsigned', 'untrusted', 'unsigned'],
    ['empty_sign', 'untrusted', 'bad_signature'],
    ['tampered', 'untrusted', 'bad_signature'],
    ['signtest', 'untrusted', 'bad_signature'],
    ['unknown_serial', 'untrusted', 'unknown_serial'],
    ['stale', 'untrusted', 'stale'],
    ['cut', 'retry', 'connection_lost'],
    ['reset', 'retry', 'connection_lost'],
    ['empty', 'alert', 'unknown_state'],
    ['bad_json', 'untrusted', 'unreadable'],
    ['deep', 'untrusted', 'unreadable'],
    ['doctype', 'untrusted', 'unreadable'],
    ['duplicate_key', 'untrusted', 'unreadable'],
    ['huge', 'retry', 'too_large'],
    ['redirect', 'alert', 'unknown_code'],
    ['unknown_state', 'alert', 'unknown_state'],
    ['missing_fields', 'alert', 'unknown_state'],
  ] as const)('%s: unknown, %s, %s', async (fault, duty, reason) => {
    expect(await queryUnder({ fault, on: 'query' })).toMatchObject({ kind: 'unknown', duty, reason })
  })

  it('a length that is not the body’s is unknown, whether the parser or the signature sees it first', async () => {
    expect(await queryUnder({ fault: 'wrong_length', on: 'query' })).toMatchObject({ kind: 'unknown' })
  })

  it.each([
    ['wrong_amount', { amountFen: 1001n }],
    ['wrong_currency', { currency: 'USD' }],
    ['wrong_merchant', { merchantId: '1900000001' }],
    ['wrong_app', { appId: 'wx0000000000000001' }],
    ['wrong_order', { outTradeNo: 'P1X' }],
  ] as const)('%s is told as it is, for the domain to compare', async (fault, trade) => {
    expect(await queryUnder({ fault, on: 'query' })).toMatchObject({ kind: 'trade', trade })
  })
})

const CLOSE_ROWS = `
400 ORDER_CLOSED     refused ORDER_CLOSED
400 ORDERPAID        refused ORDERPAID
400 TRADE_ERROR      refused TRADE_ERROR
400 PARAM_ERROR      unknown configuration
400 INVALID_REQUEST  unknown configuration
401 SIGN_ERROR       unknown configuration
403 RULE_LIMIT       unknown configuration
429 FREQUENCY_LIMITED unknown rate_limited
500 SYSTEM_ERROR     unknown gateway_error
400 SOMETHING_NEW    unknown unknown_code
`
  .trim()
  .split('\n')
  .map((line) => line.split(/\s+/))

describe('APIv3, close', () => {
  it.each(CLOSE_ROWS)('%s %s: %s %s, sent once', async (status, code, kind, reason) => {
    const fault = { fault: 'error', on: 'close', status: Number(status), code: code ?? '' } as const
    const { outcome, asked } = await closeUnder(fault, 'NOTPAY')
    expect(outcome).toMatchObject({ kind, reason })
    expect(asked).toBe(1)
  })

  it('an unsigned refusal is no refusal', async () => {
    const { outcome } = await closeUnder(
      { fault: 'error', on: 'close', status: 400, code: 'ORDER_PAID', signed: false },
      'NOTPAY',
    )
    expect(outcome).toMatchObject({ kind: 'unknown' })
  })

  it('a 204 is signed over an empty body, and one that is not is no close', async () => {
    expect((await closeUnder(null, 'NOTPAY')).outcome).toMatchObject({ kind: 'accepted', exchanges: [{ status: 204 }] })
    expect((await closeUnder({ fault: 'unsigned', on: 'close' }, 'NOTPAY')).outcome).toMatchObject({
      kind: 'unknown',
      duty: 'untrusted',
      exchanges: [{ status: 204 }],
    })
  })

  it('a trade younger than five minutes is refused, and the gateway says how old it must be', async () => {
    const { gateway, sandbox } = await start()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000, createdAt: Date.now() - 60_000 })
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'refused', reason: 'TRADE_ERROR' })
    expect(gateway.closeNotBeforeAgeS('qr_code')).toBe(300)
    expect(gateway.closeNotBeforeAgeS('bar_code')).toBe(15)
  })

  it('an order that nobody knows is closed all the same: a 204 is no proof', async () => {
    const { gateway } = await start()
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'accepted' })
  })
})

describe('which trade is asked for', () => {
  it('the order’s own number, even where a transaction is known: a second transaction of it shows', async () => {
    const { gateway, sandbox } = await start()
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000, transactionId: '4200000000000000000000000002' })
    const outcome = await gateway.queryOrder({ ...REF, gatewayOrderNo: '4200000000000000000000000001' }, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'trade', trade: { gatewayOrderNo: '4200000000000000000000000002' } })
    expect(outcome.exchanges).toHaveLength(1)
  })

  it.each(['public_key', 'v2'] as const)(
    '"no such order" is not believed where its transaction is there (%s)',
    async (mode) => {
      const { gateway, sandbox } = await start({ sandbox: { mode } })
      const transactionId = '4200000000000000000000000001'
      sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000, transactionId })
      sandbox.addFaults([{ fault: 'not_exist', on: 'query', times: 1 }])
      const outcome = await gateway.queryOrder({ ...REF, gatewayOrderNo: transactionId }, OPTIONS)
      expect(outcome).toMatchObject({ kind: 'trade', trade: { state: 'paid', outTradeNo: 'P1' } })
      expect(sandbox.calls('P1').query).toBe(2)
    },
  )

  it.each(['public_key', 'v2'] as const)('where neither number is known, it is not found (%s)', async (mode) => {
    const { gateway } = await start({ sandbox: { mode } })
    const outcome = await gateway.queryOrder({ ...REF, gatewayOrderNo: '4200000000000000000000000001' }, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'trade', trade: { state: 'not_found' } })
    expect(outcome.exchanges).toHaveLength(2)
  })

  it('an order number that needs escaping is asked for as it is', async () => {
    const { gateway, sandbox } = await start()
    sandbox.putTrade('a*|b_1-2', { state: 'NOTPAY', amount: 1 })
    expect(await gateway.queryOrder({ ...REF, outTradeNo: 'a*|b_1-2' }, OPTIONS)).toMatchObject({
      trade: { state: 'paying', outTradeNo: 'a*|b_1-2' },
    })
  })
})

describe('partner mode', () => {
  const partner = { spMchId: '1800000001' }

  it.each(['public_key', 'v2'] as const)('asks and is answered for the sub-merchant (%s)', async (mode) => {
    const { gateway, sandbox } = await start({ sandbox: { mode, ...partner } })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    const outcome = await gateway.queryOrder(REF, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'trade', trade: { state: 'paid', ...gateway.account } })
    sandbox.putTrade('P2', { state: 'NOTPAY', amount: 1000 })
    expect(await gateway.closeOrder({ ...REF, outTradeNo: 'P2' }, OPTIONS)).toMatchObject({ kind: 'accepted' })
    expect(sandbox.requests().every(({ verdict }) => verdict === 'valid')).toBe(true)
  })

  it.each(['public_key', 'v2'] as const)('an answer about another provider’s order shows (%s)', async (mode) => {
    const outcome = await queryUnder({ fault: 'wrong_merchant', on: 'query' }, { sandbox: { mode, ...partner } })
    expect(outcome).toMatchObject({ kind: 'trade', trade: { merchantId: '1900000001' } })
  })
})

describe('the gateway’s keys', () => {
  it('certificate mode downloads before the first call, and not again for the next ones', async () => {
    const { gateway, sandbox } = await start({ sandbox: { mode: 'certificate' } })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    const all = await Promise.all(Array.from({ length: 8 }, async () => await gateway.queryOrder(REF, OPTIONS)))
    expect(all.every(({ kind }) => kind === 'trade')).toBe(true)
    expect(sandbox.requests().filter(({ operation }) => operation === 'v3.certificates')).toHaveLength(1)
  })

  it('keys rotated in flight: the answer that came with the new one is believed after one look, without asking again', async () => {
    const { gateway, sandbox } = await start({ sandbox: { mode: 'certificate' } })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    await gateway.queryOrder(REF, OPTIONS)
    await sandbox.rotateKeys('new')
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade', exchanges: [{ status: 200 }] })
    await gateway.closeOrder(REF, OPTIONS)
    expect(sandbox.requests().filter(({ operation }) => operation === 'v3.certificates')).toHaveLength(2)
  })

  it('old and new keys are valid in between', async () => {
    const { gateway, sandbox } = await start({ sandbox: { mode: 'certificate' } })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    await sandbox.rotateKeys('old')
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade' })
  })

  it('a forger with a serial of his own fails, and makes us look once a minute, not with every answer', async () => {
    const { gateway, sandbox } = await start({ sandbox: { mode: 'certificate' } })
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.addFaults([{ fault: 'unknown_serial', on: 'query', times: 5 }])
    for (let asked = 0; asked < 5; asked++) {
      expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'unknown', reason: 'unknown_serial' })
    }
    expect(sandbox.requests().filter(({ operation }) => operation === 'v3.certificates')).toHaveLength(2)
  })

  it.each(['tampered', 'unsigned', 'html502', 'bad_json', 'stale'] as const)(
    'a list of certificates that is %s brings no key, and then no request goes out',
    async (fault) => {
      const { gateway, sandbox } = await start({ sandbox: { mode: 'certificate' } })
      sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
      sandbox.addFaults([{ fault, on: 'certificates', times: 20 }])
      const outcome = await gateway.queryOrder(REF, OPTIONS)
      expect(outcome).toMatchObject({ kind: 'unknown', duty: 'retry', reason: 'no_platform_certificate' })
      expect(sandbox.calls('P1').query).toBe(0)
    },
  )

  it.each([
    ['an APIv3 key that opens nothing', { WECHAT_API_V3_KEY: '0123456789abcdef0123456789abcdef' }, /WECHAT_API_V3_KEY/],
    [
      'a private key that is not ours there',
      { WECHAT_PRIVATE_KEY: STRANGER },
      /HTTP 401 SIGN_ERROR .*WECHAT_PRIVATE_KEY/,
    ],
    ['a serial that is not ours', { WECHAT_CERT_SERIAL: '0A' }, /HTTP 401 SIGN_ERROR .*WECHAT_CERT_SERIAL/],
    ['a merchant that nobody knows', { WECHAT_MCH_ID: '1900000001' }, /HTTP 40[0-9] [A-Z_]+ .*WECHAT_MCH_ID/],
  ])('%s: the download’s failure says so, and that it is ours to mend', async (_title, settings, message) => {
    const { gateway, lines, sandbox } = await start({ sandbox: { mode: 'certificate' }, settings })
    const outcome = await gateway.queryOrder(REF, OPTIONS)
    const told = { reason: 'no_platform_certificate', message: expect.stringMatching(message) as string }
    expect(outcome).toMatchObject({ kind: 'unknown', duty: 'alert', ...told })
    expect(outcome.kind === 'unknown' && outcome.message.length).toBeLessThan(300)
    expect(lines).toMatchObject([
      { level: 'error', event: 'platform_certificates_failed', message: told.message },
      { level: 'error', event: 'gateway_refuses', ...told },
    ])
    // What is wrong is ours: the breaker does not hide it from the next one who asks.
    for (let asked = 0; asked < 30; asked++) expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject(told)
    expect(sandbox.calls('P1').query).toBe(0)
  })

  it('a gateway that cannot be reached, or is in trouble, is waited for, and the download’s failure says which', async () => {
    const away = await start({ sandbox: { mode: 'certificate' }, settings: { WECHAT_BASE_URLS: 'http://127.0.0.1:9' } })
    const inTrouble = await start({ sandbox: { mode: 'certificate' } })
    inTrouble.sandbox.addFaults([{ fault: 'html502', on: 'certificates', times: 20 }])
    for (const [{ gateway, lines }, message] of [
      [away, /unreachable/],
      [inTrouble, /HTTP 502/],
    ] as const) {
      const told = { reason: 'no_platform_certificate', message: expect.stringMatching(message) as string }
      expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ duty: 'retry', ...told })
      expect(lines).toMatchObject([{ level: 'error', event: 'platform_certificates_failed', message: told.message }])
    }
  })

  it('with a public key alone, an unknown key fails closed and nothing is looked for', async () => {
    const { gateway, sandbox } = await start()
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    await sandbox.rotateKeys('new')
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({
      kind: 'unknown',
      duty: 'untrusted',
      reason: 'unknown_serial',
    })
    expect(sandbox.requests().filter(({ operation }) => operation === 'v3.certificates')).toHaveLength(0)
  })
})

describe('clocks', () => {
  const off = (seconds: number) => ({ now: () => Date.now() + seconds * 1000 })

  it.each([240, -240])('%i s off: works, and warns once', async (seconds) => {
    const { gateway, sandbox, lines } = await start(off(seconds))
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    for (let asked = 0; asked < 3; asked++) {
      expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade', trade: { state: 'paid' } })
    }
    const warnings = lines.filter(({ event }) => event === 'clock_skew')
    expect(warnings).toMatchObject([{ level: 'warn', skewS: expect.any(Number) }])
  })

  it('right: no warning', async () => {
    const { gateway, sandbox, lines } = await start()
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    await gateway.queryOrder(REF, OPTIONS)
    expect(lines.filter(({ event }) => event === 'clock_skew')).toEqual([])
  })

  it.each([360, -360])('%i s off: nothing is believed, and the message says clock', async (seconds) => {
    const { gateway, sandbox } = await start(off(seconds))
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    const outcome = await gateway.queryOrder(REF, OPTIONS)
    expect(outcome).toMatchObject({ kind: 'unknown', message: expect.stringContaining('clock') })
  })

  it('an old answer played again is not believed, and does not blame a clock that is right by the answer’s Date', async () => {
    const outcome = await queryUnder({ fault: 'stale', on: 'query' })
    expect(outcome).toMatchObject({ kind: 'unknown', duty: 'untrusted', reason: 'stale' })
    expect(outcome.kind === 'unknown' && outcome.message).not.toContain('请校准')
  })
})

describe('hosts and connections', () => {
  it('primary down, backup up: one call gets its answer, the next ones go to the backup first', async () => {
    const { gateway, sandbox } = await start({ sandbox: { backup: true } })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    await sandbox.stopPrimary()
    const first = await gateway.queryOrder(REF, OPTIONS)
    expect(first).toMatchObject({ kind: 'trade', exchanges: [{ status: null }, { status: 200 }] })
    expect((await gateway.queryOrder(REF, OPTIONS)).exchanges).toHaveLength(1)
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'accepted' })
  })

  it('a close that could not be sent to the primary is sent to the backup, once', async () => {
    const { gateway, sandbox } = await start({ sandbox: { backup: true } })
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    await sandbox.stopPrimary()
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'accepted' })
    expect(sandbox.calls('P1').close).toBe(1)
  })

  it('a connection that the gateway closed while idle costs no query its answer', async () => {
    const { gateway, sandbox } = await start()
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    for (let asked = 0; asked < 20; asked++) {
      expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade' })
      sandbox.dropIdleConnections()
    }
  })
})

describe('APIv2', () => {
  it.each(['MD5', 'HMAC-SHA256'] as const)('asks, closes and understands, signed by %s', async (v2SignType) => {
    const { gateway, sandbox } = await start({ sandbox: { mode: 'v2', v2SignType } })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000, paidAt: '2026-01-01T00:00:00+08:00' })
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({
      trade: {
        state: 'paid',
        amountFen: 1000n,
        currency: 'CNY',
        paidAt: new Date('2025-12-31T16:00:00Z'),
        ...gateway.account,
      },
    })
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    expect(await gateway.closeOrder(REF, OPTIONS)).toMatchObject({ kind: 'accepted' })
    expect(sandbox.requests().every(({ verdict }) => verdict === 'valid')).toBe(true)
  })

  it.each([
    ['rate_limit', 'back_off', 'rate_limited', 1],
    ['rate_limit_unsigned', 'alert', 'not_accepted', 1],
    ['system_error', 'retry', 'gateway_error', 3],
    ['system_error_unsigned', 'retry', 'gateway_error', 3],
    ['not_exist_unsigned', 'untrusted', 'unsigned', 1],
    ['unsigned', 'untrusted', 'unsigned', 1],
    ['empty_sign', 'untrusted', 'unsigned', 1],
    ['tampered', 'untrusted', 'bad_signature', 1],
    ['stale', 'untrusted', 'bad_signature', 1],
    ['unknown_serial', 'untrusted', 'bad_signature', 1],
    ['signtest', 'untrusted', 'bad_signature', 1],
    ['duplicate_key', 'untrusted', 'unreadable', 1],
    ['doctype', 'untrusted', 'unreadable', 1],
    ['deep', 'untrusted', 'unreadable', 1],
    ['bad_json', 'untrusted', 'unreadable', 1],
    ['empty', 'untrusted', 'unreadable', 1],
    ['huge', 'retry', 'too_large', 1],
    ['html502', 'retry', 'gateway_error', 3],
    ['redirect', 'alert', 'unknown_code', 1],
    ['unknown_state', 'alert', 'unknown_state', 1],
    ['missing_fields', 'alert', 'unknown_state', 1],
  ] as const)('a query under %s: unknown, %s, %s', async (fault, duty, reason, requests) => {
    const outcome = await queryUnder({ fault, on: 'query' }, { sandbox: { mode: 'v2' } })
    expect(outcome).toMatchObject({ kind: 'unknown', duty, reason })
    expect(outcome.exchanges).toHaveLength(requests)
  })

  it.each([
    ['ORDERPAID', 'refused', 'ORDERPAID'],
    ['ORDERCLOSED', 'refused', 'ORDERCLOSED'],
    ['ORDERNOTEXIST', 'refused', 'ORDERNOTEXIST'],
    ['SYSTEMERROR', 'unknown', 'gateway_error'],
    ['SIGNERROR', 'unknown', 'configuration'],
    ['SOMETHINGNEW', 'unknown', 'unknown_code'],
  ] as const)('a close answered %s: %s %s, sent once', async (code, kind, reason) => {
    const { outcome, asked } = await closeUnder({ fault: 'error', on: 'close', code }, 'NOTPAY', {
      sandbox: { mode: 'v2' },
    })
    expect(outcome).toMatchObject({ kind, reason })
    expect(asked).toBe(1)
  })
})

describe('payment codes are reversed', () => {
  it.each(['public_key', 'v2'] as const)('over mutual TLS (%s)', async (mode) => {
    const { gateway, sandbox } = await start({ sandbox: { mode, tls: true } })
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000 })
    expect(await gateway.closeOrder(CODE, OPTIONS)).toMatchObject({ kind: 'accepted' })
    expect(await gateway.queryOrder(CODE, OPTIONS)).toMatchObject({
      trade: { state: 'closed', gatewayState: 'REVOKED' },
    })
  })

  it('"call again" is followed, within bounds', async () => {
    const { gateway, sandbox } = await start({ sandbox: { tls: true } })
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000, recalls: 2 })
    expect(await gateway.closeOrder(CODE, OPTIONS)).toMatchObject({ kind: 'accepted' })
    expect(sandbox.calls('P1').reverse).toBe(3)
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000, recalls: 50 })
    expect(await gateway.closeOrder(CODE, OPTIONS)).toMatchObject({ kind: 'unknown', duty: 'retry', reason: 'recall' })
    expect(sandbox.calls('P1').reverse).toBeLessThanOrEqual(3 + 5)
  })

  it('"call again" is followed where the call itself succeeded: the trade is not reversed yet', async () => {
    const { gateway, sandbox } = await start({ sandbox: { tls: true } })
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000 })
    sandbox.addFaults([{ fault: 'recall', on: 'reverse', code: 'SUCCESS', times: 2 }])
    expect(await gateway.closeOrder(CODE, OPTIONS)).toMatchObject({ kind: 'accepted' })
    expect(sandbox.calls('P1').reverse).toBe(3)
    expect(sandbox.getTrade('P1')).toMatchObject({ state: 'REVOKED' })
  })

  it('a forged "call again" is not followed', async () => {
    const { gateway, sandbox } = await start({ sandbox: { tls: true } })
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000, recalls: 50 })
    sandbox.addFaults([{ fault: 'unsigned', on: 'reverse', times: 20 }])
    expect(await gateway.closeOrder(CODE, OPTIONS)).toMatchObject({ kind: 'unknown', duty: 'untrusted' })
    expect(sandbox.calls('P1').reverse).toBe(1)
  })

  it.each(['reset', 'hang', 'html502', 'system_error', 'cut', 'tampered'] as const)(
    'a reverse under %s is not repeated',
    async (fault) => {
      const { gateway, sandbox } = await start({ sandbox: { tls: true }, timeoutMs: 1_000 })
      sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000 })
      sandbox.addFaults([{ fault, on: 'reverse', times: 20, ...(fault === 'hang' ? { ms: 3_000 } : {}) }])
      expect(await gateway.closeOrder(CODE, OPTIONS)).toMatchObject({ kind: 'unknown' })
      expect(sandbox.calls('P1').reverse).toBe(1)
    },
  )

  it.each([
    ['public_key', { WECHAT_CLIENT_CERT: '', WECHAT_CLIENT_KEY: '' }],
    ['public_key', { WECHAT_API_V2_KEY: '' }],
    ['v2', { WECHAT_CLIENT_CERT: '', WECHAT_CLIENT_KEY: '' }],
  ] as const)('without the settings for it nothing is sent, and a human is told which (%s)', async (mode, settings) => {
    const { gateway, sandbox } = await start({ sandbox: { mode }, settings })
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000 })
    expect(await gateway.closeOrder(CODE, OPTIONS)).toMatchObject({
      kind: 'unknown',
      duty: 'alert',
      reason: 'configuration',
      message: expect.stringContaining('WECHAT_CLIENT_CERT'),
      exchanges: [],
    })
    expect(sandbox.requests()).toEqual([])
  })
})
