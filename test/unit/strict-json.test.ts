import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { parseStrictJson } from '../../src/gateways/strict-json.js'

const parse = (text: string) => parseStrictJson(Buffer.from(text))

describe('JSON that two readers could read differently is not read at all', () => {
  it.each([
    ['a name twice, with two values', '{"a":1,"a":2}'],
    ['a name twice, with one value', '{"a":1,"a":1}'],
    ['a name twice, once spelled with an escape', '{"a":1,"\\u0061":2}'],
    ['a name twice further down', '{"x":[{"a":1,"b":{"c":1,"c":1}}]}'],
    ['a name twice with blanks before the colon', '{"a" : 1, "a"\n:1}'],
    ['a byte order mark', '\u{feff}{"a":1}'],
    ['nesting far beyond any answer’s', `{"a":${'['.repeat(100)}${']'.repeat(100)}}`],
    ['nesting that would exhaust the stack', '['.repeat(100_000) + ']'.repeat(100_000)],
    ['a cut text', '{"a":1'],
    ['nothing', ''],
    ['XML', '<xml></xml>'],
    ['a trailing value', '{"a":1}{"a":2}'],
    ['a string that does not end', '{"a":"b\\"'],
  ])('%s', (_title, text) => {
    expect(parse(text)).toBeUndefined()
  })

  it('bytes that are not UTF-8', () => {
    expect(parseStrictJson(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]))).toBeUndefined()
  })

  it('a member named __proto__ makes no object another one', () => {
    const read = parse('{"__proto__":{"trade_state":"SUCCESS"}}') as Record<string, unknown>
    expect(read['trade_state']).toBeUndefined()
  })
})

describe('everything else reads as JSON.parse reads it', () => {
  it.each(['{"a":[{"b":1},{"b":1}],"c":"a\\"a","d":{"a":1}}', '{"a":"{\\"a\\":1,\\"a\\":2}"}', '{}', 'null', '{"":0}'])(
    '%s',
    (text) => {
      expect(parse(text)).toEqual(JSON.parse(text))
    },
  )

  it('whatever JSON.stringify writes', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const text = JSON.stringify(value)
        expect(parse(text)).toEqual(JSON.parse(text))
      }),
    )
  })
})
