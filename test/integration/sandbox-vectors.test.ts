import { createPublicKey, X509Certificate } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { Aes } from 'wechatpay-axios-plugin'
import { serialise, verifyText } from '../../src/sandbox/alipay-crypto.js'
import { certificateNumber, rootCertificateNumber } from '../../src/sandbox/certificates.js'
import { answerMessage, encryptCertificate, signV2, verifyMessage } from '../../src/sandbox/wechat-crypto.js'
import { parseXml, writeXml } from '../../src/sandbox/wechat-v2-xml.js'

// The published vectors lie beside the project and are not part of it.
const VECTORS = path.resolve(import.meta.dirname, '../../../shared/vectors')

type Vector = Readonly<Record<string, string>> & {
  headers?: Record<string, string>
  params?: Record<string, string>
}

function read(...segments: string[]): string {
  return readFileSync(path.join(VECTORS, ...segments), 'utf8')
}

function vectorsIn(folder: string): Vector[] {
  return JSON.parse(read(folder, 'vectors.json')) as Vector[]
}

function find(folder: string, id: string): Vector {
  const found = vectorsIn(folder).find((vector) => vector['id'] === id)
  if (found === undefined) {
    throw new Error(`no vector ${id}`)
  }
  return found
}

describe.skipIf(!existsSync(VECTORS))(
  'the sandbox against the published vectors (skipped where they are absent)',
  () => {
    const documents = 'wechat-v3/official-docs'

    it('builds and verifies the signed text of WeChat Pay’s documented answer', () => {
      const vector = find(documents, 'wx3-doc-resp-verify')
      const headers = vector.headers ?? {}
      const message = answerMessage(
        headers['Wechatpay-Timestamp'] ?? '',
        headers['Wechatpay-Nonce'] ?? '',
        Buffer.from(vector['body'] ?? ''),
      )
      expect(message.toString()).toBe(vector['sign_string'])
      const key = createPublicKey(read(documents, vector['public_key'] ?? ''))
      expect(verifyMessage(key, message, headers['Wechatpay-Signature'] ?? '')).toBe(true)
    })

    it.each(['wx3-doc-resp-neg-body', 'wx3-doc-resp-neg-ts', 'wx3-doc-resp-neg-probe', 'wx3-doc-resp-neg-nolf'])(
      'refuses %s',
      (id) => {
        const vector = find(documents, id)
        const key = createPublicKey(read(documents, vector['public_key'] ?? ''))
        const message = Buffer.from(vector['sign_string'] ?? '')
        expect(verifyMessage(key, message, vector['signature'] ?? '')).toBe(false)
      },
    )

    it('seals a platform certificate into the very ciphertext that was published', () => {
      const folder = 'wechat-v3/wechatpay-java'
      const vector = find(folder, 'wx3-java-certificates')
      const key = vector['api_v3_key'] ?? ''
      const download = JSON.parse(read(folder, vector['response_file'] ?? '')) as {
        data: { encrypt_certificate: { nonce: string; associated_data: string; ciphertext: string } }[]
      }
      const sealed = download.data[0]?.encrypt_certificate ?? { nonce: '', associated_data: '', ciphertext: '' }
      // Opened by the official library, sealed again here.
      const pem = Aes.AesGcm.decrypt(sealed.ciphertext, key, sealed.nonce, sealed.associated_data)
      expect(new X509Certificate(pem).serialNumber).toBe(vector['serial_no'])
      expect(encryptCertificate(key, pem, sealed.nonce)).toEqual({ algorithm: 'AEAD_AES_256_GCM', ...sealed })
    })

    it.each(['wx2-wego-orderquery-closed', 'wx2-wego-ordernotexist', 'wx2-doc-md5', 'wx2-doc-hmac'])(
      'signs %s as published',
      (id) => {
        const vector = find('wechat-v2/vectors', id)
        const type = vector['sign_type'] === 'MD5' ? 'MD5' : 'HMAC-SHA256'
        const published = vector['sign'] ?? vector.params?.['sign']
        expect(signV2(vector.params ?? {}, vector['key'] ?? '', type)).toBe(published)
      },
    )

    it.each(['orderquery_NOTPAY_HMAC.xml', 'orderquery_SUCCESS_MICROPAY_2018.xml', 'closeorder_ORDERPAID.xml'])(
      'reads the genuine %s and writes it back with nothing lost',
      (file) => {
        const fields = parseXml(read('wechat-v2/samples', file))
        expect(fields?.get('return_code')).toBe('SUCCESS')
        expect(parseXml(writeXml([...(fields ?? [])]))).toEqual(fields)
      },
    )

    it('refuses the XML entity injection', () => {
      expect(parseXml(read('wechat-v2/samples', 'php_invalid.xxe_injection.sample.xml'))).toBeNull()
    })

    it.each(['ali2-ysd-resp-3', 'ali2-ysd-resp-6'])('verifies the genuine Alipay answer %s', (id) => {
      const folder = 'alipay-v2/yansongda-pay'
      const vector = find(folder, id)
      const { publicKey } = new X509Certificate(read(folder, vector['certificate'] ?? ''))
      expect(verifyText(publicKey, vector['signed_substring'] ?? '', vector['sign'] ?? '')).toBe(true)
      expect(verifyText(publicKey, `${vector['signed_substring'] ?? ''} `, vector['sign'] ?? '')).toBe(false)
    })

    it('writes an Alipay node byte for byte as the genuine one, slashes escaped', () => {
      const { signed_substring: genuine = '' } = find('alipay-v2/others', 'ali2-sdknode-substr-2')
      expect(genuine).toContain('\\/')
      expect(serialise(JSON.parse(genuine) as object)).toBe(genuine)
    })

    it('numbers Alipay’s certificates as published', () => {
      const folder = 'alipay-v2/yansongda-pay'
      const vector = find(folder, 'ali2-ysd-cert-sn')
      expect(certificateNumber(read(folder, vector['app_cert'] ?? ''))).toBe(vector['app_cert_sn'])
      expect(rootCertificateNumber(read(folder, vector['root_cert'] ?? ''))).toBe(vector['alipay_root_cert_sn'])
    })
  },
)
