import { generateKeyPairSync } from 'node:crypto'

import { describe, expect, it } from 'vitest'
import { Formatter, Hash, Rsa } from 'wechatpay-axios-plugin'
import { clockHint } from '../../src/gateways/clock.js'
import { authorize, verifyAnswer } from '../../src/gateways/wechat/codec.js'
import { isSignedV2, isUnambiguousV2, parseXml, signatureV2, writeXml } from '../../src/gateways/wechat/v2-codec.js'

const KEY = generateKeyPairSync('rsa', { modulusLength: 2048 })
const NOW_MS = Date.UTC(2026, 10, 24, 4, 5, 6)

describe('a request as we sign it', () => {
  const merchantKey = { mchId: '1900000109', serial: '5F1C72E2A8931B72', privateKey: KEY.privateKey }

  it.each([
    ['GET', '/v3/pay/transactions/out-trade-no/P%7C1?mchid=1900000109', ''],
    ['POST', '/v3/pay/transactions/out-trade-no/P1/close', '{"mchid":"1900000109","备注":"ü"}'],
  ] as const)('%s %s is what the official library would verify', async (method, pathAndQuery, body) => {
    const header = await authorize({ method, pathAndQuery, body }, merchantKey, NOW_MS)
    const form =
      /^WECHATPAY2-SHA256-RSA2048 mchid="1900000109",nonce_str="([0-9a-f]{32})",signature="([A-Za-z0-9+/]{342}==)",timestamp="1795493106",serial_no="5F1C72E2A8931B72"$/
    const [, nonce = '', signature = ''] = form.exec(header) ?? []
    expect(signature).not.toBe('')
    const text = Formatter.request(method, pathAndQuery, '1795493106', nonce, body)
    expect(Rsa.verify(text, signature, KEY.publicKey)).toBe(true)
    expect(Rsa.verify(`${text} `, signature, KEY.publicKey)).toBe(false)
  })

  it('never twice with the same nonce', async () => {
    const request = { method: 'GET', pathAndQuery: '/', body: '' } as const
    const headers = await Promise.all(
      Array.from({ length: 20 }, async () => await authorize(request, merchantKey, NOW_MS)),
    )
    expect(new Set(headers).size).toBe(20)
  })
})

describe('an answer as the official library would sign it', () => {
  const answer = (timestamp: string, body: string) => ({
    headers: {
      'wechatpay-timestamp': timestamp,
      'wechatpay-nonce': 'n',
      'wechatpay-serial': 'K',
      'wechatpay-signature': Rsa.sign(Formatter.response(timestamp, 'n', body), KEY.privateKey),
    },
    body: Buffer.from(body),
  })
  const verdict = (timestamp: string, body = '{"a":"ü"}') => {
    const { headers, body: bytes } = answer(timestamp, body)
    return verifyAnswer(headers, bytes, new Map([['K', KEY.publicKey]]), NOW_MS)
  }
  const at = (seconds: number) => String(NOW_MS / 1000 + seconds)

  it.each([
    [0, 0],
    [300, -300],
    [-300, 300],
  ])('is verified %i s away, and the distance is told', (seconds, skewS) => {
    expect(verdict(at(seconds))).toEqual({ kind: 'verified', skewS })
  })
  it.each([301, -301, 86_400])('is stale %i s away', (seconds) => {
    expect(verdict(at(seconds))).toEqual({ kind: 'untrusted', reason: 'stale' })
  })
  it('is verified over an empty body', () => {
    expect(verdict(at(0), '')).toMatchObject({ kind: 'verified' })
  })
  it.each(['-1', '1e9', '0x6a', ' 1795493106', '1795493106.0', '1795493106000000'])(
    'is refused with the timestamp %j, whoever signed it',
    (timestamp) => {
      expect(verdict(timestamp)).toEqual({ kind: 'untrusted', reason: 'bad_signature' })
    },
  )
  it('is refused by a key that makes no RSA signatures, whatever the text', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const { headers, body } = answer(at(0), '{}')
    for (const signature of [headers['wechatpay-signature'], '', 'AAAA'])
      expect(
        verifyAnswer({ ...headers, 'wechatpay-signature': signature }, body, new Map([['K', publicKey]]), NOW_MS),
      ).toEqual({ kind: 'untrusted', reason: 'bad_signature' })
  })
  it('is refused for another serial', () => {
    const { headers, body } = answer(at(0), '{}')
    expect(verifyAnswer(headers, body, new Map([['L', KEY.publicKey]]), NOW_MS)).toEqual({
      kind: 'untrusted',
      reason: 'unknown_serial',
      serial: 'K',
    })
  })
})

describe('APIv2', () => {
  const apiKey = '192006250b4c09247ec02edce69f6a2d'
  const fields = new Map([
    ['appid', 'wx1'],
    ['mch_id', '1'],
    ['empty', ''],
    ['attach', '中文 & <b>'],
  ])

  it.each(['MD5', 'HMAC-SHA256'] as const)('signs by %s as the official library does', (type) => {
    expect(signatureV2(fields, apiKey, type)).toBe(
      Hash.sign(type, Object.fromEntries([...fields].filter(([, value]) => value !== '')), apiKey),
    )
    const signed = new Map([...fields, ['sign', signatureV2(fields, apiKey, type)]])
    expect(isSignedV2(signed, apiKey, type)).toBe(true)
    expect(isSignedV2(new Map([...signed, ['empty', 'x']]), apiKey, type)).toBe(false)
    expect(
      isSignedV2(new Map([...signed, ['sign', signatureV2(fields, apiKey, type).toLowerCase()]]), apiKey, type),
    ).toBe(false)
    expect(isSignedV2(fields, apiKey, type)).toBe(false)
  })

  it('a request’s markup is escaped, and nothing else is changed', () => {
    expect(writeXml(fields)).toBe(
      '<xml><appid>wx1</appid><mch_id>1</mch_id><empty></empty><attach>中文 &amp; &lt;b&gt;</attach></xml>',
    )
  })

  it.each([
    ['<xml><a>1</a><b><![CDATA[<x>&]]></b>\n<c></c><d/></xml>', { a: '1', b: '<x>&', c: '', d: '' }],
    ['<?xml version="1.0" encoding="UTF-8"?>\n<xml>\n<a><![CDATA[]]></a></xml>\n', { a: '' }],
    ['<xml><a>&lt;1&amp;&#49;</a></xml>', { a: '&lt;1&amp;&#49;' }],
    ['<xml><a> 1 </a><b>007</b><c>1e3</c><d>true</d></xml>', { a: ' 1 ', b: '007', c: '1e3', d: 'true' }],
  ])('%s is read as text, letter for letter', (xml, expected) => {
    expect(Object.fromEntries(parseXml(Buffer.from(xml)) ?? [['refused', '']])).toEqual(expected)
  })

  it.each([
    ['a member twice', '<xml><a>1</a><a>1</a></xml>'],
    ['nesting', '<xml><a><b>1</b></a></xml>'],
    ['text and nesting', '<xml><a>1<b>2</b></a></xml>'],
    ['text and a section', '<xml><a>1<![CDATA[2]]></a></xml>'],
    ['two sections', '<xml><a><![CDATA[1]]><![CDATA[2]]></a></xml>'],
    ['a comment in a value', '<xml><a>1<!-- --></a></xml>'],
    ['a comment among members', '<xml><!-- c --><a>1</a></xml>'],
    ['text among members', '<xml>x<a>1</a></xml>'],
    ['an attribute', '<xml><a b="c">1</a></xml>'],
    ['an attribute of the root', '<xml b="c"><a>1</a></xml>'],
    ['a DOCTYPE', '<!DOCTYPE xml><xml><a>1</a></xml>'],
    ['an entity', '<!DOCTYPE x [<!ENTITY e "1">]><xml><a>&e;</a></xml>'],
    ['another root', '<foo><a>1</a></foo>'],
    ['two roots', '<xml><a>1</a></xml><xml><a>2</a></xml>'],
    ['text after the root', '<xml><a>1</a></xml>x'],
    ['a cut document', '<xml><a>1</a>'],
    ['a member that is not closed', '<xml><a>1</xml>'],
    ['deep nesting', `<xml>${'<a>'.repeat(20_000)}${'</a>'.repeat(20_000)}</xml>`],
    [
      'more members than any answer has',
      `<xml>${Array.from({ length: 201 }, (_, no) => `<m${no}>1</m${no}>`).join('')}</xml>`,
    ],
    ['a name that is a part of every object', '<xml><__proto__>1</__proto__></xml>'],
    ['JSON', '{"a":1}'],
    ['nothing', ''],
  ])('%s is refused', (_title, xml) => {
    expect(parseXml(Buffer.from(xml))).toBeNull()
  })

  it('bytes that are not UTF-8 are refused', () => {
    expect(
      parseXml(Buffer.concat([Buffer.from('<xml><a>'), Buffer.from([0xff]), Buffer.from('</a></xml>')])),
    ).toBeNull()
  })
})

describe('values that hold the beginning of a member', () => {
  const KEY_V2 = '0123456789abcdef0123456789abcdef'
  // What an order's own text says, and what is true.
  const attach =
    'x&mch_id=M&out_trade_no=P1&result_code=SUCCESS&return_code=SUCCESS&total_fee=1000&trade_state=SUCCESS&z='
  const genuine = new Map(
    Object.entries({
      appid: 'A',
      attach,
      mch_id: 'M',
      out_trade_no: 'P1',
      result_code: 'SUCCESS',
      return_code: 'SUCCESS',
      total_fee: '1000',
      trade_state: 'NOTPAY',
    }),
  )
  const [, ...rest] = [...genuine].filter(([name]) => name !== 'attach').map((member) => member.join('='))
  const forged = new Map(
    Object.entries({
      appid: 'A',
      attach: 'x',
      mch_id: 'M',
      out_trade_no: 'P1',
      result_code: 'SUCCESS',
      return_code: 'SUCCESS',
      total_fee: '1000',
      trade_state: 'SUCCESS',
      z: `&${rest.join('&')}`,
    }),
  )

  it.each(['MD5', 'HMAC-SHA256'] as const)('the signed text cannot tell the two apart (%s)', (type) => {
    expect(signatureV2(forged, KEY_V2, type)).toBe(signatureV2(genuine, KEY_V2, type))
  })

  it('the one that hides the true members is refused, the genuine one is not', () => {
    expect(isUnambiguousV2(genuine)).toBe(true)
    expect(isUnambiguousV2(forged)).toBe(false)
  })

  it('nor can a currency be hidden in the customer’s text before it', () => {
    const members = { appid: 'wx', attach: 'hello', bank_type: 'X', fee_type: 'JPY', is_subscribe: 'N', total_fee: '1' }
    const told = new Map(Object.entries(members))
    const { fee_type: _, bank_type: __, is_subscribe: ___, ...others } = members
    const cut = new Map(Object.entries({ ...others, attach: 'hello&bank_type=X&fee_type=JPY&is_subscribe=N' }))
    expect(signatureV2(cut, KEY_V2, 'MD5')).toBe(signatureV2(told, KEY_V2, 'MD5'))
    expect(isUnambiguousV2(told)).toBe(true)
    expect(isUnambiguousV2(cut)).toBe(false)
    // Who writes such a text himself is believed, as long as the member is there.
    expect(isUnambiguousV2(new Map([...told, ['attach', 'a&fee_type=b']]))).toBe(true)
    expect(isUnambiguousV2(new Map([['bank_type', 'X&fee_type=JPY']]))).toBe(false)
  })

  it.each(['err_code_des', 'z', 'transaction_id'])('a plain text in %s is none of these', (name) => {
    for (const value of ['a=1&b=2', 'return_code=SUCCESS', 'x&return_codes=1', '订单&状态='])
      expect(isUnambiguousV2(new Map([[name, value]])), value).toBe(true)
    expect(isUnambiguousV2(new Map([[name, 'x&return_code=']]))).toBe(false)
  })
})

describe('a clock that is off', () => {
  const at = (offS: number) => new Date(NOW_MS + offS * 1000).toUTCString()
  it.each([239, -239, 0])('by %i s is not mentioned', (offS) => {
    expect(clockHint(at(offS), NOW_MS)).toBe('')
  })
  it.each([240, -3600])('by %i s is, with how much', (offS) => {
    expect(clockHint(at(offS), NOW_MS)).toContain(`相差约${offS}秒`)
  })
  it.each([undefined, '', 'yesterday'])('is not guessed from the Date %j', (date) => {
    expect(clockHint(date, NOW_MS)).toBe('')
  })
})
