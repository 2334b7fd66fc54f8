import { describe, expect, it } from 'vitest'

import { readBody } from '../../src/http/body.js'

const read = (text: string) => readBody(Buffer.from(text, 'utf8'))
const body = (text: string) => {
  const outcome = read(text)
  if (outcome.kind !== 'read') throw new Error(`${outcome.kind}: ${outcome.detail}`)
  return outcome.body
}

describe('ids', () => {
  it.each([
    ['1753370980523384832', 1_753_370_980_523_384_832n],
    ['"1753370980523384833"', 1_753_370_980_523_384_833n],
    ['9223372036854775807', 9_223_372_036_854_775_807n],
    ['-9223372036854775808', -9_223_372_036_854_775_808n],
    ['1e3', 1000n],
    ['1.5e1', 15n],
    ['1.50e2', 150n],
    ['8.0', 8n],
    ['1200e-2', 12n],
    ['0e99999999', 0n],
    ['-0', 0n],
    ['" 8 "', 8n],
    ['"007"', 7n],
    ['"+5"', 5n],
    ['"-5"', -5n],
    ['""', null],
    ['"  "', null],
    ['null', null],
  ])('%s is read as %s', (literal, id) => {
    expect(body(`{"reqTime":1,"paymentId":${literal}}`).paymentId).toBe(id)
  })

  it.each([
    '1.5',
    '1e-1',
    '9223372036854775808',
    '-9223372036854775809',
    '1e400',
    '1e999999999999',
    '1e-400',
    'true',
    '{}',
    '[]',
    '"abc"',
    '"1e3"',
    '"1.0"',
    '"0x10"',
    '"１"',
    `"${'9'.repeat(60000)}"`,
    '9'.repeat(60000),
  ])('is refused with its name: %.40s', (literal) => {
    expect(read(`{"reqTime":1,"paymentId":${literal}}`)).toEqual({
      kind: 'unreadable',
      detail: 'paymentId: 必须是64位整数',
    })
  })
})

it('of a key given twice the last one counts, for its reader and for the signature alike', () => {
  const twice =
    '{"paymentId":1,"businessNo":"A","businessNo":"B","paymentId":2,"reqTime":1,"x":{"y":1,"y":2},"__proto__":1,"__proto__":2}'
  expect(body(twice)).toMatchObject({
    paymentId: 2n,
    businessNo: 'B',
    signTexts: ['businessNo=B&paymentId=2&reqTime=1', '__proto__=2&businessNo=B&paymentId=2&reqTime=1'],
  })
})

describe('a body that cannot be read', () => {
  it.each([
    ['', 'JSON'],
    ['{', 'JSON'],
    ['null', '对象'],
    ['1', '对象'],
    ['"x"', '对象'],
    ['[]', '对象'],
    ['{"reqTime":NaN}', 'JSON'],
    ['{"reqTime":1}x', 'JSON'],
    [`{"a":${'['.repeat(30000)}`, 'nested'],
    ['{"reqTime":1,"businessNo":{}}', 'businessNo'],
    ['{"reqTime":1,"businessNo":[1]}', 'businessNo'],
    ['{"reqTime":1,"clientIp":{}}', 'clientIp'],
    ['{"reqTime":1,"sign":{}}', 'sign'],
    ['{"reqTime":true}', 'reqTime'],
    ['{"reqTime":"soon"}', 'reqTime'],
    ['{"reqTime":1.5}', 'reqTime'],
  ])('%.30s says what and where', (text, where) => {
    expect(read(text)).toMatchObject({ kind: 'unreadable', detail: expect.stringContaining(where) })
  })

  it('bytes that are not UTF-8 are refused, not guessed', () => {
    expect(readBody(Buffer.from([0x7b, 0xff, 0x7d]))).toEqual({
      kind: 'unreadable',
      detail: '请求体不是有效的JSON: not UTF-8',
    })
  })
})

describe('a body whose values are wrong', () => {
  it.each([
    ['{}', 'reqTime: 请求时间必填'],
    ['{"reqTime":null}', 'reqTime: 请求时间必填'],
    ['{"reqTime":"  "}', 'reqTime: 请求时间必填'],
    ['{"reqTime":1,"clientIp":"nowhere"}', 'clientIp: 不是有效的IPv4或IPv6地址'],
    ['{"reqTime":1,"clientIp":"1.2.3.4.5"}', 'clientIp: 不是有效的IPv4或IPv6地址'],
    ['{"reqTime":1,"clientIp":"fe80::1%eth0"}', 'clientIp: 不是有效的IPv4或IPv6地址'],
    ['{"reqTime":1,"clientIp":5}', 'clientIp: 不是有效的IPv4或IPv6地址'],
    [`{"reqTime":1,"businessNo":"${'x'.repeat(101)}"}`, 'businessNo: 长度不能超过100'],
  ])('%.40s says which field and why', (text, detail) => {
    expect(read(text)).toEqual({ kind: 'invalid', detail })
  })

  it('an impossible type is told before a wrong value', () => {
    expect(read('{"businessNo":{}}')).toMatchObject({ kind: 'unreadable' })
  })
})

describe('what is read', () => {
  it('numbers and booleans are texts of their own where a text is asked for', () => {
    expect(body('{"reqTime":1,"businessNo":1.50}').businessNo).toBe('1.50')
    expect(body('{"reqTime":1,"businessNo":true}').businessNo).toBe('true')
    expect(body(`{"reqTime":1,"businessNo":"${'x'.repeat(100)}"}`).businessNo).toHaveLength(100)
  })

  it('empty texts are absent, but stand in the signed text', () => {
    const { businessNo, clientIp, paymentId, signTexts } = body(
      '{"reqTime":1,"businessNo":"","clientIp":"","paymentId":""}',
    )
    expect([businessNo, clientIp, paymentId]).toEqual([null, null, null])
    expect(signTexts).toEqual(['businessNo=&clientIp=&reqTime=1'])
  })

  it('a key called __proto__ is a field like any other', () => {
    expect(body('{"reqTime":1,"__proto__":"x"}').signTexts).toContain('__proto__=x&reqTime=1')
  })

  it('unknown scalars stand in the second text, lists and objects do not', () => {
    const { signTexts } = body('{"reqTime":1,"attach":"a","n":1.50,"b":false,"o":{},"l":[],"z":null,"sign":"s"}')
    expect(signTexts).toEqual(['reqTime=1', 'attach=a&b=false&n=1.50&reqTime=1'])
  })

  it('addresses of both kinds pass', () => {
    expect(body('{"reqTime":1,"clientIp":"127.0.0.1"}').clientIp).toBe('127.0.0.1')
    expect(body('{"reqTime":1,"clientIp":"2001:db8::8a2e:370:7334"}').clientIp).toBe('2001:db8::8a2e:370:7334')
  })
})
