import { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { Aes, Formatter } from 'wechatpay-axios-plugin'
import { createWechatSandbox, type WechatSandbox, type WechatSandboxOptions } from '../../src/sandbox/wechat.js'
import { parseXml } from '../../src/sandbox/wechat-v2-xml.js'
import { createWechatPlugin, type SignedRequest, sendSignedV3 } from '../support/official-clients.js'

const SAMPLES = path.resolve(import.meta.dirname, '../../../shared/vectors')
const MINUTE_MS = 60_000

const opened: WechatSandbox[] = []

async function start(options: WechatSandboxOptions = {}) {
  const sandbox = createWechatSandbox(options)
  opened.push(sandbox)
  const { url } = await sandbox.listen()
  return { sandbox, url, settings: sandbox.merchantSettings() }
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((sandbox) => sandbox.close()))
})

/** The names of all members, nested ones as `amount.total`. */
function members(value: unknown, prefix = ''): string[] {
  return typeof value !== 'object' || value === null || Array.isArray(value)
    ? []
    : Object.entries(value).flatMap(([name, inner]) => [`${prefix}${name}`, ...members(inner, `${prefix}${name}.`)])
}

describe('APIv3', () => {
  it.each([
    ['NOTPAY', '订单未支付'],
    ['USERPAYING', '用户支付中，需要输入密码'],
    ['ACCEPT', '已接收，等待扣款'],
    ['SUCCESS', '支付成功'],
    ['REFUND', '订单发生过退款，退款详情请查询退款单'],
    ['CLOSED', '订单已关闭'],
    ['REVOKED', '订单已撤销'],
    ['PAYERROR', '支付失败(其他原因，如银行返回失败)'],
  ])('the official library accepts the answer about a %s trade', async (state, text) => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state, amount: 1000 })
    const answer = await createWechatPlugin(settings).query('P1')
    expect(answer.refusal).toBeNull()
    expect(answer.body).toMatchObject({ out_trade_no: 'P1', trade_state: state, trade_state_desc: text })
    expect(answer.body?.['amount']).toMatchObject({ total: 1000 })
    expect('transaction_id' in (answer.body ?? {})).toBe(['SUCCESS', 'REFUND'].includes(state))
  })

  it.skipIf(!existsSync(SAMPLES)).each([
    ['NOTPAY', 'query_NOTPAY.json'],
    ['SUCCESS', 'query_SUCCESS_JSAPI.json'],
  ])('an answer about a %s trade has exactly the members of the genuine one', async (state, file) => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state, amount: 1000, tradeType: 'JSAPI' })
    const genuine: unknown = JSON.parse(readFileSync(path.join(SAMPLES, 'wechat-v3/samples', file), 'utf8'))
    const answer = await createWechatPlugin(settings).query('P1')
    expect(members(answer.body).sort()).toEqual(members(genuine).sort())
  })

  it('an unknown order is a 404 ORDER_NOT_EXIST, and ORDERNOTEXIST where codes are plain', async () => {
    const first = await start()
    expect(await createWechatPlugin(first.settings).query('P1')).toMatchObject({
      status: 404,
      body: { code: 'ORDER_NOT_EXIST' },
    })
    const second = await start({ plainCodes: true })
    expect(await createWechatPlugin(second.settings).query('P1')).toMatchObject({ body: { code: 'ORDERNOTEXIST' } })
  })

  it('a trade is found by its transaction id as well, and a partial refund reads as REFUND', async () => {
    const { sandbox, settings } = await start()
    const { transactionId } = sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000, refunded: 300 })
    const plugin = createWechatPlugin(settings)
    const params = { mchid: settings['WECHAT_MCH_ID'] }
    const answer = await plugin.call('get', `v3/pay/transactions/id/${transactionId}`, undefined, { params })
    expect(answer.body).toMatchObject({ out_trade_no: 'P1', trade_state: 'REFUND' })
    const refund = await plugin.call('get', 'v3/refund/domestic/refunds/P1R')
    expect(refund.body).toMatchObject({ out_trade_no: 'P1', status: 'SUCCESS', amount: { refund: 300, total: 1000 } })
  })

  const OLD = -10 * MINUTE_MS
  it.each([
    // state, age, status and code of the close, state after it
    ['NOTPAY', OLD, 204, undefined, 'CLOSED'],
    ['PAYERROR', OLD, 204, undefined, 'CLOSED'],
    ['NOTPAY', -4 * MINUTE_MS, 400, 'TRADE_ERROR', 'NOTPAY'],
    ['NOTPAY', -8 * 24 * 60 * MINUTE_MS, 400, 'TRADE_ERROR', 'NOTPAY'],
    ['USERPAYING', OLD, 400, 'TRADE_ERROR', 'USERPAYING'],
    ['SUCCESS', OLD, 400, 'ORDER_PAID', 'SUCCESS'],
    ['REFUND', OLD, 400, 'ORDER_PAID', 'REFUND'],
    ['CLOSED', OLD, 204, undefined, 'CLOSED'],
    ['REVOKED', OLD, 204, undefined, 'REVOKED'],
  ])('closing a %s trade of age %i ms answers %i %s', async (state, age, status, code, after) => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state, amount: 1000, createdAt: Date.now() + age })
    const answer = await createWechatPlugin(settings).close('P1')
    expect(answer.status).toBe(status)
    expect(answer.body?.['code']).toBe(code)
    expect(sandbox.getTrade('P1')?.state).toBe(after)
  })

  it('closing an order it never heard of answers 204 all the same', async () => {
    const { settings } = await start()
    expect(await createWechatPlugin(settings).close('P1')).toEqual({ status: 204, body: null, refusal: null })
  })

  it('a trade can be paid between the query and the close', async () => {
    const { sandbox, settings } = await start()
    const plugin = createWechatPlugin(settings)
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000, payOn: 'close' })
    expect((await plugin.query('P1')).body).toMatchObject({ trade_state: 'NOTPAY' })
    expect((await plugin.close('P1')).body).toMatchObject({ code: 'ORDER_PAID' })
    expect((await plugin.query('P1')).body).toMatchObject({ trade_state: 'SUCCESS' })
  })

  it('a trade can turn right after a query was answered', async () => {
    const { sandbox, settings } = await start()
    const plugin = createWechatPlugin(settings)
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000, payOn: 'query', becomes: 'PAYERROR' })
    expect((await plugin.query('P1')).body).toMatchObject({ trade_state: 'USERPAYING' })
    expect((await plugin.query('P1')).body).toMatchObject({ trade_state: 'PAYERROR' })
  })

  it.each<[string, Partial<SignedRequest>, Partial<SignedRequest>, number, string]>([
    ['valid', {}, {}, 404, 'ORDER_NOT_EXIST'],
    ['no_accept_or_user_agent', {}, { headers: { accept: 'application/json' } }, 400, 'PARAM_ERROR'],
    ['no_accept_or_user_agent', {}, { headers: { 'user-agent': 'test' } }, 400, 'PARAM_ERROR'],
    [
      'unknown_wechatpay_serial',
      {},
      { headers: { accept: '*/*', 'user-agent': 'test', 'wechatpay-serial': 'ABC' } },
      400,
      'PARAM_ERROR',
    ],
    [
      'bad_authorization',
      {},
      { headers: { accept: '*/*', 'user-agent': 'test', authorization: 'Bearer x' } },
      401,
      'SIGN_ERROR',
    ],
    ['wrong_merchant', { mchid: '1900000001' }, {}, 401, 'SIGN_ERROR'],
    ['unknown_serial', { serial: 'ABC' }, {}, 401, 'SIGN_ERROR'],
    ['stale_timestamp', { timestamp: Math.floor(Date.now() / 1000) - 400 }, {}, 401, 'SIGN_ERROR'],
    ['stale_timestamp', { timestamp: Math.floor(Date.now() / 1000) + 400 }, {}, 401, 'SIGN_ERROR'],
    ['bad_signature', {}, { timestamp: Math.floor(Date.now() / 1000) + 60 }, 401, 'SIGN_ERROR'],
    ['bad_signature', {}, { nonce: 'other' }, 401, 'SIGN_ERROR'],
    ['bad_signature', {}, { target: '/v3/pay/transactions/out-trade-no/P2?mchid=1900000109' }, 401, 'SIGN_ERROR'],
    ['no_mchid', { target: '/v3/pay/transactions/out-trade-no/P1' }, {}, 400, 'PARAM_ERROR'],
    ['wrong_mchid', { target: '/v3/pay/transactions/out-trade-no/P1?mchid=1' }, {}, 400, 'PARAM_ERROR'],
    ['valid', { target: '/v3/elsewhere' }, {}, 404, 'NOT_FOUND'],
  ])('judges a request %s: %j then %j', async (verdict, change, afterSigning, status, code) => {
    const { sandbox, settings, url } = await start()
    const answer = await sendSignedV3(settings, url, change, afterSigning)
    expect(sandbox.requests().at(-1)?.verdict).toBe(verdict)
    expect(sandbox.requests().at(-1)?.signature).toBe(verdict === 'valid' ? 'valid' : 'invalid')
    expect(answer.status).toBe(status)
    expect(answer.body?.['code']).toBe(code)
    // A 401 goes to somebody whom the gateway does not know: nothing vouches for it.
    expect('wechatpay-signature' in answer.headers).toBe(answer.status !== 401)
  })

  it('takes a nonce once', async () => {
    const { sandbox, settings, url } = await start()
    const nonce = Formatter.nonce()
    expect((await sendSignedV3(settings, url, { nonce })).status).toBe(404)
    expect((await sendSignedV3(settings, url, { nonce })).status).toBe(401)
    expect(sandbox.requests().at(-1)?.verdict).toBe('replayed_nonce')
  })

  it('keeps time by its own clock: a merchant five minutes off is refused', async () => {
    const { settings, url } = await start({ now: () => Date.now() + 6 * MINUTE_MS })
    const answer = await sendSignedV3(settings, url)
    expect(answer.status).toBe(401)
    expect(Date.parse(String(answer.headers['date'])) - Date.now()).toBeGreaterThan(5 * MINUTE_MS)
  })

  it('partner mode has paths, parameters and members of its own', async () => {
    const { sandbox, settings, url } = await start({ spMchId: '1900000200' })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    const sub = settings['WECHAT_MCH_ID'] ?? ''
    const target = `/v3/pay/partner/transactions/out-trade-no/P1?sp_mchid=1900000200&sub_mchid=${sub}`
    const answer = await sendSignedV3(settings, url, { mchid: '1900000200', target })
    expect(answer.status).toBe(200)
    expect(answer.body).toMatchObject({ sp_mchid: '1900000200', sub_mchid: sub, trade_state: 'SUCCESS' })
    expect(answer.body).not.toHaveProperty('mchid')
  })
})

type Download = { data: { serial_no: string; encrypt_certificate: Record<string, string> }[] }

function openCertificates(body: unknown, apiV3Key: string): Record<string, string> {
  const opened = (body as Download).data.map(({ serial_no: serial, encrypt_certificate: sealed }) => [
    serial,
    Aes.AesGcm.decrypt(sealed['ciphertext'] ?? '', apiV3Key, sealed['nonce'] ?? '', sealed['associated_data']),
  ])
  return Object.fromEntries(opened) as Record<string, string>
}

describe('certificate mode', () => {
  it('gives its certificates sealed with the APIv3 key, and they verify its answers', async () => {
    const { sandbox, settings, url } = await start({ mode: 'certificate' })
    expect(settings).not.toHaveProperty('WECHAT_PUBLIC_KEY')
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    const download = await sendSignedV3(settings, url, { target: '/v3/certificates' })
    const certs = openCertificates(download.body, settings['WECHAT_API_V3_KEY'] ?? '')
    const serials = Object.keys(certs)
    expect(serials).toEqual([download.headers['wechatpay-serial']])
    expect(serials).toEqual(Object.values(certs).map((pem) => new X509Certificate(pem).serialNumber))
    expect((await createWechatPlugin(settings, { certs }).query('P1')).refusal).toBeNull()
  })

  it('rotates: announced, both are listed and the old one signs; then the new one does', async () => {
    const { sandbox, settings, url } = await start({ mode: 'certificate' })
    const before = await sendSignedV3(settings, url, { target: '/v3/certificates' })
    const announced = await sandbox.rotateKeys('old')
    const between = await sendSignedV3(settings, url, { target: '/v3/certificates' })
    expect(between.headers['wechatpay-serial']).toBe(before.headers['wechatpay-serial'])
    expect((between.body as Download).data.map(({ serial_no: serial }) => serial)).toContain(announced)
    const used = await sandbox.rotateKeys('new')
    const after = await sendSignedV3(settings, url, { target: '/v3/certificates' })
    expect(after.headers['wechatpay-serial']).toBe(used)
    const certs = openCertificates(after.body, settings['WECHAT_API_V3_KEY'] ?? '')
    expect(Object.keys(certs)).toContain(before.headers['wechatpay-serial'])
    expect((await createWechatPlugin(settings, { certs }).query('P1')).body).toMatchObject({ code: 'ORDER_NOT_EXIST' })
  })

  it('public-key mode has no certificates to give', async () => {
    const { settings, url } = await start()
    expect((await sendSignedV3(settings, url, { target: '/v3/certificates' })).status).toBe(404)
  })
})

describe('APIv2', () => {
  it.each(['MD5', 'HMAC-SHA256'] as const)(
    'the official library accepts answers signed with %s',
    async (v2SignType) => {
      const { sandbox, settings } = await start({ mode: 'v2', v2SignType })
      sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000, paidAt: '2024-03-15T06:47:19+08:00' })
      expect(settings).not.toHaveProperty('WECHAT_PRIVATE_KEY')
      // The library wants a platform certificate even where APIv3 is not used: any will do.
      const plugin = createWechatPlugin(settings, { certs: { unused: settings['WECHAT_CLIENT_CERT'] } })
      const answer = await plugin.v2('pay/orderquery', { out_trade_no: 'P1' })
      expect(answer.refusal).toBeNull()
      expect(answer.body).toMatchObject({
        trade_state: 'SUCCESS',
        total_fee: '1000',
        fee_type: 'CNY',
        time_end: '20240315064719',
      })
      expect(answer.body?.['sign']).toHaveLength(v2SignType === 'MD5' ? 32 : 64)
      expect(answer.body).not.toHaveProperty('sign_type')
    },
  )

  it('tells an unpaid trade without transaction, and a closed one without amount', async () => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.putTrade('P2', { state: 'CLOSED', amount: 1000 })
    const plugin = createWechatPlugin(settings)
    const unpaid = await plugin.v2('pay/orderquery', { out_trade_no: 'P1' })
    expect(unpaid.body).toMatchObject({ trade_state: 'NOTPAY', total_fee: '1000' })
    expect(unpaid.body).not.toHaveProperty('transaction_id')
    const closed = await plugin.v2('pay/orderquery', { out_trade_no: 'P2' })
    expect(closed.body).toMatchObject({ trade_state: 'CLOSED' })
    expect(closed.body).not.toHaveProperty('total_fee')
  })

  it.each([
    ['NOTPAY', undefined, 'CLOSED'],
    ['SUCCESS', 'ORDERPAID', 'SUCCESS'],
    ['CLOSED', 'ORDERCLOSED', 'CLOSED'],
    ['USERPAYING', 'USERPAYING', 'USERPAYING'],
    ['NOT_EXIST', 'ORDERNOTEXIST', 'NOT_EXIST'],
  ])('closing a %s trade answers %s', async (state, code, after) => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state, amount: 1000 })
    const answer = await createWechatPlugin(settings).v2('pay/closeorder', { out_trade_no: 'P1' })
    expect(answer.body?.['return_code']).toBe('SUCCESS')
    expect(answer.body?.['err_code']).toBe(code)
    expect(sandbox.getTrade('P1')?.state).toBe(after)
  })

  it.each([
    ['escaped markup', '<xml><a>x &amp; &lt;y&gt;</a></xml>', { a: 'x & <y>' }],
    ['CDATA', '<?xml version="1.0"?>\n<xml><a><![CDATA[<b>&amp;]]></a><c></c></xml>', { a: '<b>&amp;', c: '' }],
    ['an entity of its own', '<xml><a>&lie;</a></xml>', null],
    ['a bare ampersand', '<xml><a>x & y</a></xml>', null],
    ['a DOCTYPE', '<!DOCTYPE xml><xml><a>1</a></xml>', null],
    ['a name twice', '<xml><a>1</a><a>1</a></xml>', null],
    ['nesting', '<xml><a><b>1</b></a></xml>', null],
  ])('reads XML with %s as the gateway would', (_what, xml, fields) => {
    const read = parseXml(xml)
    expect(read === null ? null : Object.fromEntries(read)).toEqual(fields)
  })

  it('refuses a wrong signature with an unsigned FAIL', async () => {
    const { sandbox, settings } = await start()
    const plugin = createWechatPlugin({ ...settings, WECHAT_API_V2_KEY: 'x'.repeat(32) })
    const answer = await plugin.v2('pay/orderquery', { out_trade_no: 'P1' })
    expect(answer.body).toEqual({ return_code: 'FAIL', return_msg: '签名错误' })
    expect(sandbox.requests().at(-1)?.verdict).toBe('bad_signature')
  })

  it('reverses only for those who show the merchant’s certificate', async () => {
    const { sandbox, settings } = await start({ tls: true })
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000, tradeType: 'MICROPAY', recalls: 1 })
    const ca = sandbox.tlsAuthority()
    const certified = {
      merchant: { ca, cert: settings['WECHAT_CLIENT_CERT'], key: settings['WECHAT_CLIENT_KEY'] },
    }
    const reverse = async (extra: Record<string, unknown>) =>
      await createWechatPlugin(settings, extra).v2('secapi/pay/reverse', { out_trade_no: 'P1' }, { security: true })
    expect((await reverse({ merchant: { ca } })).status).toBe(400)
    expect(sandbox.getTrade('P1')?.state).toBe('USERPAYING')
    expect((await reverse(certified)).body).toMatchObject({ result_code: 'FAIL', recall: 'Y' })
    expect((await reverse(certified)).body).toMatchObject({ result_code: 'SUCCESS', recall: 'N' })
    expect(sandbox.getTrade('P1')?.state).toBe('REVOKED')
  })

  it('a reversal of a paid trade gives the money back', async () => {
    const { sandbox, settings } = await start()
    sandbox.putTrade('P1', { state: 'USERPAYING', amount: 1000, payOn: 'close' })
    const answer = await createWechatPlugin(settings).v2('secapi/pay/reverse', { out_trade_no: 'P1' })
    expect(answer.body).toMatchObject({ result_code: 'SUCCESS', recall: 'N' })
    expect(sandbox.getTrade('P1')).toMatchObject({ state: 'REVOKED', refunded: 1000 })
  })
})
