import { describe, expect, it } from 'vitest'

import { openEnvelope } from '../../src/gateways/alipay/codec.js'
import { scanEnvelope } from '../../src/gateways/alipay/envelope.js'
import { ALIPAY, APP, answerOf, paidNode, QUERY_NODE, signedBy } from '../support/alipay-answers.js'

const KEYS = [{ certSn: null, key: ALIPAY.publicKey }]
const NODE = paidNode()
const SIGN = signedBy(NODE)
const FORGED = paidNode({ trade_status: 'TRADE_CLOSED', send_pay_date: undefined })

const scan = (text: string) => scanEnvelope(Buffer.from(text), QUERY_NODE)
const open = (body: string | Buffer, keys = KEYS) => openEnvelope(Buffer.from(body), QUERY_NODE, keys)

describe('the signed bytes are found', () => {
  it.each([
    ['as Alipay writes it', `{"${QUERY_NODE}":${NODE},"sign":"${SIGN}"}`],
    ['with sign first', `{"sign":"${SIGN}","${QUERY_NODE}":${NODE}}`],
    ['with a certificate number between', `{"${QUERY_NODE}":${NODE},"alipay_cert_sn":"a1","sign":"${SIGN}"}`],
    ['with white space everywhere', ` {\r\n\t"${QUERY_NODE}"\n:\t${NODE}\r\n ,  "sign"  :  "${SIGN}" } \n`],
    ['with a name spelled by escapes', `{"alipay\\u005ftrade_query_response":${NODE},"s\\u0069gn":"${SIGN}"}`],
    [
      'with members that nobody reads',
      `{"a":1,"b":-1.5e+3,"c":true,"d":null,"e":"x","${QUERY_NODE}":${NODE},"sign":"${SIGN}"}`,
    ],
    ['with the signature’s slashes escaped', `{"${QUERY_NODE}":${NODE},"sign":"${SIGN.replaceAll('/', '\\/')}"}`],
  ])('%s', (_title, body) => {
    expect(open(body)).toEqual({ kind: 'verified', node: Buffer.from(NODE) })
  })

  it.each([
    ['a member named sign', '{"code":"10000","sign":"xxx"}'],
    ['brackets and quotes in its texts', '{"code":"10000","subject":"}]\\"{,\\\\","x":[{"y":"]"}]}'],
    ['white space of its own', '{ "code" : "10000" }'],
  ])('of a node that holds %s', (_title, node) => {
    expect(open(answerOf(node))).toEqual({ kind: 'verified', node: Buffer.from(node) })
  })
})

describe('an envelope of any other form is unreadable', () => {
  const plain = `"${QUERY_NODE}":${NODE},"sign":"${SIGN}"`
  it.each([
    ['nothing', ''],
    ['white space', '  '],
    ['an empty object', '{}'],
    ['a list', `[${NODE}]`],
    ['a text', '"x"'],
    ['a byte order mark', `\u{feff}{${plain}}`],
    ['something behind it', `{${plain}}x`],
    ['a second object behind it', `{${plain}}{${plain}}`],
    ['no end', `{${plain}`],
    ['a comma too many', `{${plain},}`],
    ['a comma too few', `{"${QUERY_NODE}":${NODE} "sign":"${SIGN}"}`],
    ['no colon', `{"${QUERY_NODE}" ${NODE},"sign":"${SIGN}"}`],
    ['no value', `{"${QUERY_NODE}":${NODE},"sign":}`],
    ['a name without quotes', `{sign:"${SIGN}","${QUERY_NODE}":${NODE}}`],
    ['a name with a broken escape', `{"s\\x69gn":"${SIGN}","${QUERY_NODE}":${NODE}}`],
    ['a name with a line end', `{"si\ngn":1,${plain}}`],
    ['a name that does not end', `{"${QUERY_NODE}`],
    ['a name that ends in a backslash', `{"${QUERY_NODE}\\`],
    ['a node that is cut', `{"${QUERY_NODE}":{"code":"10000"`],
    ['a node cut in a text', `{"${QUERY_NODE}":{"code":"100`],
    ['a node that is a text', `{"${QUERY_NODE}":"AES","sign":"${SIGN}"}`],
    ['a node that is null', `{"${QUERY_NODE}":null,"sign":"${SIGN}"}`],
    ['a node that is a list', `{"${QUERY_NODE}":[${NODE}],"sign":"${SIGN}"}`],
    ['a list', `{"list":[1],${plain}}`],
    ['a word that JSON has not', `{"x":undefined,${plain}}`],
    ['a number that JSON has not', `{"x":01,${plain}}`],
    ['a word of bytes beyond ASCII', `{"x":真,${plain}}`],
    ['a word that does not end', '{"x":tru'],
    ['two nodes of one name', `{${plain},"${QUERY_NODE}":${FORGED}}`],
    ['two nodes of one name, the genuine one last', `{"${QUERY_NODE}":${FORGED},${plain}}`],
    ['two equal nodes', `{"${QUERY_NODE}":${NODE},${plain}}`],
    ['two nodes of one name in two spellings', `{${plain},"alipay\\u005ftrade_query_response":${FORGED}}`],
    ['two signatures', `{${plain},"sign":"${SIGN}"}`],
    ['two signatures in two spellings', `{${plain},"s\\u0069gn":"${SIGN}"}`],
    ['two certificate numbers', `{"alipay_cert_sn":"a","alipay_cert_sn":"b",${plain}}`],
    ['a node of another method beside it', `{${plain},"alipay_trade_close_response":${FORGED}}`],
    ['an error node beside it', `{${plain},"error_response":{"code":"40002"}}`],
    ['more members than any answer has', `{${Array.from({ length: 16 }, (_, i) => `"m${i}":1,`).join('')}${plain}}`],
  ])('%s', (_title, body) => {
    if (body !== '{}') expect(scan(body)).toBeUndefined()
    expect(open(body)).toMatchObject({ kind: 'untrusted', node: null })
  })

  it('bytes that are not UTF-8, inside the node or outside', () => {
    const bytes = Buffer.from(`{"x":"_",${plain}}`)
    bytes[bytes.indexOf('_')] = 0xff
    expect(open(bytes)).toMatchObject({ kind: 'untrusted', reason: 'unreadable' })
    const node = Buffer.from(NODE)
    node[node.indexOf('Success')] = 0xc0
    const body = Buffer.concat([Buffer.from(`{"${QUERY_NODE}":`), node, Buffer.from(`,"sign":"${signedBy(node)}"}`)])
    expect(open(body)).toMatchObject({ kind: 'untrusted', reason: 'unreadable' })
  })
})

describe('without a signature that holds, nothing is verified', () => {
  const last = SIGN.length - 3
  const wrap = (sign: string) => `{"${QUERY_NODE}":${NODE},"sign":${sign}}`
  it.each([
    ['unsigned', 'no signature', `{"${QUERY_NODE}":${NODE}}`],
    ['unsigned', 'an empty one', wrap('""')],
    ['unsigned', 'a null one', wrap('null')],
    ['unsigned', 'a number', wrap('1')],
    ['unsigned', 'no node', `{"sign":"${SIGN}"}`],
    ['unsigned', 'an error node, even signed', answerOf('{"code":"40002"}', 'error_response')],
    ['unsigned', 'an error node with an escaped name', `{"error\\u005fresponse":{"code":"40002"},"sign":"${SIGN}"}`],
    ['bad_signature', 'another node’s', `{"${QUERY_NODE}":${FORGED},"sign":"${SIGN}"}`],
    ['bad_signature', 'a stranger’s', wrap(`"${signedBy(NODE, APP.privateKey)}"`)],
    ['bad_signature', 'one of a re-serialised node', wrap(`"${signedBy(JSON.stringify(JSON.parse(NODE)))}"`)],
    ['bad_signature', 'one byte less', wrap(`"${SIGN.slice(0, -4)}"`)],
    ['bad_signature', 'one group more', wrap(`"${SIGN}AAAA"`)],
    ['bad_signature', 'a blank inside', wrap(`" ${SIGN}"`)],
    ['bad_signature', 'a line end inside', wrap(`"${SIGN}\\n"`)],
    ['bad_signature', 'no padding', wrap(`"${SIGN.slice(0, -2)}"`)],
    ['bad_signature', 'base64url', wrap(`"${SIGN.replaceAll('+', '-').replaceAll('/', '_')}-"`)],
    [
      'bad_signature',
      'the same bits in another text',
      wrap(`"${SIGN.slice(0, last)}${String.fromCodePoint((SIGN.codePointAt(last) ?? 0) + 1)}=="`),
    ],
  ])('%s: %s', (reason, _title, body) => {
    expect(open(body)).toMatchObject({ kind: 'untrusted', reason })
  })

  it('an error node is told all the same, as advice', () => {
    const opened = open('{"error_response":{"code":"40002"},"sign":""}')
    expect(opened.node?.toString()).toBe('{"code":"40002"}')
  })
})

describe('in certificate mode', () => {
  const keys = [
    { certSn: 'old', key: APP.publicKey },
    { certSn: 'new', key: ALIPAY.publicKey },
  ]
  const naming = (certSn: string) => `{"${QUERY_NODE}":${NODE},"alipay_cert_sn":${certSn},"sign":"${SIGN}"}`

  it('the certificate that an answer names is the one that must verify it', () => {
    expect(openEnvelope(Buffer.from(naming('"new"')), QUERY_NODE, keys)).toMatchObject({ kind: 'verified' })
    expect(openEnvelope(Buffer.from(naming('"old"')), QUERY_NODE, keys)).toMatchObject({ reason: 'bad_signature' })
  })

  it('an answer that names another certificate is a rotated one’s', () => {
    expect(openEnvelope(Buffer.from(naming('"next"')), QUERY_NODE, keys)).toEqual({
      kind: 'untrusted',
      reason: 'rotated_certificate',
      node: Buffer.from(NODE),
      certSn: 'next',
    })
  })

  it('an answer that names none must be of one of ours', () => {
    expect(openEnvelope(Buffer.from(answerOf(NODE)), QUERY_NODE, keys)).toMatchObject({ kind: 'verified' })
    const stranger = [{ certSn: 'old', key: APP.publicKey }]
    expect(openEnvelope(Buffer.from(answerOf(NODE)), QUERY_NODE, stranger)).toMatchObject({ reason: 'bad_signature' })
  })

  it('key mode does not care what is named', () => {
    expect(open(naming('"whatever"'))).toMatchObject({ kind: 'verified' })
  })
})
