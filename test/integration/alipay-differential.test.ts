import { generateKeyPairSync } from 'node:crypto'

import { AlipaySdk } from 'alipay-sdk'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { certificateSn, rootCertificateSn } from '../../src/gateways/alipay/certificates.js'
import { formOf, signingText } from '../../src/gateways/alipay/codec.js'
import { certificatesUsed } from '../../src/gateways/certificates.js'
import type { CallOptions } from '../../src/gateways/gateway.js'
import { issueCertificate } from '../../src/sandbox/certificates.js'
import {
  ALIPAY,
  APP,
  answerOf,
  paidNode,
  pemOf,
  QUERY_NODE,
  signedBy,
  startAnswering,
} from '../support/alipay-answers.js'
import { createAlipayClient } from '../support/official-clients.js'

const OPTIONS: CallOptions = { priority: 'merchant', traceId: 'differential' }
const QUERY = 'alipay.trade.query'
const ESCAPED_NODE = 'alipay\\u005ftrade_query_response'

const PAID = paidNode()
const WAITING = paidNode({ trade_status: 'WAIT_BUYER_PAY', send_pay_date: undefined })
const SIGN = signedBy(WAITING)
const bare = (pem: string) => pem.replaceAll(/-----[^-]+-----|\s/g, '')

/** The official client with nothing but an app: for its signatures and its numbers. */
function sdkOf(more: object): AlipaySdk {
  const privateKey = bare(pemOf(APP.privateKey))
  return new AlipaySdk({ appId: '9021000100000001', privateKey, keyType: 'PKCS8', ...more })
}

let body: string | Buffer = ''
let answering: Awaited<ReturnType<typeof startAnswering>>
beforeAll(async () => {
  answering = await startAnswering(() => ({ body }))
})
afterAll(async () => {
  await answering.stop()
})

/** Each client's verdict on one answer: the state that it believes, or `refused`. */
async function verdicts(answer: string | Buffer): Promise<{ ours: string; sdk: string }> {
  body = answer
  const ours = await answering.gateway.queryOrder({ outTradeNo: 'P1', gatewayOrderNo: null, payWay: 'app' }, OPTIONS)
  const theirs = await createAlipayClient(answering.merchantSettings)(QUERY, { out_trade_no: 'P1' })
  return {
    ours: ours.kind === 'trade' ? ours.trade.gatewayState : 'refused',
    sdk: theirs.refusal === null ? String(theirs.body?.['trade_status'] ?? theirs.body?.['sub_code']) : 'refused',
  }
}

describe('our requests and alipay-sdk', () => {
  it('its code verifies our signatures', async () => {
    const key = { appId: '9021000100000001', privateKey: APP.privateKey, certificates: null }
    const sdk = sdkOf({ alipayPublicKey: bare(pemOf(APP.publicKey)) })
    for (const outTradeNo of ['P1', '订单 1', 'a&b=c+d/e"f', '%E4']) {
      const form = await formOf(QUERY, { out_trade_no: outTradeNo }, key, Date.now())
      const sent = Object.fromEntries(new URLSearchParams(form))
      // The raw values are what is signed; V1 would decode them once more.
      expect(sdk.checkNotifySignV2(sent), outTradeNo).toBe(true)
      expect(sdk.checkNotifySignV2({ ...sent, method: 'alipay.trade.close' }), outTradeNo).toBe(false)
    }
  })

  it('both build the same parameters and the same signature from the same moment', async () => {
    body = answerOf(WAITING)
    await createAlipayClient(answering.merchantSettings)(QUERY, { out_trade_no: '订单/1 &2' })
    const { sign: theirSign, ...theirs } = answering.forms.at(-1) ?? {}
    const moment = Date.parse(`${(theirs['timestamp'] ?? '').replace(' ', 'T')}+08:00`)
    const key = { appId: '9021000100000001', privateKey: APP.privateKey, certificates: null }
    const form = await formOf(QUERY, { out_trade_no: '订单/1 &2' }, key, moment)
    const { sign: ourSign, format, ...ours } = Object.fromEntries(new URLSearchParams(form))
    expect(ours).toEqual(theirs)
    // Alipay's default, which we write out.
    expect(format).toBe('JSON')
    expect(signedBy(signingText(theirs), APP.privateKey)).toBe(theirSign)
    expect(signedBy(signingText({ ...ours, format: format ?? '' }), APP.privateKey)).toBe(ourSign)
  })

  it.each(['Ant Financial Certification Authority Class 2 R1', '支付宝(中国)网络技术有限公司', 'é a/b=c', '😀'])(
    'both number a certificate that “%s” issued alike',
    async (issuer) => {
      const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const issue = async (serial: string, by: 'rsa' | 'ec') =>
        await issueCertificate({
          subject: [['CN', 'x']],
          issuer: [
            ['C', 'CN'],
            ['O', 'Ant Financial'],
            ['CN', issuer],
          ],
          serial,
          publicKey: APP.publicKey,
          issuerKey: by === 'rsa' ? ALIPAY.privateKey : ec.privateKey,
          notBefore: Date.now() - 86_400_000,
          notAfter: Date.now() + 86_400_000,
          isAuthority: false,
        })
      // A first bit of one, and more digits than a double has.
      const app = await issue('FF3A9C0B1D2E4F5061728394A5B6C7D8', 'rsa')
      // The key is RSA in all three; what counts is what it is signed with.
      const roots = `${await issue('01', 'rsa')}${await issue('02', 'ec')}${await issue('03', 'rsa')}`
      const sdk = sdkOf({ appCertContent: app, alipayPublicCertContent: app, alipayRootCertContent: roots })
      const theirs = sdk.config as unknown as Record<string, string>
      expect(certificatesUsed('ALIPAY_APP_CERT', app).map(certificateSn)).toEqual([theirs['appCertSn']])
      expect(rootCertificateSn(certificatesUsed('ALIPAY_ROOT_CERT', roots))).toBe(theirs['alipayRootCertSn'])
    },
  )
})

describe('answers on which we and alipay-sdk agree', () => {
  const plain = `"${QUERY_NODE}":${WAITING},"sign":"${SIGN}"`
  it.each([
    ['a genuine one', answerOf(WAITING), 'WAIT_BUYER_PAY'],
    ['a genuine paid one', answerOf(PAID), 'TRADE_SUCCESS'],
    ['white space around its parts', `{ "${QUERY_NODE}" : ${WAITING} ,\r\n "sign" : "${SIGN}" }`, 'WAIT_BUYER_PAY'],
    [
      'a certificate number in it',
      `{"${QUERY_NODE}":${WAITING},"alipay_cert_sn":"a","sign":"${SIGN}"}`,
      'WAIT_BUYER_PAY',
    ],
    [
      'a signed refusal',
      answerOf('{"code":"40004","msg":"Business Failed","sub_code":"ACQ.TRADE_NOT_EXIST","sub_msg":"x"}'),
      'ACQ.TRADE_NOT_EXIST',
    ],
    ['tampered: the state', answerOf(WAITING).replace('WAIT_BUYER_PAY', 'TRADE_SUCCESS'), 'refused'],
    ['tampered: the amount', answerOf(PAID).replace('"10.00"', '"1000.00"'), 'refused'],
    ['another trade’s signature', `{"${QUERY_NODE}":${PAID},"sign":"${SIGN}"}`, 'refused'],
    ['slashes no longer escaped', answerOf(PAID).replaceAll('\\/', '/'), 'refused'],
    ['an empty signature', `{"${QUERY_NODE}":${PAID},"sign":""}`, 'refused'],
    ['no signature', `{"${QUERY_NODE}":${PAID}}`, 'refused'],
    ['cut', answerOf(PAID).slice(0, -1), 'refused'],
    ['cut in the node', answerOf(PAID).slice(0, 60), 'refused'],
    ['two nodes, the forged one first', `{"${QUERY_NODE}":${PAID},${plain}}`, 'refused'],
    ['a second signature that does not hold', `{${plain},"sign":"AAAA"}`, 'refused'],
    ['an unsigned error_response', '{"error_response":{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}}', 'refused'],
  ])('%s', async (_title, answer, verdict) => {
    expect(await verdicts(answer)).toEqual({ ours: verdict, sdk: verdict })
  })
})

/*
 * Measured with alipay-sdk 4.14.0, `validateSign: true` (it is off by default, and then everything is believed). It cuts
 * the signed text out by searching for the first node's name and the last "sign", verifies that, and then believes
 * JSON.parse, which takes the last of two members of one name.
 */
describe('answers that alipay-sdk believes and we do not', () => {
  it.each([
    ['a forged node after the genuine one', `{"${QUERY_NODE}":${WAITING},"sign":"${SIGN}","${QUERY_NODE}":${PAID}}`],
    [
      'a forged node after the genuine one, its name in another spelling',
      `{"${QUERY_NODE}":${WAITING},"sign":"${SIGN}","${ESCAPED_NODE}":${PAID}}`,
    ],
  ])('%s: it reads an unpaid trade as paid', async (_title, answer) => {
    expect(await verdicts(answer)).toEqual({ ours: 'refused', sdk: 'TRADE_SUCCESS' })
  })

  it('a node that names its state twice: signed, and still two answers in one', async () => {
    const node = WAITING.replace(/\}$/, ',"trade_status":"TRADE_SUCCESS"}')
    expect(await verdicts(answerOf(node))).toEqual({ ours: 'refused', sdk: 'TRADE_SUCCESS' })
  })

  it('other texts than Alipay’s for one signature', async () => {
    for (const text of [`${SIGN}AAAA`.replace('==', ''), ` ${SIGN}`, SIGN.replace('==', ''), SIGN.replace('==', '=%')])
      expect(await verdicts(`{"${QUERY_NODE}":${WAITING},"sign":"${text}"}`), text.slice(-8)).toEqual({
        ours: 'refused',
        sdk: text.endsWith('AAAA') ? 'refused' : 'WAIT_BUYER_PAY',
      })
  })

  it('without validateSign, its default, anything at all', async () => {
    body = `{"${QUERY_NODE}":${PAID},"sign":"AAAA"}`
    const sdk = sdkOf({
      alipayPublicKey: bare(pemOf(ALIPAY.publicKey)),
      gateway: answering.merchantSettings['ALIPAY_GATEWAY_URL'] ?? '',
    })
    const believed = await sdk.exec(QUERY, { bizContent: { out_trade_no: 'P1' } })
    expect(believed).toMatchObject({ tradeStatus: 'TRADE_SUCCESS' })
  })
})

describe('genuine answers that alipay-sdk cannot read and we can', () => {
  it('the signature before the node', async () => {
    const answer = `{"sign":"${SIGN}","${QUERY_NODE}":${WAITING}}`
    expect(await verdicts(answer)).toEqual({ ours: 'WAIT_BUYER_PAY', sdk: 'refused' })
  })
})
