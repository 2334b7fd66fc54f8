import { describe, expect, it } from 'vitest'

import { exchangeOf, maskBody } from '../../src/gateways/transcript.js'

const OPENID = 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o'
const BUYER = '2088101117955611'
const SIGN = '9A0A8659F005D6984697E2CA0A9CF3B7'

describe('a stored answer keeps what tells the case, and nobody’s identity or proof', () => {
  it.each([
    [
      'an APIv3 answer',
      `{"out_trade_no":"P1","payer":{"openid":"${OPENID}"},"amount":{"total":1000}}`,
      '{"out_trade_no":"P1","payer":{"openid":"oUp***"},"amount":{"total":1000}}',
    ],
    [
      'a partner’s answer',
      `{"payer":{"sp_openid":"${OPENID}","sub_openid":"${OPENID}"}}`,
      '{"payer":{"sp_openid":"oUp***","sub_openid":"oUp***"}}',
    ],
    [
      'an APIv2 answer',
      `<xml><openid><![CDATA[${OPENID}]]></openid><total_fee>1000</total_fee><sign><![CDATA[${SIGN}]]></sign></xml>`,
      '<xml><openid><![CDATA[oUp***]]></openid><total_fee>1000</total_fee><sign><![CDATA[***]]></sign></xml>',
    ],
    [
      'an APIv2 answer after an XML declaration',
      `<?xml version="1.0"?>\n<xml><openid>${OPENID}</openid><sign>${SIGN}</sign></xml>`,
      '<?xml version="1.0"?>\n<xml><openid>oUp***</openid><sign>***</sign></xml>',
    ],
    [
      'an Alipay answer',
      `{"alipay_trade_query_response":{"buyer_logon_id":"159****5620","buyer_user_id":"${BUYER}"},"sign":"${SIGN}"}`,
      '{"alipay_trade_query_response":{"buyer_logon_id":"159***","buyer_user_id":"208***"},"sign":"***"}',
    ],
    ['an id that came as a number', `{"buyer_user_id": ${BUYER},"x":1}`, '{"buyer_user_id": "208***","x":1}'],
    [
      'the certificates’ list',
      '{"data":[{"encrypt_certificate":{"nonce":"d215b0511e9c","ciphertext":"abcd"}}]}',
      '{"data":[{"encrypt_certificate":{"nonce":"d215b0511e9c","ciphertext":"***"}}]}',
    ],
    [
      'an answer cut in the middle of an id',
      `{"payer":{"openid":"${OPENID.slice(0, 12)}`,
      '{"payer":{"openid":"oUp***"',
    ],
    [
      'an error',
      '{"code":"ORDER_NOT_EXIST","message":"订单不存在"}',
      '{"code":"ORDER_NOT_EXIST","message":"订单不存在"}',
    ],
    ['an id that is not told', '{"openid":null,"buyer_id":""}', '{"openid":null,"buyer_id":""}'],
    ['a secret cut short', `{"sign":"${SIGN.slice(0, 9)}`, '{"sign":"***"'],
    ['an empty answer', '', ''],
  ])('%s', (_title, before, after) => {
    expect(maskBody(before)).toBe(after)
  })

  it('an id that straddles the length limit is not left in full', () => {
    const long = `{"pad":"${'x'.repeat(4070)}","openid":"${OPENID}"}`
    expect(maskBody(long)).not.toContain(OPENID.slice(0, 8))
    expect(maskBody(long).length).toBeLessThanOrEqual(4096)
  })

  it('a proxy’s page is kept by its beginning only, masked as well', () => {
    const page = `<html><h1>502 Bad Gateway</h1>{"openid":"${OPENID}"}${'x'.repeat(9000)}`
    expect(maskBody(page)).toMatch(/^<html><h1>502 Bad Gateway/)
    expect(maskBody(page).length).toBeLessThanOrEqual(200)
    expect(maskBody(page)).not.toContain(OPENID)
  })

  it('an exchange names host, path and status, and neither headers nor the request’s body', () => {
    const path = '/v3/pay/transactions/out-trade-no/P1?mchid=1900000109'
    const request = {
      method: 'GET',
      host: 'api.mch.weixin.qq.com',
      path,
      headers: { authorization: 'a' },
      body: 'b',
    } as const
    expect(exchangeOf(request, { status: 200, durationMs: 12.4, body: '{}' })).toEqual({
      method: 'GET',
      host: 'api.mch.weixin.qq.com',
      path,
      status: 200,
      durationMs: 12,
      body: '{}',
    })
  })
})
