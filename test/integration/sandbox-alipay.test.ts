import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type AlipaySandbox, type AlipaySandboxOptions, createAlipaySandbox } from '../../src/sandbox/alipay.js'
import { requestText, signText, verifyText } from '../../src/sandbox/alipay-crypto.js'
import { spaced } from '../../src/sandbox/beijing-time.js'
import { sharedKeyPair } from '../../src/sandbox/keys.js'
import { createAlipayClient, sendRaw } from '../support/official-clients.js'

const SAMPLES = path.resolve(import.meta.dirname, '../../../shared/vectors/alipay-v2/samples')
const FORM = 'application/x-www-form-urlencoded;charset=utf-8'

const opened: AlipaySandbox[] = []

beforeAll(() => {
  // The official library writes timestamps in the process's time zone, Alipay reads them in China's.
  process.env['TZ'] = 'Asia/Shanghai'
})

async function start(options: AlipaySandboxOptions = {}) {
  const sandbox = createAlipaySandbox(options)
  opened.push(sandbox)
  const { url } = await sandbox.listen()
  return { sandbox, url, settings: sandbox.merchantSettings() }
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((sandbox) => sandbox.close()))
})

type Settings = Record<string, string>
const QUERY = 'alipay.trade.query'

/** A request whose parameters `change` replaces before, `afterSigning` after the signature; null takes one away. */
async function sendSigned(
  settings: Settings,
  change: Record<string, string | null> = {},
  afterSigning: Record<string, string | null> = {},
  contentType = FORM,
) {
  const parameters = new Map<string, string>()
  const put = (members: Record<string, string | null>) => {
    for (const [name, value] of Object.entries(members)) {
      if (value === null) {
        parameters.delete(name)
      } else {
        parameters.set(name, value)
      }
    }
  }
  put({
    app_id: settings['ALIPAY_APP_ID'] ?? '',
    method: QUERY,
    format: 'JSON',
    charset: 'utf-8',
    sign_type: 'RSA2',
    timestamp: spaced(Date.now()),
    version: '1.0',
    biz_content: '{"out_trade_no":"P1"}',
    ...change,
  })
  const { privateKey } = await sharedKeyPair('alipay-app')
  put({ sign: await signText(privateKey, requestText(parameters)), ...afterSigning })
  const answer = await sendRaw(settings['ALIPAY_GATEWAY_URL'] ?? '', {
    method: 'POST',
    headers: { 'content-type': contentType },
    body: new URLSearchParams([...parameters]).toString(),
  })
  const body = JSON.parse(answer.text) as Record<string, unknown>
  const node = (body['alipay_trade_query_response'] ?? body['error_response']) as Record<string, string>
  return { ...answer, body, node }
}

describe('the trade’s life', () => {
  it.each([
    ['WAIT_BUYER_PAY', {}, 'WAIT_BUYER_PAY', false],
    ['TRADE_SUCCESS', {}, 'TRADE_SUCCESS', true],
    ['TRADE_SUCCESS', { refunded: 300 }, 'TRADE_SUCCESS', true],
    ['TRADE_SUCCESS', { refunded: 1000 }, 'TRADE_CLOSED', true],
    ['TRADE_FINISHED', {}, 'TRADE_FINISHED', true],
    ['TRADE_CLOSED', {}, 'TRADE_CLOSED', false],
    ['TRADE_CLOSED', { refunded: 1000 }, 'TRADE_CLOSED', true],
  ])('the official library accepts the answer about %s %j', async (state, more, shown, hasPayDate) => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state, amount: 8888, ...more, ...('refunded' in more ? { amount: 1000 } : {}) })
    const answer = await createAlipayClient(settings)(QUERY, { out_trade_no: 'P1' })
    expect(answer.refusal).toBeNull()
    const amount = 'refunded' in more ? '10.00' : '88.88'
    expect(answer.body).toMatchObject({ code: '10000', trade_status: shown, total_amount: amount })
    expect('send_pay_date' in (answer.body ?? {})).toBe(hasPayDate)
  })

  it.skipIf(!existsSync(SAMPLES)).each([
    ['WAIT_BUYER_PAY', 'prod_query_WAIT_BUYER_PAY.json'],
    ['TRADE_SUCCESS', 'sandbox_query_TRADE_SUCCESS.json'],
    ['NOT_SCANNED', 'sandbox_query_TRADE_NOT_EXIST.json'],
  ])('an answer about %s has the members of the genuine one', async (state, file) => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state, amount: 8888 })
    const genuine = JSON.parse(readFileSync(path.join(SAMPLES, file), 'utf8')) as Record<string, object>
    const answer = await sendSigned(settings)
    // `subject` is added by the sandbox, for its slash.
    const told = Object.keys(answer.node).filter((name) => name !== 'subject')
    expect(told.sort()).toEqual(Object.keys(genuine['alipay_trade_query_response'] ?? {}).sort())
    expect(Object.keys(answer.body)).toEqual(Object.keys(genuine))
  })

  it('a trade does not exist until the buyer has scanned', async () => {
    const { sandbox, settings } = await start()
    const call = createAlipayClient(settings)
    sandbox.putTrade('P1', { state: 'NOT_SCANNED', amount: 1000, payOn: 'query' })
    expect((await call(QUERY, { out_trade_no: 'P1' })).body).toMatchObject({ sub_code: 'ACQ.TRADE_NOT_EXIST' })
    expect((await call(QUERY, { out_trade_no: 'P1' })).body).toMatchObject({ trade_status: 'TRADE_SUCCESS' })
  })

  it.each([
    ['WAIT_BUYER_PAY', undefined, 'TRADE_CLOSED'],
    ['TRADE_SUCCESS', 'ACQ.TRADE_STATUS_ERROR', 'TRADE_SUCCESS'],
    ['TRADE_FINISHED', 'ACQ.REASON_TRADE_STATUS_INVALID', 'TRADE_FINISHED'],
    ['TRADE_CLOSED', 'ACQ.REASON_ILLEGAL_STATUS', 'TRADE_CLOSED'],
    ['NOT_SCANNED', 'ACQ.TRADE_NOT_EXIST', 'NOT_SCANNED'],
  ])('closing a trade in %s answers %s', async (state, subCode, after) => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state, amount: 1000 })
    const answer = await createAlipayClient(settings)('alipay.trade.close', { out_trade_no: 'P1' })
    expect(answer.body?.['sub_code']).toBe(subCode)
    expect(sandbox.getTrade('P1')?.state).toBe(after)
  })

  it('a trade can be paid between the query and the close', async () => {
    const { sandbox, settings } = await start()
    const call = createAlipayClient(settings)
    sandbox.putTrade('P1', { state: 'WAIT_BUYER_PAY', amount: 1000, payOn: 'close' })
    expect((await call('alipay.trade.close', { out_trade_no: 'P1' })).body).toMatchObject({
      sub_code: 'ACQ.TRADE_STATUS_ERROR',
    })
    expect((await call(QUERY, { out_trade_no: 'P1' })).body).toMatchObject({ trade_status: 'TRADE_SUCCESS' })
  })

  it('a cancel asks to be repeated, then closes what is unpaid and refunds what is paid', async () => {
    const { sandbox, settings } = await start()
    const call = createAlipayClient(settings)
    sandbox.putTrade('P1', { state: 'WAIT_BUYER_PAY', amount: 1000, recalls: 1 })
    sandbox.putTrade('P2', { state: 'TRADE_SUCCESS', amount: 1000 })
    const cancel = async (no: string) => (await call('alipay.trade.cancel', { out_trade_no: no })).body
    expect(await cancel('P1')).toMatchObject({ code: '40004', retry_flag: 'Y' })
    expect(await cancel('P1')).toMatchObject({ code: '10000', retry_flag: 'N', action: 'close' })
    expect(await cancel('P2')).toMatchObject({ code: '10000', retry_flag: 'N', action: 'refund' })
    const refunded = await call(QUERY, { out_trade_no: 'P2' })
    expect(refunded.body).toMatchObject({ trade_status: 'TRADE_CLOSED', send_pay_date: expect.any(String) as string })
    const refund = await call('alipay.trade.fastpay.refund.query', { out_trade_no: 'P2', out_request_no: 'P2R' })
    expect(refund.body).toMatchObject({ refund_amount: '10.00', refund_status: 'REFUND_SUCCESS' })
  })
})

describe('signatures', () => {
  it.each([false, true])('are over the node as sent, its slashes escaped; sign first: %s', async (signFirst) => {
    const { sandbox, settings } = await start({ signFirst })
    sandbox.putTrade('P1', { state: 'TRADE_SUCCESS', amount: 1000 })
    const { text, body } = await sendSigned(settings)
    expect(Object.keys(body)[0]).toBe(signFirst ? 'sign' : 'alipay_trade_query_response')
    const node = /"alipay_trade_query_response":(\{[^}]*\})/.exec(text)?.[1] ?? ''
    expect(node).toContain('\\/')
    const { publicKey } = await sharedKeyPair('alipay-platform')
    expect(verifyText(publicKey, node, String(body['sign']))).toBe(true)
    expect(verifyText(publicKey, JSON.stringify(JSON.parse(node)), String(body['sign']))).toBe(false)
  })

  it('certificate mode: the official library finds the same numbers and accepts the answers', async () => {
    const { sandbox, settings } = await start({ mode: 'certificate' })
    expect(settings).not.toHaveProperty('ALIPAY_PUBLIC_KEY')
    sandbox.putTrade('P1', { state: 'TRADE_SUCCESS', amount: 1000 })
    const answer = await createAlipayClient(settings)(QUERY, { out_trade_no: 'P1' })
    expect(answer.refusal).toBeNull()
    expect(answer.body).toMatchObject({ trade_status: 'TRADE_SUCCESS' })
    expect(sandbox.requests().at(-1)?.verdict).toBe('valid')
    const withoutNumbers = await sendSigned(settings)
    expect(withoutNumbers.node['sub_code']).toBe('isv.invalid-app-cert-sn')
    expect(withoutNumbers.body).toHaveProperty('alipay_cert_sn')
  })

  it('after a change of keys, who only knows the old one refuses', async () => {
    const { sandbox, settings } = await start()
    const call = createAlipayClient(settings)
    sandbox.putTrade('P1', { state: 'TRADE_SUCCESS', amount: 1000 })
    expect((await call(QUERY, { out_trade_no: 'P1' })).refusal).toBeNull()
    await sandbox.rotateKeys()
    expect((await call(QUERY, { out_trade_no: 'P1' })).refusal).toContain('验签失败')
    const renewed = createAlipayClient(sandbox.merchantSettings())
    expect((await renewed(QUERY, { out_trade_no: 'P1' })).refusal).toBeNull()
  })
})

describe('requests are judged as by the real gateway', () => {
  type Change = Record<string, string | null>
  it.each<[string, Change, Change, string, string]>([
    ['valid', {}, {}, '40004', 'ACQ.TRADE_NOT_EXIST'],
    ['missing_method', { method: null }, {}, '40001', 'isv.missing-method'],
    ['invalid_method', { method: 'alipay.trade.steal' }, {}, '40002', 'isv.invalid-method'],
    ['invalid_app-id', { app_id: '1' }, {}, '40002', 'isv.invalid-app-id'],
    ['missing_timestamp', { timestamp: null }, {}, '40001', 'isv.missing-timestamp'],
    ['invalid_timestamp', { timestamp: new Date().toISOString() }, {}, '40002', 'isv.invalid-timestamp'],
    // The same moment, told in UTC.
    ['invalid_timestamp', { timestamp: spaced(Date.now() - 8 * 3600_000) }, {}, '40002', 'isv.invalid-timestamp'],
    ['invalid_charset', { charset: 'GBK' }, {}, '40002', 'isv.invalid-charset'],
    ['invalid_format', { format: 'XML' }, {}, '40002', 'isv.invalid-format'],
    ['invalid_version', { version: '2.0' }, {}, '40002', 'isv.invalid-version'],
    ['invalid_signature-type', { sign_type: 'RSA' }, {}, '40002', 'isv.invalid-signature-type'],
    ['missing_signature', {}, { sign: null }, '40001', 'isv.missing-signature'],
    ['invalid_signature', {}, { biz_content: '{"out_trade_no":"P2"}' }, '40002', 'isv.invalid-signature'],
    ['invalid_signature', {}, { extra: 'x' }, '40002', 'isv.invalid-signature'],
    ['invalid_biz_content', { biz_content: '{}' }, {}, '40004', 'ACQ.INVALID_PARAMETER'],
    ['invalid_biz_content', { biz_content: 'P1' }, {}, '40004', 'ACQ.INVALID_PARAMETER'],
  ])('%s: %j then %j', async (verdict, change, afterSigning, code, subCode) => {
    const { sandbox, settings } = await start()
    const { node } = await sendSigned(settings, change, afterSigning)
    expect(sandbox.requests().at(-1)?.verdict).toBe(verdict)
    expect(node).toMatchObject({ code, sub_code: subCode })
  })

  it('an empty parameter is not signed', async () => {
    const { sandbox, settings } = await start()
    await sendSigned(settings, {}, { notify_url: '' })
    expect(sandbox.requests().at(-1)?.verdict).toBe('valid')
  })

  it('a form without its charset is refused', async () => {
    const { settings } = await start()
    const { node } = await sendSigned(settings, {}, {}, 'application/x-www-form-urlencoded')
    expect(node['sub_code']).toBe('isv.invalid-content-type')
  })

  it('an unknown app gets an empty signature, an unknown method an error node', async () => {
    const { settings } = await start()
    expect((await sendSigned(settings, { app_id: '1' })).body['sign']).toBe('')
    expect((await sendSigned(settings, { method: 'alipay.trade.steal' })).body).toHaveProperty('error_response')
  })
})
