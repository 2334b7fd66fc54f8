// The gateways' published examples and genuine traffic, through the clients' own code: each verifies, or is refused, as its
// record says. They lie beside the project and are not part of it; where they are absent, this is skipped.
import { verify, X509Certificate } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

import { describe, expect, it } from 'vitest'

import { certificateSn, rootCertificateSn } from '../../src/gateways/alipay/certificates.js'
import { openEnvelope } from '../../src/gateways/alipay/codec.js'
import { scanEnvelope } from '../../src/gateways/alipay/envelope.js'
import { tradeOf as alipayTradeOf, isNotFoundYet, resultSchema } from '../../src/gateways/alipay/trade.js'
import { certificatesUsed } from '../../src/gateways/certificates.js'
import { loadPublicKey } from '../../src/gateways/keys.js'
import { signatureBytes } from '../../src/gateways/signature-bytes.js'
import { parseStrictJson } from '../../src/gateways/strict-json.js'
import { openCertificates } from '../../src/gateways/wechat/certificates.js'
import { verifyAnswer } from '../../src/gateways/wechat/codec.js'
import { errorRow, isCloseRefusal, isNotFound, tradeOf, tradeOfV2 } from '../../src/gateways/wechat/trade.js'
import { isSignedV2, isUnambiguousV2, parseXml, signatureV2 } from '../../src/gateways/wechat/v2-codec.js'

const VECTORS = path.resolve(import.meta.dirname, '../../../shared/vectors')
const isHere = existsSync(VECTORS)

type Vector = Readonly<Record<string, string>> & {
  folder: string
  headers?: Record<string, string>
  params?: Record<string, string>
}

/** Every record of every folder, in a fixed order. */
function allVectors(): Vector[] {
  if (!isHere) return []
  const folders = readdirSync(VECTORS, { recursive: true, encoding: 'utf8' })
    .filter((file) => path.basename(file) === 'vectors.json')
    .map((file) => path.dirname(file))
    .toSorted((one, other) => (one < other ? -1 : 1))
  return folders.flatMap((folder) =>
    (JSON.parse(readFileSync(path.join(VECTORS, folder, 'vectors.json'), 'utf8')) as Vector[]).map((vector) =>
      Object.assign(vector, { folder }),
    ),
  )
}
const all = allVectors()
const of = (gateway: string, kind: string) =>
  all.filter((vector) => vector.folder.startsWith(gateway) && vector['kind'] === kind)
const bytesOf = ({ folder }: Vector, file: string | undefined) => readFileSync(path.join(VECTORS, folder, file ?? ''))
const textOf = (vector: Vector, file: string | undefined) => bytesOf(vector, file).toString()

/** How many there are of each kind. A record that is added, of a kind that is new above all, is seen here. */
const COUNTS: Readonly<Record<string, number>> = {
  'alipay-v2 signed-substring-extraction': 3,
  'alipay-v2 response-sample': 5,
  'alipay-v2 response-verify': 2,
  'alipay-v2 cert-sn': 1,
  'wechat-v2 response-sample': 6,
  'wechat-v2 v2-sign': 4,
  'wechat-v3 response-verify': 6,
  'wechat-v3 response-sample': 3,
  'wechat-v3 certificates-download-decrypt': 1,
}

describe.skipIf(!isHere)('the published vectors (skipped where ../shared/vectors is absent)', () => {
  it('are all of them here, and each kind is tested below', () => {
    const counts: Record<string, number> = {}
    for (const { folder, kind } of all) {
      const name = `${folder.split(path.sep)[0] ?? ''} ${kind}`
      counts[name] = (counts[name] ?? 0) + 1
    }
    expect(counts).toEqual(COUNTS)
    expect(all).toHaveLength(31)
  })

  describe('WeChat Pay APIv3', () => {
    it.each(of('wechat-v3', 'response-verify'))('$id: $expect', (vector) => {
      const file = vector['public_key'] ?? vector['certificate']
      const key = loadPublicKey('K', textOf(vector, file))
      const signature = vector['signature'] ?? vector.headers?.['Wechatpay-Signature'] ?? ''
      const bytes = signatureBytes(signature, key)
      const text = Buffer.from(vector['sign_string'] ?? '')
      expect(bytes !== null && verify('sha256', text, key, bytes)).toBe(vector['expect'] === 'valid')
      // As an answer on the wire, where the signed text is one (an example of the mere algorithm is not).
      const [timestamp = '', nonce, body] = (vector['sign_string'] ?? '').split('\n')
      if (nonce === undefined || body === undefined) return
      const headers = {
        'wechatpay-timestamp': timestamp,
        'wechatpay-nonce': nonce,
        'wechatpay-serial': 'K',
        'wechatpay-signature': signature,
      }
      const keys = new Map([['K', key]])
      const verdict = verifyAnswer(headers, Buffer.from(body), keys, Number(timestamp) * 1000)
      // Whoever leaves out the last line feed builds another text; we never do, so to us it is the valid example.
      const isValid = vector['expect'] === 'valid' || vector['id'] === 'wx3-doc-resp-neg-nolf'
      expect(verdict).toEqual(isValid ? { kind: 'verified', skewS: 0 } : { kind: 'untrusted', reason: 'bad_signature' })
      if (isValid)
        expect(verifyAnswer(headers, Buffer.from(body), keys, Date.now())).toEqual({
          kind: 'untrusted',
          reason: 'stale',
        })
    })

    it.each(of('wechat-v3', 'certificates-download-decrypt'))(
      '$id opens, and with another key nothing does',
      (vector) => {
        const list = JSON.parse(textOf(vector, vector['response_file'])) as unknown
        const opened = openCertificates(list, Buffer.from(vector['api_v3_key'] ?? ''))
        expect(opened?.map(({ serial }) => serial)).toEqual([vector['expect_certificate_serial']])
        expect(openCertificates(list, Buffer.alloc(32))).toBeNull()
      },
    )

    const READ_AS: Readonly<Record<string, object>> = {
      'wx3-sample-query_NOTPAY': { state: 'paying', gatewayState: 'NOTPAY', gatewayOrderNo: null, currency: null },
      'wx3-sample-query_SUCCESS_JSAPI': { state: 'paid', gatewayState: 'SUCCESS', currency: 'CNY' },
    }
    it.each(of('wechat-v3', 'response-sample'))('$id is read', (vector) => {
      const json = parseStrictJson(bytesOf(vector, vector['file']))
      const { code } = json as { code?: string }
      if (code === undefined)
        expect(tradeOf(json, null)).toMatchObject(READ_AS[vector['id'] ?? ''] ?? { state: 'listed above' })
      else expect(errorRow(500, code)).toMatchObject({ duty: 'retry', again: true })
    })
  })

  describe('WeChat Pay APIv2', () => {
    it.each(of('wechat-v2', 'v2-sign'))('$id is signed as published', (vector) => {
      const type = vector['sign_type'] === 'MD5' ? 'MD5' : 'HMAC-SHA256'
      const fields = new Map(Object.entries(vector.params ?? {}))
      expect(signatureV2(fields, vector['key'] ?? '', type)).toBe(vector['sign'])
    })

    it.each(of('wechat-v2', 'v2-sign').filter((vector) => vector['expect'] === 'valid'))(
      '$id verifies from its bytes, by its own type of signature alone',
      (vector) => {
        const fields = parseXml(bytesOf(vector, `${vector['id'] ?? ''}.derived.xml`)) ?? new Map<string, string>()
        const key = vector['key'] ?? ''
        expect(fields).toEqual(new Map(Object.entries(vector.params ?? {})))
        expect([isSignedV2(fields, key, 'MD5'), isSignedV2(fields, key, 'HMAC-SHA256')]).toEqual([true, false])
        expect(isUnambiguousV2(fields)).toBe(true)
        for (const [name, value] of fields)
          if (name !== 'sign')
            expect(isSignedV2(new Map([...fields, [name, `${value}x`]]), key, 'MD5'), name).toBe(false)
      },
    )

    const READ_AS: Readonly<Record<string, object>> = {
      'wx2-sample-orderquery_NOTPAY_HMAC': { state: 'paying', amountFen: 2500n, currency: null },
      'wx2-sample-orderquery_SUCCESS_MICROPAY_2018': { state: 'paid', paidAt: new Date('2018-12-25T13:38:39Z') },
    }
    it.each(of('wechat-v2', 'response-sample'))('$id is read, or refused', (vector) => {
      const id = vector['id'] ?? ''
      const fields = parseXml(bytesOf(vector, vector['file']))
      if (id.includes('xxe')) {
        expect(fields).toBeNull()
        return
      }
      const code = fields?.get('err_code')
      if (code === undefined)
        expect(tradeOfV2(fields ?? new Map(), null)).toMatchObject(READ_AS[id] ?? { state: 'listed above' })
      else if (id.includes('ORDERNOTEXIST')) expect(isNotFound(code)).toBe(true)
      else if (id.includes('ORDERPAID')) expect(isCloseRefusal(code)).toBe(true)
      else expect(errorRow(200, code)).toMatchObject({ duty: 'retry', reason: 'gateway_error' })
      expect(fields === null || isUnambiguousV2(fields)).toBe(true)
    })
  })

  describe('Alipay', () => {
    it.each(of('alipay-v2', 'response-verify'))('$id verifies, and no byte of its node may change', (vector) => {
      const body = bytesOf(vector, vector['body_file'])
      const name = vector['response_key'] ?? ''
      const [certificate] = certificatesUsed('ALIPAY_CERT', textOf(vector, vector['certificate']))
      const keys = certificate === undefined ? [] : [{ certSn: certificateSn(certificate), key: certificate.publicKey }]
      const opened = openEnvelope(body, name, keys)
      expect(opened.kind).toBe('verified')
      expect(opened.node?.toString()).toBe(vector['signed_substring'])
      const nodeAt = body.indexOf(vector['signed_substring'] ?? '')
      for (let at = 0; at < (opened.node?.length ?? 0); at += 1) {
        const changed = Buffer.from(body)
        changed[nodeAt + at] = (changed[nodeAt + at] ?? 0) ^ 1
        expect(openEnvelope(changed, name, keys).kind, `byte ${at}`).toBe('untrusted')
      }
      if (name.includes('query'))
        expect(alipayTradeOf(parseStrictJson(opened.node ?? Buffer.alloc(0)))).toMatchObject({
          state: 'paid',
          outTradeNo: '1703141270',
          amountFen: 1n,
          paidAt: new Date('2023-12-21T06:48:36Z'),
        })
    })

    it.each(of('alipay-v2', 'signed-substring-extraction'))('$id: the signed bytes are found', (vector) => {
      const envelope = scanEnvelope(bytesOf(vector, vector['body_file']), vector['response_key'] ?? '')
      expect(envelope?.node?.toString()).toBe(vector['signed_substring'])
      expect(envelope?.sign).toHaveLength(344)
    })

    it.each(of('alipay-v2', 'cert-sn'))('$id: certificates are numbered as published', (vector) => {
      const [app] = certificatesUsed('ALIPAY_APP_CERT', textOf(vector, vector['app_cert']))
      expect(app === undefined ? '' : certificateSn(app)).toBe(vector['app_cert_sn'])
      const roots = certificatesUsed('ALIPAY_ROOT_CERT', textOf(vector, vector['root_cert']))
      expect(roots.length).toBeGreaterThan(2)
      expect(rootCertificateSn(roots)).toBe(vector['alipay_root_cert_sn'])
      expect(roots.every((root) => root instanceof X509Certificate)).toBe(true)
    })

    const READ_AS: Readonly<Record<string, object>> = {
      'ali2-sample-prod_query_WAIT_BUYER_PAY': { state: 'paying', amountFen: 8888n, paidAt: null },
      'ali2-sample-sandbox_query_TRADE_SUCCESS': { state: 'paid', amountFen: 2000n },
      'ali2-sample-sandbox_query_TRADE_CLOSED_after_payment_sign_first': { state: 'refunded', amountFen: 10_000n },
    }
    it.each(of('alipay-v2', 'response-sample'))('$id is read', (vector) => {
      const envelope = scanEnvelope(bytesOf(vector, vector['file']), 'alipay_trade_query_response')
      const json = parseStrictJson(envelope?.node ?? envelope?.errorNode ?? Buffer.alloc(0))
      const result = resultSchema.parse(json)
      if (result.code === '10000')
        expect(alipayTradeOf(json)).toMatchObject(READ_AS[vector['id'] ?? ''] ?? { state: 'listed above' })
      else if (envelope?.node === null) expect(result).toMatchObject({ code: '40002' })
      else expect([isNotFoundYet(result), result.out_trade_no]).toEqual([true, '22222233'])
    })
  })
})
