import { readFileSync } from 'node:fs'

import { parse } from 'lossless-json'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { isSignedBy, type SignField, type SignType, signatureOf, signText } from '../../src/domain/sign.js'
import { startService, type TestService } from '../support/service.js'

function lines<T>(name: string): T[] {
  const text = readFileSync(new URL(name, import.meta.url), 'utf8').trim()
  // Ids above 2^53 are in there: numbers become bigint where they are whole.
  return text.split('\n').map(
    (line) =>
      parse(line, undefined, {
        parseNumber: (literal) => (/^-?\d+$/.test(literal) ? BigInt(literal) : Number(literal)),
      }) as T,
  )
}

type SignVector = {
  signType: SignType
  secret: string
  params: Record<string, SignField>
  signString: string
  sign: string
}
type RequestVector = {
  note: string
  signType: SignType
  secret: string
  body: string
  expect: { code: bigint; stage: 'verified' | 'sign' | 'parse' | 'unsigned' }
}

describe('signatures made by the merchants’ SDK', () => {
  it.each([...lines<SignVector>('sign-vectors.jsonl'), ...lines<SignVector>('notice-vectors.jsonl')])(
    '$signType $signString',
    (vector) => {
      const text = signText(vector.params)
      expect(`${text}&key=${vector.secret}`).toBe(vector.signString)
      expect(signatureOf(text, vector.secret, vector.signType)).toBe(vector.sign)
      expect(isSignedBy(text, [vector.secret], vector.signType, vector.sign)).toBe(true)
    },
  )
})

describe('requests made by the merchants’ SDK', () => {
  const services = new Map<string, TestService>()

  beforeAll(async () => {
    for (const SIGN_TYPE of ['MD5', 'HMAC_SHA256']) {
      services.set(SIGN_TYPE, await startService({ environment: { SIGN_TYPE } }))
      services.set(`${SIGN_TYPE} off`, await startService({ environment: { SIGN_TYPE, SIGN_REQUIRED: 'false' } }))
    }
  })
  afterAll(async () => {
    for (const service of services.values()) await service.stop()
  })

  it.each(lines<RequestVector>('request-vectors.jsonl'))(
    '$signType: $note',
    async ({ note, signType, body, expect: expected }) => {
      const service = services.get(`${signType}${note.endsWith('reqSign off') ? ' off' : ''}`)
      if (service === undefined) throw new Error('no such service')
      const answer = await service.post(body)
      if (expected.code !== 0n) {
        expect(answer.code).toBe(Number(expected.code))
        if (expected.stage === 'sign') expect(answer.msg).toBe('未通过签名验证')
        return
      }
      // The signature held. There is no such order here, which is the next thing that is checked.
      expect(answer).toMatchObject({ code: 20000, msg: '未查询到支付订单', data: null })
    },
  )
})
