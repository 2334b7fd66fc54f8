import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { loadConfig } from '../../src/config.js'
import type { CallOptions, Gateway } from '../../src/gateways/gateway.js'
import { createWechat } from '../../src/gateways/wechat/setup.js'
import { createLog } from '../../src/log.js'
import { createWechatPlugin } from '../support/official-clients.js'
import { SILENT_OBSERVER } from '../support/silent-observer.js'
import { paidTrade, signed, startAnsweringWechat } from '../support/wechat-answers.js'

const OPTIONS: CallOptions = { priority: 'merchant', traceId: 'differential' }
const PAID = paidTrade()
const WAITING = paidTrade({ trade_state: 'NOTPAY', success_time: undefined, transaction_id: undefined })
const NOT_EXIST = '{"code":"ORDER_NOT_EXIST","message":"订单不存在"}'

type Answer = Readonly<{ status?: number; headers: Readonly<Record<string, string | string[]>>; body: string }>
let answer: Answer = { headers: {}, body: '' }
let gateway: Gateway
let settings: Record<string, string> = {}
const stops: (() => void)[] = []

beforeAll(async () => {
  const answering = await startAnsweringWechat((_request, response) => {
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json', ...answer.headers }).end(answer.body)
  })
  // Only the plugin asks for an APIv2 key.
  settings = { ...answering.settings, WECHAT_API_V2_KEY: '0'.repeat(32) }
  const ours = createWechat(loadConfig({ SIGN_REQUIRED: 'false', GATEWAY_TIMEOUT_MS: '3000', ...answering.settings }), {
    log: createLog('silent'),
    observer: SILENT_OBSERVER,
    now: Date.now,
    random: () => 0,
  })
  gateway = ours.gateway
  stops.push(answering.stop, ours.close)
})
afterAll(() => {
  for (const stop of stops) stop()
})

/** Each client's verdict on one answer: the state, or the signed code, that it takes it for; else `refused`. */
async function verdicts(given: Answer): Promise<{ ours: string; plugin: string }> {
  answer = given
  const ours = await gateway.queryOrder({ outTradeNo: 'P1', gatewayOrderNo: null, payWay: 'app' }, OPTIONS)
  const theirs = await createWechatPlugin(settings, { maxRedirects: 0 }).query('P1')
  // What it calls a bad request or a bad answer it hands on with the body; its own refusals have names of their own.
  const isTaken = theirs.refusal === null || theirs.refusal.startsWith('ERR_BAD_')
  return {
    ours: ours.kind === 'trade' ? ours.trade.gatewayState : 'refused',
    plugin: isTaken ? String(theirs.body?.['trade_state'] ?? theirs.body?.['code']) : 'refused',
  }
}

const genuine = signed(WAITING)
const changed = (name: string, change: (value: string) => string) => ({
  ...genuine,
  [name]: change(genuine[name] ?? ''),
})

describe('answers on which we and wechatpay-axios-plugin agree', () => {
  it.each<[string, Answer, string]>([
    ['a genuine one', { headers: genuine, body: WAITING }, 'NOTPAY'],
    ['a genuine paid one', { headers: signed(PAID), body: PAID }, 'SUCCESS'],
    ['a signed refusal', { status: 404, headers: signed(NOT_EXIST), body: NOT_EXIST }, 'ORDER_NOT_EXIST'],
    ['tampered: the state', { headers: genuine, body: WAITING.replace('NOTPAY', 'SUCCESS') }, 'refused'],
    ['tampered: one space', { headers: genuine, body: `${WAITING} ` }, 'refused'],
    ['another answer’s signature', { headers: genuine, body: PAID }, 'refused'],
    ['cut', { headers: genuine, body: WAITING.slice(0, -1) }, 'refused'],
    ['an hour old', { headers: signed(WAITING, Date.now() - 3_600_000), body: WAITING }, 'refused'],
    ['an hour ahead', { headers: signed(WAITING, Date.now() + 3_600_000), body: WAITING }, 'refused'],
    [
      'another time',
      { headers: changed('Wechatpay-Timestamp', (at) => String(Number(at) - 1)), body: WAITING },
      'refused',
    ],
    ['another nonce', { headers: changed('Wechatpay-Nonce', () => 'n'), body: WAITING }, 'refused'],
    ['an unknown serial', { headers: changed('Wechatpay-Serial', (serial) => `${serial}0`), body: WAITING }, 'refused'],
    [
      'a probe',
      { headers: changed('Wechatpay-Signature', (text) => `WECHATPAY/SIGNTEST/${text}`), body: WAITING },
      'refused',
    ],
    ['an empty signature', { headers: changed('Wechatpay-Signature', () => ''), body: WAITING }, 'refused'],
    ['no signature', { headers: {}, body: WAITING }, 'refused'],
  ])('%s', async (_title, given, verdict) => {
    expect(await verdicts(given)).toEqual({ ours: verdict, plugin: verdict })
  })
})

/*
 * Measured with wechatpay-axios-plugin 0.9.6. It verifies 2xx alone, decodes base64 leniently, and reads with JSON.parse,
 * which takes the last of two members of one name.
 */
describe('answers that wechatpay-axios-plugin takes and we do not', () => {
  it('a refusal that nobody signed, or that was signed over something else: "no such order"', async () => {
    expect(await verdicts({ status: 404, headers: {}, body: NOT_EXIST })).toEqual({
      ours: 'refused',
      plugin: 'ORDER_NOT_EXIST',
    })
    expect(await verdicts({ status: 404, headers: genuine, body: NOT_EXIST })).toEqual({
      ours: 'refused',
      plugin: 'ORDER_NOT_EXIST',
    })
  })

  it('a state that is named twice: signed, and still two answers in one', async () => {
    const body = WAITING.replace(/\}$/, ',"trade_state":"SUCCESS"}')
    expect(await verdicts({ headers: signed(body), body })).toEqual({ ours: 'refused', plugin: 'SUCCESS' })
  })

  it('a second signature beside the genuine one', async () => {
    const headers = { ...genuine, 'Wechatpay-Signature': [genuine['Wechatpay-Signature'] ?? '', 'AAAA'] }
    expect(await verdicts({ headers, body: WAITING })).toEqual({ ours: 'refused', plugin: 'NOTPAY' })
  })

  it('other texts than the gateway’s for one signature', async () => {
    for (const change of [
      (text: string) => text.replace(/=+$/, ''),
      (text: string) => `${text.slice(0, 9)} ${text.slice(9)}`,
    ])
      expect(await verdicts({ headers: changed('Wechatpay-Signature', change), body: WAITING })).toEqual({
        ours: 'refused',
        plugin: 'NOTPAY',
      })
  })
})
