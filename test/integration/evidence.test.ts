// Only evidence changes an order: every fault and every error row, over the whole service, on an order in PostgreSQL.
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import type { TradeRef } from '../../src/gateways/gateway.js'
import { FAULT_NAMES, type FaultInput, type FaultName } from '../../src/sandbox/faults.js'
import { type Sandboxes, startSandboxes, startService, type TestService } from '../support/service.js'

// The outside's own lists lie beside the project and are not part of it.
const SHARED = path.resolve(import.meta.dirname, '../../../shared')

/** Long enough for three tries and their pauses on a busy machine, short enough for the faults that last. */
const TIMEOUT_MS = 4_000

/**
 * Why the sync of an order that waits, whose trade is paid there, learned nothing; what the record says first. `=` is a
 * difference that was found (28100), `0` an answer that was believed and changes nothing of an order this young.
 */
const FAULTS = `
fault                 ; WeChat Pay APIv3   ; WeChat Pay APIv2   ; Alipay
delay                 ; timeout            ; timeout            ; timeout
hang                  ; timeout            ; timeout            ; timeout
reset                 ; connection_lost    ; connection_lost    ; connection_lost
cut                   ; connection_lost    ; connection_lost    ; connection_lost
html502               ; gateway_error      ; gateway_error      ; gateway_error
rate_limit            ; rate_limited       ; rate_limited       ; rate_limited
system_error          ; gateway_error      ; gateway_error      ; gateway_error
unsigned              ; unsigned           ; unsigned           ; unsigned
tampered              ; bad_signature      ; bad_signature      ; bad_signature
stale                 ; stale              ; bad_signature      ; bad_signature
unknown_serial        ; unknown_serial     ; bad_signature      ; bad_signature
wrong_amount          ; =amount            ; =amount            ; =amount
wrong_merchant        ; =merchant          ; =merchant          ; bad_signature
wrong_order           ; =out_trade_no      ; =out_trade_no      ; =out_trade_no
unknown_state         ; unknown_state      ; unknown_state      ; unknown_state
duplicate_key         ; unreadable         ; unreadable         ; unreadable
huge                  ; too_large          ; too_large          ; too_large
redirect              ; unknown_code       ; unknown_code       ; gateway_error
not_exist             ; 0                  ; 0                  ; 0
wrong_length          ; bad_http           ; bad_http           ; bad_http
primary_down          ; unreachable        ; unreachable        ; unreachable
rate_limit_unsigned   ; rate_limited       ; not_accepted       ; rate_limited
system_error_unsigned ; gateway_error      ; gateway_error      ; gateway_error
not_exist_unsigned    ; unknown_code       ; unsigned           ; unsigned
recall                ; gateway_error      ; unknown_code       ; gateway_error
error                 ; configuration      ; configuration      ; configuration
empty_sign            ; bad_signature      ; unsigned           ; unsigned
signtest              ; bad_signature      ; bad_signature      ; bad_signature
wrong_currency        ; =currency          ; =currency          ; =currency
wrong_app             ; =app               ; =app               ; bad_signature
missing_fields        ; unknown_state      ; unknown_state      ; unknown_state
empty                 ; unknown_state      ; unreadable         ; unreadable
bad_json              ; unreadable         ; unreadable         ; unreadable
deep                  ; unreadable         ; unreadable         ; unreadable
doctype               ; unreadable         ; unreadable         ; unreadable
`
/** A trade that is paid there and none of ours. */
const BELIEVED: TradeRef = { outTradeNo: 'believed', gatewayOrderNo: null, payWay: 'qr_code' }
const [[, ...KINDS] = [], ...rows] = FAULTS.trim()
  .split('\n')
  .map((line) => line.split(';').map((cell) => cell.trim()))
/** That many of the rows are the outside's own; the others are the sandbox's. */
const OF_INTERFACE = 19

/** The error rows of the gateways, as `error` plays them: none of them tells a state, signed or not. */
const ERRORS: Readonly<Record<string, readonly Partial<FaultInput>[]>> = {
  'WeChat Pay APIv3': [
    [400, 'PARAM_ERROR'],
    [400, 'INVALID_REQUEST'],
    [400, 'MCH_NOT_EXISTS'],
    [400, 'APPID_MCHID_NOT_MATCH'],
    [401, 'SIGN_ERROR'],
    [403, 'NO_AUTH'],
    [403, 'RULE_LIMIT'],
    [400, 'ORDER_CLOSED'],
    [400, 'ORDER_PAID'],
    [400, 'TRADE_ERROR'],
    [429, 'FREQUENCY_LIMITED'],
    [500, 'SYSTEM_ERROR'],
    [500, 'BANK_ERROR'],
    [400, 'ORDER_NOT_EXIST'],
    [200, 'ORDER_NOT_EXIST'],
  ].map(([status, code]) => ({ status: Number(status), code: String(code) })),
  'WeChat Pay APIv2': [
    'SYSTEMERROR',
    'FREQUENCY_LIMITED',
    'PARAM_ERROR',
    'SIGNERROR',
    'NOAUTH',
    'APPID_MCHID_NOT_MATCH',
    'ORDERPAID',
    'ORDERCLOSED',
  ].map((code) => ({ code })),
  Alipay: [
    ['40004', 'ACQ.SYSTEM_ERROR'],
    ['20000', 'isp.unknow-error'],
    ['20000', 'aop.unknow-error'],
    ['40005', 'isv.app-call-limited'],
    ['40001', 'isv.missing-method'],
    ['40002', 'isv.invalid-signature'],
    ['40006', 'isv.insufficient-isv-permissions'],
    ['20001', 'aop.invalid-auth-token'],
    ['40004', 'ACQ.INVALID_PARAMETER'],
    ['40004', 'ACQ.TRADE_HAS_CLOSE'],
    ['40004', 'ACQ.TRADE_STATUS_ERROR'],
    ['10000', 'ACQ.TRADE_NOT_EXIST'],
  ].map(([code = '', subCode = '']) => ({ code, subCode })),
}

const past = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString()

describe('the list of faults', () => {
  it('is the sandbox’s, each once', () => {
    expect(rows.map(([fault = '']) => fault).toSorted()).toEqual([...FAULT_NAMES].toSorted())
  })

  it.skipIf(!existsSync(SHARED))('begins with those that the outside knows (skipped where ../shared is absent)', () => {
    const [, named = ''] = /"fault":"([a-z0-9_|]+)"/.exec(readFileSync(path.join(SHARED, 'INTERFACE.md'), 'utf8')) ?? []
    expect(rows.slice(0, OF_INTERFACE).map(([fault]) => fault)).toEqual(named.split('|'))
  })
})

describe('the rows of the gateways’ tables', () => {
  const FILES = ['wechat-rows', 'gateway-wechat', 'gateway-alipay', 'evidence', 'payment-codes'] as const
  const tests = FILES.map((file) => readFileSync(path.join(import.meta.dirname, `${file}.test.ts`), 'utf8')).join('\n')
  /** Codes and states in the first cells of the tables, and the refusals that are listed after them. */
  function named(): string[] {
    const lines = readFileSync(path.join(SHARED, 'GATEWAYS.md'), 'utf8').split('\n')
    const cells = lines.filter((line) => line.startsWith('| ')).map((line) => line.split('|')[1] ?? '')
    const refusals = lines.filter((line) => line.startsWith('Close answers'))
    const words = [...cells, ...refusals].flatMap(
      (text) => text.match(/[A-Za-z.]*[A-Z]{2,}_?[A-Z_]+|\b\d{5}\b|isv?p?\.[a-z-]+/g) ?? [],
    )
    return [...new Set(words)].filter((word) => !['HTTP', 'HTML'].includes(word))
  }

  it.skipIf(!existsSync(SHARED))('are each named by a test over real HTTP (skipped where ../shared is absent)', () => {
    const words = named()
    expect(words.length).toBeGreaterThan(40)
    expect(words.filter((word) => !tests.includes(word))).toEqual([])
  })
})

// What is wrong with a trade's content is wrong with no answer to a close, which tells none.
const OF_CONTENT = /^(?:wrong_(?:amount|currency|merchant|app|order)|unknown_state|missing_fields)$/
/** A 204 has no body to cut short or to name a member twice in; an APIv2 close has no state to name twice. */
const WITHOUT_EFFECT: Readonly<Record<string, readonly FaultName[]>> = {
  'WeChat Pay APIv3': ['wrong_length', 'duplicate_key', 'empty'],
  'WeChat Pay APIv2': ['duplicate_key'],
}
function isPlayedOnClose(kind: string, fault: FaultName): boolean {
  return !OF_CONTENT.test(fault) && WITHOUT_EFFECT[kind]?.includes(fault) !== true
}

describe.each(KINDS)('%s', (kind) => {
  const isAlipay = kind === 'Alipay'
  const channel = isAlipay ? 'ali_pay' : 'wechat_pay'
  const [paid, unpaid, closed] = isAlipay
    ? ['TRADE_SUCCESS', 'WAIT_BUYER_PAY', 'TRADE_CLOSED']
    : ['SUCCESS', 'NOTPAY', 'CLOSED']
  const reasonOf = (fault: string) => rows.find(([name]) => name === fault)?.[1 + KINDS.indexOf(kind)] ?? ''

  let sandboxes: Sandboxes
  let service: TestService
  beforeAll(async () => {
    sandboxes = await startSandboxes(kind === 'WeChat Pay APIv2' ? { mode: 'v2' } : {})
    service = await startService({ sandboxes, environment: { GATEWAY_TIMEOUT_MS: String(TIMEOUT_MS) } })
    gateway().putTrade(BELIEVED.outTradeNo, { state: paid, amount: 1000 })
    await believed(60)
  })
  afterAll(async () => {
    await service.stop()
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  })
  const gateway = () => (isAlipay ? sandboxes.alipay : sandboxes.wechat)

  const ORDERS = {
    'an order that waits, paid there': { order: { createTime: past(0) }, state: paid },
    'an expired order, unpaid there': { order: { expiredTime: past(1) }, state: unpaid },
    'a paid order, closed there': { order: { status: 'success', payTime: past(5) }, state: closed },
    'a closed order, paid there': { order: { status: 'close' }, state: paid },
  } as const
  type Situation = keyof typeof ORDERS

  async function given(situation: Situation): Promise<string> {
    const { order, state } = ORDERS[situation]
    const id = await service.register({ channel, notifyUrl: 'http://127.0.0.1:9/notices', ...order })
    gateway().putTrade(id, { state, amount: 1000 })
    return id
  }

  /** The row but for what is kept of the asking itself: when next, how often in vain, and the count of commits. */
  async function rowOf(id: string): Promise<unknown> {
    const { rows: found } = await service.pool.query(
      `SELECT to_jsonb(o) - '{version,next_sync_at,sync_failures,lease_token,lease_expires_at}'::text[] AS row
       FROM orders o WHERE id = $1`,
      [id],
    )
    return found[0]
  }

  /** Believed answers, so that the faults here do not open the breaker. */
  async function believed(count: number): Promise<void> {
    for (let call = 0; call < count; call++) {
      const asked = await service.service.gateways.byChannel[channel]?.queryOrder(BELIEVED, {
        priority: 'merchant',
        traceId: 'believed',
      })
      expect(asked?.kind).toBe('trade')
    }
  }

  /** One sync under the fault: nothing of the order changes, nobody is told. Its record comes back. */
  async function syncUnchanged(id: string, fault: Partial<FaultInput>): Promise<Record<string, unknown>> {
    const before = await rowOf(id)
    gateway().addFaults([{ fault: 'error', outTradeNo: id, times: 20, ...fault }])
    await service.sync(id)
    const { repairs, notices, syncs } = await service.history(id)
    expect({ row: await rowOf(id), repairs, notices }).toEqual({ row: before, repairs: [], notices: [] })
    expect(syncs).toHaveLength(1)
    const struck = gateway()
      .requests()
      .filter(({ outTradeNo }) => outTradeNo === id)
    expect(struck.map((request) => request.fault)).toContain(fault.fault ?? 'error')
    await believed(2)
    return syncs[0] ?? {}
  }

  function expectReason(sync: Record<string, unknown>, reason: string): void {
    if (reason === '0') expect(sync).toMatchObject({ outcome: 'synced', decision: 'wait', errorCode: null })
    else if (reason.startsWith('='))
      expect(sync).toMatchObject({
        outcome: 'mismatch',
        errorCode: 28100,
        errorMsg: expect.stringMatching(new RegExp(`^${reason.slice(1)}: expected `)),
      })
    else
      expect(sync).toMatchObject({
        outcome: 'unknown',
        errorCode: 20000,
        gatewayStatus: 'pay_fail',
        errorMsg: expect.stringMatching(new RegExp(`^(idle_)?${reason}: `)),
      })
  }

  const played = FAULT_NAMES.filter((fault) => fault !== 'primary_down')
  const faultInput = (fault: FaultName): Partial<FaultInput> => ({
    fault,
    on: 'query',
    ...(fault === 'delay' || fault === 'hang' ? { ms: TIMEOUT_MS + 500 } : {}),
  })

  it.concurrent.each(played)('%s on a query: no order changes, and the record says why', async (fault) => {
    const under = async (situation: Situation) => await syncUnchanged(await given(situation), faultInput(fault))
    const [waiting] = await Promise.all([
      under('an order that waits, paid there'),
      under('a paid order, closed there'),
      // These would be told, verifiably, that there is no such trade: for them that is evidence.
      ...(fault === 'not_exist' ? [] : [under('an expired order, unpaid there'), under('a closed order, paid there')]),
    ])
    expectReason(waiting, reasonOf(fault))
  })

  it.concurrent.each(played.filter((fault) => isPlayedOnClose(kind, fault)))(
    '%s on a close, and we do not learn what became of it: no order changes',
    async (fault) => {
      await syncUnchanged(await given('an expired order, unpaid there'), { ...faultInput(fault), on: 'close' })
    },
  )

  it('primary_down: nothing is sent, no order changes, and the next sync is answered', async () => {
    const id = await given('an order that waits, paid there')
    const before = await rowOf(id)
    await gateway().stopPrimary()
    await service.sync(id)
    const { syncs, repairs, notices } = await service.history(id)
    expect({ row: await rowOf(id), repairs, notices }).toEqual({ row: before, repairs: [], notices: [] })
    expectReason(syncs[0] ?? {}, reasonOf('primary_down'))
    await gateway().startPrimary()
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  })

  it.concurrent.each(
    (ERRORS[kind] ?? []).map((error) => [[error.status, error.code, error.subCode].join(' ').trim(), error] as const),
  )('the error %s, signed or not: no order changes', async (_title, error) => {
    const under = async (situation: Situation, signed: boolean) =>
      expect(await syncUnchanged(await given(situation), { ...error, on: 'query', signed })).toMatchObject({
        outcome: 'unknown',
        errorCode: 20000,
      })
    await Promise.all([
      under('an order that waits, paid there', true),
      under('an expired order, unpaid there', true),
      under('an expired order, unpaid there', false),
    ])
  })
})
