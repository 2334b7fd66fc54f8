import { verify } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

import { describe, expect, it } from 'vitest'

import { certificateSn, certificatesIn, rootCertificateSn } from '../../src/gateways/alipay/certificates.js'
import { formOf, openEnvelope, signingText } from '../../src/gateways/alipay/codec.js'
import { scanEnvelope } from '../../src/gateways/alipay/envelope.js'
import { resultSchema, tradeOf } from '../../src/gateways/alipay/trade.js'
import { parseStrictJson } from '../../src/gateways/strict-json.js'
import { APP } from '../support/alipay-answers.js'

const NOW_MS = Date.UTC(2026, 10, 24, 17, 4, 5)

describe('a request', () => {
  it('is signed over its sorted, raw, non-empty parameters', () => {
    expect(signingText({ b: '1 2&=中', a: 'x', sign: 'y', sign_type: 'RSA2', empty: '' })).toBe(
      'a=x&b=1 2&=中&sign_type=RSA2',
    )
  })

  it('carries everything that Alipay asks for, its time in Beijing’s, and a signature that holds', async () => {
    const key = { appId: '9021000100000001', privateKey: APP.privateKey, certificates: null }
    const form = await formOf('alipay.trade.query', { out_trade_no: '订单+1/2' }, key, NOW_MS)
    const { sign, ...sent } = Object.fromEntries(new URLSearchParams(form))
    expect(sent).toEqual({
      app_id: '9021000100000001',
      method: 'alipay.trade.query',
      format: 'JSON',
      charset: 'utf-8',
      sign_type: 'RSA2',
      // 17:04:05 UTC, on the next day there.
      timestamp: '2026-11-25 01:04:05',
      version: '1.0',
      biz_content: '{"out_trade_no":"订单+1/2"}',
    })
    const isGenuine = verify('sha256', Buffer.from(signingText(sent)), APP.publicKey, Buffer.from(sign ?? '', 'base64'))
    expect(isGenuine).toBe(true)
    expect(form).toMatch(/^[\x21-\x7e]+$/)
  })

  it('names our certificate and Alipay’s roots in certificate mode', async () => {
    const certificates = { appCertSn: 'app', rootCertSn: 'one_two' }
    const key = { appId: '9021000100000001', privateKey: APP.privateKey, certificates }
    const form = await formOf('alipay.trade.close', { out_trade_no: 'P1' }, key, NOW_MS)
    const { sign, ...sent } = Object.fromEntries(new URLSearchParams(form))
    expect(sent).toMatchObject({ app_cert_sn: 'app', alipay_root_cert_sn: 'one_two' })
    expect(verify('sha256', Buffer.from(signingText(sent)), APP.publicKey, Buffer.from(sign ?? '', 'base64'))).toBe(
      true,
    )
  })
})

// The published vectors lie beside the project and are not part of it.
const VECTORS = path.resolve(import.meta.dirname, '../../../shared/vectors/alipay-v2')
type Vector = Readonly<Record<string, string>>
const isHere = existsSync(VECTORS)

function bytes(folder: string, file: string | undefined): Buffer {
  return readFileSync(path.join(VECTORS, folder, file ?? ''))
}
function vectorsIn(folder: string, kind: string): Vector[] {
  if (!isHere) return []
  const vectors = JSON.parse(bytes(folder, 'vectors.json').toString()) as Vector[]
  return vectors.filter((vector) => vector['kind'] === kind)
}

describe.skipIf(!isHere)('the published vectors (skipped where they are absent)', () => {
  it('are there to be tested', () => {
    expect(vectorsIn('yansongda-pay', 'response-verify').length).toBeGreaterThan(1)
    expect(vectorsIn('others', 'signed-substring-extraction').length).toBeGreaterThan(2)
    expect(vectorsIn('samples', 'response-sample').length).toBeGreaterThan(4)
  })

  it.each(vectorsIn('yansongda-pay', 'response-verify'))(
    '$id verifies, and no byte of its node may change',
    (vector) => {
      const body = bytes('yansongda-pay', vector['body_file'])
      const responseName = vector['response_key'] ?? ''
      const keys = certificatesIn(bytes('yansongda-pay', vector['certificate']).toString())
        .slice(0, 1)
        .map((certificate) => ({ certSn: certificateSn(certificate), key: certificate.publicKey }))
      const opened = openEnvelope(body, responseName, keys)
      expect(opened).toMatchObject({ kind: 'verified' })
      expect(opened.node?.toString()).toBe(vector['signed_substring'])

      const nodeAt = body.indexOf(vector['signed_substring'] ?? '')
      for (let at = 0; at < (opened.node?.length ?? 0); at += 1) {
        const changed = Buffer.from(body)
        changed[nodeAt + at] = (changed[nodeAt + at] ?? 0) ^ 1
        expect(openEnvelope(changed, responseName, keys).kind, `byte ${at}`).toBe('untrusted')
      }
    },
  )

  it('the genuine paid trade reads as one', () => {
    const body = bytes('yansongda-pay', 'response_alipay_trade_query_3.body.json')
    const node = scanEnvelope(body, 'alipay_trade_query_response')?.node ?? Buffer.alloc(0)
    expect(tradeOf(parseStrictJson(node))).toMatchObject({
      state: 'paid',
      outTradeNo: '1703141270',
      gatewayOrderNo: '2023122122001499160501586202',
      amountFen: 1n,
      paidAt: new Date('2023-12-21T06:48:36Z'),
    })
  })

  it.each(vectorsIn('others', 'signed-substring-extraction'))('$id: the signed bytes are found', (vector) => {
    const envelope = scanEnvelope(bytes('others', vector['body_file']), vector['response_key'] ?? '')
    expect(envelope?.node?.toString()).toBe(vector['signed_substring'])
    expect(envelope?.sign).toHaveLength(344)
  })

  it.each([
    ['prod_query_WAIT_BUYER_PAY.json', 'paying', 8888n],
    ['sandbox_query_TRADE_SUCCESS.json', 'paid', 2000n],
    ['sandbox_query_TRADE_CLOSED_after_payment_sign_first.json', 'refunded', 10_000n],
  ])('the genuine %s reads as %s', (file, state, amountFen) => {
    const envelope = scanEnvelope(bytes('samples', file), 'alipay_trade_query_response')
    expect(envelope?.sign).toHaveLength(344)
    expect(tradeOf(parseStrictJson(envelope?.node ?? Buffer.alloc(0)))).toMatchObject({ state, amountFen })
  })

  it('the genuine refusals are read', () => {
    const absent = scanEnvelope(bytes('samples', 'sandbox_query_TRADE_NOT_EXIST.json'), 'alipay_trade_query_response')
    expect(resultSchema.parse(parseStrictJson(absent?.node ?? Buffer.alloc(0)))).toMatchObject({
      code: '40004',
      sub_code: 'ACQ.TRADE_NOT_EXIST',
      out_trade_no: '22222233',
    })
    const refused = scanEnvelope(
      bytes('samples', 'error_response_isv_code_invalid.json'),
      'alipay_trade_query_response',
    )
    expect(refused).toMatchObject({ node: null })
    expect(resultSchema.parse(parseStrictJson(refused?.errorNode ?? Buffer.alloc(0)))).toMatchObject({ code: '40002' })
  })

  it('certificates are numbered as published', () => {
    const [vector = {}] = vectorsIn('yansongda-pay', 'cert-sn')
    const [app] = certificatesIn(bytes('yansongda-pay', vector['app_cert']).toString())
    expect(app === undefined ? '' : certificateSn(app)).toBe(vector['app_cert_sn'])
    const roots = certificatesIn(bytes('yansongda-pay', vector['root_cert']).toString())
    expect(roots.length).toBeGreaterThan(2)
    expect(rootCertificateSn(roots)).toBe(vector['alipay_root_cert_sn'])
  })
})
