import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import {
  isSignedV2,
  isUnambiguousV2,
  parseXml,
  signatureV2,
  type V2Fields,
  type V2SignType,
  writeXml,
} from '../../src/gateways/wechat/v2-codec.js'

const KEY = '0123456789abcdef0123456789abcdef'
const MEMBERS = {
  appid: 'wx8888888888888888',
  attach: '订单 1 & "x"',
  mch_id: '1900000109',
  nonce_str: 'f0e1d2c3b4a59687',
  out_trade_no: 'P0001',
  result_code: 'SUCCESS',
  return_code: 'SUCCESS',
  time_end: '20261124110405',
  total_fee: '1000',
  trade_state: 'NOTPAY',
}

/** As it stands on the wire: each value in a CDATA section. */
function answer(type: V2SignType): Buffer {
  const fields: V2Fields = new Map(Object.entries(MEMBERS))
  const signed = [...fields, ['sign', signatureV2(fields, KEY, type)] as const]
  return Buffer.from(`<xml>${signed.map(([name, value]) => `<${name}><![CDATA[${value}]]></${name}>`).join('')}</xml>`)
}

function believed(body: Buffer, type: V2SignType): V2Fields | null {
  const fields = parseXml(body)
  return fields !== null && isSignedV2(fields, KEY, type) && isUnambiguousV2(fields) ? fields : null
}

// APIv2 signs members, not bytes: what is between them may change, what they say may not.
describe.each<V2SignType>(['MD5', 'HMAC-SHA256'])('an APIv2 answer signed by %s', (type) => {
  const genuine = answer(type)
  const said = believed(genuine, type)
  const sameAsSaid = (fields: V2Fields | null) =>
    fields === null || JSON.stringify([...fields]) === JSON.stringify([...(said ?? [])])

  it('is believed as it stands', () => {
    expect(Object.fromEntries(said ?? [])).toMatchObject(MEMBERS)
  })

  it('with any bit of any byte turned says the same or is not believed', () => {
    for (let at = 0; at < genuine.length; at += 1) {
      for (let bit = 1; bit < 256; bit *= 2) {
        const changed = Buffer.from(genuine)
        changed[at] = (changed[at] ?? 0) ^ bit
        expect(sameAsSaid(believed(changed, type)), `bit ${bit} of byte ${at}`).toBe(true)
      }
    }
  })

  it('with any byte left out, put in twice, or cut after it, too', () => {
    for (let at = 0; at < genuine.length; at += 1) {
      const without = Buffer.concat([genuine.subarray(0, at), genuine.subarray(at + 1)])
      const doubled = Buffer.concat([genuine.subarray(0, at + 1), genuine.subarray(at)])
      for (const changed of [without, doubled, genuine.subarray(0, at)])
        expect(sameAsSaid(believed(changed, type)), `byte ${at}`).toBe(true)
    }
  })

  it('with any character of its signature changed is not believed', () => {
    const sign = said?.get('sign') ?? ''
    for (let at = 0; at < sign.length; at += 1)
      for (const other of '0123456789ABCDEFabcdef ') {
        if (other === sign[at]) continue
        const changed = new Map([...(said ?? []), ['sign', sign.slice(0, at) + other + sign.slice(at + 1)]])
        expect(isSignedV2(changed, KEY, type), `${other} at ${at}`).toBe(false)
      }
  })

  it('in whatever order its members come says the same; with one more, one less or another name it is not believed', () => {
    const members = [...(said ?? [])]
    fc.assert(
      fc.property(fc.shuffledSubarray(members, { minLength: members.length }), (shuffled) => {
        const fields = believed(Buffer.from(writeXml(new Map(shuffled)).replaceAll('&amp;', '&')), type)
        if (fields !== null) expect(new Map(fields)).toEqual(new Map(members))
      }),
      { numRuns: 100 },
    )
    for (const [name, value] of members) {
      const rest = members.filter(([other]) => other !== name)
      expect(isSignedV2(new Map(rest), KEY, type), `without ${name}`).toBe(false)
      expect(isSignedV2(new Map([...rest, [`${name}_`, value]]), KEY, type), `${name} renamed`).toBe(false)
      expect(isSignedV2(new Map([...members, [`${name}_`, 'x']]), KEY, type), `beside ${name}`).toBe(false)
    }
  })

  it('cut into other members at its own signs of joining never says another state, order or amount', () => {
    const text = Object.entries(MEMBERS)
      .map(([name, value]) => `${name}=${value}`)
      .join('&')
    const pieces = `${text}&attach2=a&trade_state=SUCCESS&total_fee=1&zz=`.split('&')
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: pieces.length, maxLength: pieces.length }), (cuts) => {
        const members: string[] = []
        for (const [at, piece] of pieces.entries()) {
          if (cuts[at] === true || members.length === 0) members.push(piece)
          else members.push(`${members.pop() ?? ''}&${piece}`)
        }
        const fields = new Map(
          members.map((member) => [member.split('=')[0] ?? '', member.split('=').slice(1).join('=')]),
        )
        if (!isSignedV2(new Map([...fields, ['sign', said?.get('sign') ?? '']]), KEY, type)) return
        expect(isUnambiguousV2(fields)).toBe(false)
      }),
      { numRuns: 500 },
    )
  })
})
