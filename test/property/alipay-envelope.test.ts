import { describe, expect, it } from 'vitest'

import { openEnvelope } from '../../src/gateways/alipay/codec.js'
import { ALIPAY, answerOf, paidNode, QUERY_NODE } from '../support/alipay-answers.js'
import { exerciseScanner } from '../support/alipay-scan.js'

exerciseScanner(5_000)

describe('no change of one byte of a signed answer is ever accepted', () => {
  const genuine = Buffer.from(answerOf(paidNode()))
  const keys = [{ certSn: null, key: ALIPAY.publicKey }]
  const kindOf = (body: Buffer) => openEnvelope(body, QUERY_NODE, keys).kind

  it('the unchanged answer is', () => {
    expect(kindOf(genuine)).toBe('verified')
  })

  it('any bit of any byte turned', () => {
    for (let at = 0; at < genuine.length; at += 1) {
      for (let bit = 1; bit < 256; bit *= 2) {
        const changed = Buffer.from(genuine)
        changed[at] = (changed[at] ?? 0) ^ bit
        expect(kindOf(changed), `bit ${bit} of byte ${at}`).toBe('untrusted')
      }
    }
  })

  it('any byte left out, and the answer cut after any byte', () => {
    for (let at = 0; at < genuine.length; at += 1) {
      const without = Buffer.concat([genuine.subarray(0, at), genuine.subarray(at + 1)])
      expect(kindOf(without), `without byte ${at}`).toBe('untrusted')
      expect(kindOf(genuine.subarray(0, at)), `cut at byte ${at}`).toBe('untrusted')
    }
  })

  it('any byte put in twice', () => {
    for (let at = 0; at < genuine.length; at += 1) {
      const doubled = Buffer.concat([genuine.subarray(0, at + 1), genuine.subarray(at)])
      expect(kindOf(doubled), `byte ${at} twice`).toBe('untrusted')
    }
  })
})
