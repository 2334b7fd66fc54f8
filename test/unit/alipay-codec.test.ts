import { verify } from 'node:crypto'

import { describe, expect, it } from 'vitest'

import { formOf, signingText } from '../../src/gateways/alipay/codec.js'
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
