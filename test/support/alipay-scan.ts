import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { openEnvelope } from '../../src/gateways/alipay/codec.js'
import { scanEnvelope } from '../../src/gateways/alipay/envelope.js'
import { ALIPAY, APP, answerOf, paidNode, QUERY_NODE, signedBy } from './alipay-answers.js'

const KEYS = [{ certSn: null, key: ALIPAY.publicKey }]

const PAID = paidNode()
const WAITING = paidNode({ trade_status: 'WAIT_BUYER_PAY', send_pay_date: undefined })
/** What Alipay signed at some time. Its signatures do not say when, or for which method. */
const SIGNED = [PAID, WAITING]
const FORGED = paidNode({ total_amount: '0.01' })

/** One name in one of its spellings: any of its characters may be written as an escape. */
function spelled(name: string): fc.Arbitrary<string> {
  return fc
    .array(fc.boolean(), { minLength: name.length, maxLength: name.length })
    .map((escaped) =>
      Array.from(name, (character, at) =>
        escaped[at] === true ? `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}` : character,
      ).join(''),
    )
}

const space = fc.string({ unit: fc.constantFrom(' ', '\t', '\r', '\n'), maxLength: 3 })
const node = fc.constantFrom(PAID, WAITING, FORGED, '{}', 'null')
const signature = fc.constantFrom(
  signedBy(PAID),
  signedBy(WAITING),
  signedBy(FORGED, APP.privateKey),
  signedBy(PAID).replace(/==$/, ''),
  '',
)
const nodeName = fc.constantFrom(QUERY_NODE, QUERY_NODE, 'alipay_trade_close_response', 'error_response')
const member = fc.oneof(
  fc.tuple(nodeName.chain(spelled), node),
  fc.tuple(
    spelled('sign'),
    signature.map((text) => `"${text}"`),
  ),
  fc.tuple(spelled('alipay_cert_sn'), fc.constantFrom('"a"', '7')),
  fc.tuple(fc.constantFrom('x', '', 'Sign', 'sign '), fc.constantFrom('1', '"sign"', PAID, '[]')),
)
const envelope = fc.tuple(fc.array(member, { maxLength: 5 }), fc.infiniteStream(space)).map(([members, spaces]) => {
  const gap = () => String(spaces.next().value)
  const text = members.map(([name, value]) => `${gap()}"${name}"${gap()}:${gap()}${value}${gap()}`).join(',')
  return Buffer.from(`${gap()}{${text}}${gap()}`)
})

const genuine = Buffer.from(answerOf(PAID))
/** A genuine answer with pieces cut out, put in, or said twice. */
const damaged = fc
  .array(fc.tuple(fc.nat(genuine.length), fc.nat(40), fc.uint8Array({ maxLength: 8 })), { minLength: 1, maxLength: 4 })
  .map((cuts) =>
    cuts.reduce(
      (bytes, [at, length, put]) => Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + length)]),
      genuine,
    ),
  )
const anyBytes = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes))
const jsonish = fc
  .array(
    fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', ' ', '1', 'true', '"sign"', `"${QUERY_NODE}"`, PAID),
    {
      maxLength: 24,
    },
  )
  .map((parts) => Buffer.from(parts.join('')))

/** What must hold of Alipay's envelope, whatever comes. `runs` of each. */
export function exerciseScanner(runs: number): void {
  const holds = (property: fc.IProperty<unknown>) => fc.assert(property, { numRuns: runs })

  describe('an Alipay answer, whatever its bytes', () => {
    it('however its members are ordered, repeated, respelled or spaced, is verified only as what was signed', () => {
      let verified = 0
      holds(
        fc.property(envelope, (body) => {
          const opened = openEnvelope(body, QUERY_NODE, KEYS)
          if (opened.kind !== 'verified') return
          verified += 1
          expect(SIGNED).toContain(opened.node.toString())
          // Every reader of the whole body sees the same node: there is no second one for any of them to prefer.
          expect((JSON.parse(body.toString()) as Record<string, unknown>)[QUERY_NODE]).toEqual(
            JSON.parse(opened.node.toString()),
          )
        }),
      )
      expect(verified).toBeGreaterThan(0)
    })

    it('never crashes the scanner, and verifies only what was signed', () => {
      holds(
        fc.property(fc.oneof(anyBytes, jsonish, damaged), (body) => {
          const opened = openEnvelope(body, QUERY_NODE, KEYS)
          if (opened.kind === 'verified') expect(SIGNED).toContain(opened.node.toString())
        }),
      )
    })

    it('is taken apart as JSON.parse takes it apart', () => {
      const scalar = fc.oneof(
        fc.string(),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.boolean(),
        fc.constant(null),
      )
      const others = fc.dictionary(
        fc.string().filter((name) => ![QUERY_NODE, 'error_response', '__proto__'].includes(name)),
        scalar,
        { maxKeys: 6 },
      )
      const inner = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }))
      holds(
        fc.property(others, inner, fc.nat(2), (members, value, indent) => {
          const body = Buffer.from(JSON.stringify({ ...members, [QUERY_NODE]: value }, null, indent))
          const scanned = scanEnvelope(body, QUERY_NODE)
          const read = JSON.parse(body.toString()) as Record<string, unknown>
          expect(JSON.parse(scanned?.node?.toString() ?? '')).toEqual(read[QUERY_NODE])
        }),
      )
    })
  })
}
