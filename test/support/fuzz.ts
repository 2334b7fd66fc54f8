import { generateKeyPairSync, sign as rsaSign } from 'node:crypto'
import { Readable } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { isSignedBy, signatureOf, signText } from '../../src/domain/sign.js'
import { openEnvelope } from '../../src/gateways/alipay/codec.js'
import { tradeOf as alipayTradeOf, resultSchema } from '../../src/gateways/alipay/trade.js'
import { clockHint } from '../../src/gateways/clock.js'
import { parseStrictJson } from '../../src/gateways/strict-json.js'
import { verifyAnswer } from '../../src/gateways/wechat/codec.js'
import { errorSchema, tradeOfV2, tradeOf as wechatTradeOf } from '../../src/gateways/wechat/trade.js'
import { isSignedV2, parseXml, signatureV2, writeXml } from '../../src/gateways/wechat/v2-codec.js'
import { readBody } from '../../src/http/body.js'
import { HeadLineError, readCsv, readNdjson } from '../../src/http/ops/import-lines.js'
import { importOrders } from '../../src/http/ops/import-orders.js'
import { traceparentOf } from '../../src/http/traceparent.js'
import { isVerified } from '../../src/http/verify-sign.js'
import type { NewOrder } from '../../src/store/registration.js'

const SECRET = 'a secret of the fuzzer'
const NOW_MS = Date.UTC(2026, 10, 24, 4)
const INT64_MAX = 2n ** 63n - 1n
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })

const anyText = fc.string({ unit: 'binary', maxLength: 40 })
const anyScalar = fc.oneof(
  anyText,
  fc.constantFrom('', ' ', 'null', '007', '1e3', '"', '\\', '\0', '__proto__', '\ud800', '１２', 'a&key=b', '=', '&'),
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
)
const fieldName = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom('paymentId', 'businessNo', 'clientIp', 'reqTime', 'sign') },
  { weight: 1, arbitrary: fc.constantFrom('attach', '__proto__', 'constructor', 'toString', '') },
  { weight: 1, arbitrary: anyText },
)
/** JSON text, as nobody would write it: names twice, numbers of any length, nesting. */
const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string; object: string; list: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    anyScalar.map((value) => JSON.stringify(value)),
    fc.stringMatching(/^-?\d{1,60}(?:\.\d{1,5})?(?:[eE][+-]?\d{1,9})?$/),
    tie('object'),
    tie('list'),
  ),
  object: fc
    .array(fc.tuple(fieldName, tie('value')), { maxLength: 6 })
    .chain((members) =>
      fc
        .constantFrom('', '"reqTime":1710465239')
        .map((first) => [first, ...members.map(([name, value]) => `${JSON.stringify(name)}:${value}`)]),
    )
    .map((members) => `{${members.filter((member) => member !== '').join(',')}}`),
  list: fc.array(tie('value'), { maxLength: 4 }).map((items) => `[${items.join(',')}]`),
})).object

/** Bytes that were JSON, or XML, until something happened to them. */
function damaged(text: fc.Arbitrary<string>): fc.Arbitrary<Buffer> {
  const edit = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    cut: fc.nat({ max: 8 }),
    put: fc.oneof(
      fc.uint8Array({ maxLength: 6 }),
      anyText.map((part) => Buffer.from(part)),
    ),
  })
  return fc.tuple(text, fc.array(edit, { maxLength: 3 })).map(([whole, edits]) => {
    let bytes = Buffer.from(whole, 'utf8')
    for (const { at, cut, put } of edits) {
      const from = Math.floor(at * bytes.length)
      bytes = Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + cut)])
    }
    return bytes
  })
}
const anyBytes = fc.oneof(
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 4, arbitrary: damaged(jsonText) },
)
const xmlName = fc.constantFrom(
  'return_code',
  'result_code',
  'trade_state',
  'total_fee',
  'sign',
  'appid',
  'xml',
  '__proto__',
)
const xmlText = fc
  .array(
    fc.tuple(
      xmlName,
      fc.oneof(anyText, fc.constantFrom('SUCCESS', '<![CDATA[SUCCESS]]>', '<![CDATA[', '&lt;', '&x;', '<a/>')),
    ),
  )
  .map((members) => `<xml>${members.map(([name, value]) => `<${name}>${value}</${name}>`).join('')}</xml>`)
const xmlBytes = damaged(
  fc
    .tuple(fc.constantFrom('', '<?xml version="1.0"?>', '<!DOCTYPE x [<!ENTITY x "1">]>', '\ufeff'), xmlText)
    .map((parts) => parts.join('')),
)

/** The rule of signing, a second time and as the contract words it. */
function contractText(fields: Readonly<Record<string, string | number | boolean | null>>): string {
  const parts = Object.keys(fields)
    .filter((name) => name !== 'sign' && fields[name] !== null)
    .sort()
    .map((name) => `${name}=${String(fields[name])}`)
  return parts.join('&').split('"').join('').split('\\').join('')
}

/** Whatever comes in, from merchants and from gateways, `runs` times each. The seed of a failure is in its message. */
export function fuzz(runs: number): void {
  const holds = <Inputs extends [unknown, ...unknown[]]>(property: fc.IProperty<Inputs>) =>
    fc.assert(property, { numRuns: runs, interruptAfterTimeLimit: 500_000, markInterruptAsFailure: true })
  const holdsAsync = async <Inputs extends [unknown, ...unknown[]]>(property: fc.IAsyncProperty<Inputs>) =>
    await fc.assert(property, { numRuns: runs, interruptAfterTimeLimit: 500_000, markInterruptAsFailure: true })
  fuzzRequests(holds)
  fuzzImports(holdsAsync)
  fuzzSignatures(holds)
  fuzzAnswers(holds)
}

type Holds = <Inputs extends [unknown, ...unknown[]]>(property: fc.IProperty<Inputs>) => void

function fuzzRequests(holds: Holds): void {
  describe('any request body', () => {
    it('is read or refused, never a crash; what is read is JSON within bounds', () => {
      holds(
        fc.property(anyBytes, (bytes) => {
          const outcome = readBody(bytes)
          if (outcome.kind !== 'read') {
            expect(outcome.detail).not.toBe('')
            return
          }
          expect(typeof JSON.parse(bytes.toString('utf8').replace(/^\ufeff/, ''))).toBe('object')
          const { paymentId, businessNo, reqTime, signTexts } = outcome.body
          expect(reqTime <= INT64_MAX && (paymentId ?? 0n) <= INT64_MAX).toBe(true)
          expect(businessNo).not.toBe('')
          expect((businessNo ?? '').length).toBeLessThanOrEqual(100)
          for (const text of signTexts) expect(text).not.toMatch(/["\\]/)
        }),
      )
    })

    it('passes no signature check with a signature that nobody made', () => {
      holds(
        fc.property(anyBytes, (bytes) => {
          const outcome = readBody(bytes)
          const signing = { secrets: [SECRET], type: 'MD5', required: true } as const
          if (outcome.kind === 'read') expect(isVerified(outcome.body, signing)).toBe(false)
        }),
      )
    })

    it('has a trace header that is kept as it should be or dropped', () => {
      holds(
        fc.property(fc.oneof(anyText, fc.stringMatching(/^[0-9a-f-]{50,60}$/)), (header) => {
          expect(traceparentOf(header) ?? '00-').toMatch(/^[0-9a-f]{2}-/)
        }),
      )
    })
  })
}

type HoldsAsync = <Inputs extends [unknown, ...unknown[]]>(property: fc.IAsyncProperty<Inputs>) => Promise<void>

const orderText = fc
  .record(
    {
      paymentId: fc.oneof(
        fc.bigInt({ min: 1n, max: INT64_MAX }).map(String),
        anyText,
        fc.constantFrom('0', '9223372036854775808'),
      ),
      businessNo: anyText,
      channel: fc.constantFrom('wechat_pay', null, 'NO'),
      amount: fc.oneof(fc.nat(), fc.double(), anyScalar),
      title: anyText,
      createTime: fc.oneof(fc.constant('2026-01-01T00:00:00+08:00'), anyText),
      notifyUrl: fc.oneof(fc.webUrl(), anyText),
    },
    { requiredKeys: ['paymentId', 'businessNo', 'channel', 'amount'] },
  )
  .map((order) => JSON.stringify(order))
const anyCell = fc.oneof(
  { weight: 50, arbitrary: anyText },
  { weight: 50, arbitrary: fc.constantFrom('', '"', '""', '"a""b"', 'a"b', '7', '1e3', 'wechat_pay') },
  // More than a line may hold.
  { weight: 1, arbitrary: fc.constant('x'.repeat(20_000)) },
)
const csvText = fc
  .tuple(
    fc.constantFrom(
      'paymentId,businessNo,channel,amount',
      '\ufeffpaymentId, businessNo ,amount',
      'paymentId,businessNo,channel,amount,title,attach',
      '__proto__,a,a',
      '"',
      '',
    ),
    fc.array(fc.array(anyCell, { maxLength: 5 }).map((cells) => cells.join(','))),
    fc.constantFrom('\n', '\r\n'),
  )
  .map(([head, lines, newline]) => [head, ...lines].join(newline))

/** What an import made of a file that arrives in so many pieces, and the orders that it would register. */
async function imported(read: typeof readCsv, bytes: Buffer, count: number) {
  const pieceBytes = Math.ceil(bytes.length / count) || 1
  const orders: NewOrder[] = []
  const pieces = Array.from({ length: count }, (_, index) =>
    bytes.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  )
  const report = await importOrders(read(Readable.from(pieces)), async (chunk) => {
    orders.push(...chunk)
    return chunk.map(() => ({ kind: 'created' }))
  })
  const isWithinBounds = ({ id, amountFen }: NewOrder) => id > 0n && id <= INT64_MAX && amountFen >= 0n
  const isComplete = report.total === report.created + report.invalid && report.created === orders.length
  // One expectation: they take longer than what they look at.
  expect([orders.every(isWithinBounds), isComplete, report.errors.every(({ reason }) => reason !== '')]).toEqual([
    true,
    true,
    true,
  ])
  return { report, orders }
}

function fuzzImports(holds: HoldsAsync): void {
  describe('any file of orders', () => {
    const pieces = fc.integer({ min: 2, max: 6 })

    it('of NDJSON is told line by line, wherever it is cut into pieces; a bad line stops no good one', async () => {
      const good = '{"paymentId":"7","businessNo":"B7","channel":null,"amount":7}'
      await holds(
        fc.asyncProperty(damaged(orderText), damaged(jsonText), pieces, async (one, other, count) => {
          const bytes = Buffer.concat([one, Buffer.from(`\n${good}\n`), other, Buffer.from(`\n${good}`)])
          const whole = await imported(readNdjson, bytes, 1)
          const inPieces = await imported(readNdjson, bytes, count)
          expect(isDeepStrictEqual(inPieces, whole)).toBe(true)
          expect(whole.orders.filter(({ businessNo }) => businessNo === 'B7').length).toBeGreaterThanOrEqual(2)
        }),
      )
    })

    it('of CSV is told record by record, or refused for its head line, and never a crash', async () => {
      await holds(
        fc.asyncProperty(damaged(csvText), pieces, async (bytes, count) => {
          await imported(readCsv, bytes, count).catch((error: unknown) => {
            if (!(error instanceof HeadLineError)) throw error
          })
        }),
      )
    })
  })
}

function fuzzSignatures(holds: Holds): void {
  describe('any fields', () => {
    it('are signed over the text that the contract’s words give', () => {
      holds(
        fc.property(fc.dictionary(fieldName, anyScalar, { noNullPrototype: true }), (fields) => {
          expect(signText(fields)).toBe(contractText(fields))
        }),
      )
    })

    it('sent as JSON and signed by the rule, verify; and no longer once one text in them is another', () => {
      const signing = { secrets: [SECRET], type: 'HMAC_SHA256', required: true } as const
      holds(
        fc.property(anyText, fc.nat({ max: 4_000_000_000 }), anyText, (businessNo, reqTime, other) => {
          const sign = signatureOf(contractText({ businessNo, reqTime }), SECRET, 'HMAC_SHA256')
          const read = readBody(Buffer.from(JSON.stringify({ businessNo, reqTime, sign })))
          const forged = readBody(Buffer.from(JSON.stringify({ businessNo: other, reqTime, sign })))
          const isSame = contractText({ other }) === contractText({ other: businessNo })
          if (read.kind === 'read') expect(isVerified(read.body, signing)).toBe(true)
          if (forged.kind === 'read') expect(isVerified(forged.body, signing)).toBe(isSame)
        }),
      )
    })

    it('are not signed by a text that merely looks like a signature', () => {
      holds(
        fc.property(anyText, fc.oneof(anyText, fc.stringMatching(/^[0-9a-fA-F]{32}$/)), (text, signature) => {
          expect(isSignedBy(text, [SECRET, ''], 'MD5', signature)).toBe(false)
        }),
      )
    })
  })
}

function fuzzAnswers(holds: Holds): void {
  describe('any answer of a gateway', () => {
    it('of WeChat Pay is not believed unsigned, and read without a crash', () => {
      const header = fc.oneof(anyText, fc.stringMatching(/^[A-Za-z0-9+/]{342}==$/), fc.constant(String(NOW_MS / 1000)))
      const names = ['wechatpay-timestamp', 'wechatpay-nonce', 'wechatpay-signature', 'wechatpay-serial']
      const headers = fc.dictionary(fc.constantFrom(...names), header, { noNullPrototype: true })
      holds(
        fc.property(headers, fc.boolean(), anyBytes, (given, isKnown, bytes) => {
          const serial = given['wechatpay-serial'] ?? 'S'
          const keys = new Map([[isKnown ? serial : 'other', publicKey]])
          expect(verifyAnswer(given, bytes, keys, NOW_MS).kind).toBe('untrusted')
          const answer = parseStrictJson(bytes)
          const trade = wechatTradeOf(answer, null)
          if (trade !== undefined) expect(trade.outTradeNo).not.toBe(undefined)
          errorSchema.safeParse(answer)
        }),
      )
    })

    it('of Alipay is not believed unsigned, and read without a crash', () => {
      const name = 'alipay_trade_query_response'
      const signature = fc.constantFrom(
        '',
        'A',
        '"',
        rsaSign('sha256', Buffer.from('{}'), privateKey).toString('base64'),
      )
      const enveloped = fc
        .tuple(jsonText, signature)
        .map(([node, sign]) => `{"${name}":${node},"sign":${JSON.stringify(sign)}}`)
      holds(
        fc.property(fc.oneof(anyBytes, damaged(enveloped)), (bytes) => {
          const opened = openEnvelope(bytes, name, [{ certSn: null, key: publicKey }])
          if (opened.kind === 'verified') expect(opened.node.toString()).toBe('{}')
          const answer = parseStrictJson(bytes)
          alipayTradeOf(answer)
          resultSchema.safeParse(answer)
        }),
      )
    })

    it('in JSON says to us what it says to any reader, or nothing', () => {
      holds(
        fc.property(anyBytes, (bytes) => {
          const read = parseStrictJson(bytes)
          if (read !== undefined) expect(read).toEqual(JSON.parse(bytes.toString('utf8')))
        }),
      )
    })

    it('in XML is read as plain fields or refused, and not believed unsigned', () => {
      holds(
        fc.property(xmlBytes, (bytes) => {
          const fields = parseXml(bytes)
          if (fields === null) return
          expect(bytes.toString('utf8')).not.toContain('<!DOCTYPE')
          for (const value of fields.values()) expect(typeof value).toBe('string')
          expect(isSignedV2(fields, SECRET, 'MD5')).toBe(false)
          tradeOfV2(fields, null)
          const signed = new Map(fields).set('sign', signatureV2(fields, SECRET, 'HMAC-SHA256'))
          expect(isSignedV2(signed, SECRET, 'HMAC-SHA256')).toBe(true)
        }),
      )
    })

    it('has a Date header that gives a hint or none', () => {
      holds(
        fc.property(
          fc.oneof(
            anyText,
            fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
          ),
          (header) => {
            expect(typeof clockHint(header, NOW_MS)).toBe('string')
          },
        ),
      )
    })

    it('never sees markup of an order number: what is written is read back as one field', () => {
      holds(
        fc.property(fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 30 }), (outTradeNo) => {
          const fields = parseXml(Buffer.from(writeXml(new Map([['out_trade_no', outTradeNo]]))))
          expect([...(fields?.keys() ?? [])]).toEqual(['out_trade_no'])
        }),
      )
    })
  })
}
