import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { verifyAnswer } from '../../src/gateways/wechat/codec.js'

const NOW_MS = Date.UTC(2026, 10, 24, 4)
const SERIAL = 'PUB_KEY_ID_0119000001092024000000000000000001'
const BODY = Buffer.from(
  '{"amount":{"currency":"CNY","total":1000},"appid":"wx8888888888888888","mchid":"1900000109","out_trade_no":"P0001","trade_state":"SUCCESS"}',
)
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/='

const OTHERS = Array.from('0123456789abcdefXYZ_ \n')

// 2048 bits leave one byte over in base64 (two `=`), 3072 bits none: both forms occur.
const KEYS = [2048, 3072].map((modulusLength) => generateKeyPairSync('rsa', { modulusLength }))

type Answer = { headers: Record<string, string>; body: Buffer }

function signed(privateKey: KeyObject): Answer {
  const timestamp = String(NOW_MS / 1000)
  const nonce = '5K8264ILTKCH16CQ2502SI8ZNMTM67VS'
  const text = Buffer.concat([Buffer.from(`${timestamp}\n${nonce}\n`), BODY, Buffer.from('\n')])
  return {
    headers: {
      'wechatpay-timestamp': timestamp,
      'wechatpay-nonce': nonce,
      'wechatpay-serial': SERIAL,
      'wechatpay-signature': sign('sha256', text, privateKey).toString('base64'),
    },
    body: BODY,
  }
}

function kindOf(answer: Answer, publicKey: KeyObject): string {
  return verifyAnswer(answer.headers, answer.body, new Map([[SERIAL, publicKey]]), NOW_MS).kind
}

describe.each(KEYS.map((pair) => ({ bits: pair.publicKey.asymmetricKeyDetails?.modulusLength, ...pair })))(
  'with a key of $bits bits, no change of one character is ever accepted',
  ({ publicKey, privateKey }) => {
    const genuine = signed(privateKey)
    const signature = genuine.headers['wechatpay-signature'] ?? ''

    it('the unchanged answer is', () => {
      expect(kindOf(genuine, publicKey)).toBe('verified')
    })

    it('of the body', () => {
      fc.assert(
        fc.property(fc.nat({ max: BODY.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
          const body = Buffer.from(BODY)
          body[at] = (body[at] ?? 0) ^ change
          expect(kindOf({ ...genuine, body }, publicKey)).not.toBe('verified')
        }),
      )
    })

    it('of the signature, at any place', () => {
      // Every place with one other character each, and every character in the last four places, where bits go unused.
      const changes: (readonly [number, string])[] = Array.from({ length: signature.length }, (_, at) => [
        at,
        signature[at] === 'A' ? 'B' : 'A',
      ])
      for (let back = 1; back <= 4; back++) for (const other of BASE64) changes.push([signature.length - back, other])
      for (const [at, other] of changes) {
        if (signature[at] === other) continue
        const changed = signature.slice(0, at) + other + signature.slice(at + 1)
        const headers = { ...genuine.headers, 'wechatpay-signature': changed }
        expect(kindOf({ ...genuine, headers }, publicKey), `${other} at ${at}`).not.toBe('verified')
      }
    })

    it('of the signature’s length', () => {
      for (const changed of [
        signature.slice(0, -1),
        `${signature}=`,
        `${signature}\n`,
        ` ${signature}`,
        `A${signature}`,
      ]) {
        const headers = { ...genuine.headers, 'wechatpay-signature': changed }
        expect(kindOf({ ...genuine, headers }, publicKey), JSON.stringify(changed.slice(-4))).not.toBe('verified')
      }
    })

    it.each(['wechatpay-timestamp', 'wechatpay-nonce', 'wechatpay-serial'])('of %s', (name) => {
      fc.assert(
        fc.property(fc.nat(), fc.constantFrom(...OTHERS), (place, other) => {
          const value = genuine.headers[name] ?? ''
          const at = place % value.length
          fc.pre(value[at] !== other)
          const headers = { ...genuine.headers, [name]: value.slice(0, at) + other + value.slice(at + 1) }
          expect(kindOf({ ...genuine, headers }, publicKey)).not.toBe('verified')
        }),
      )
    })

    it('nor an answer without one of the four headers', () => {
      for (const name of Object.keys(genuine.headers)) {
        const { [name]: _removed, ...headers } = genuine.headers
        expect(kindOf({ ...genuine, headers }, publicKey), name).not.toBe('verified')
      }
    })
  },
)
