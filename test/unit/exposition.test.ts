import { describe, expect, it } from 'vitest'

import { parseExposition, problemsOf } from '../support/exposition.js'

const HEAD = '# HELP a_total Things\n# TYPE a_total counter\n'

describe('the reader of /metrics that the other tests rely on refuses', () => {
  it.each([
    ['a last line without its end', `${HEAD}a_total 1`],
    ['a series without HELP', '# TYPE a_total counter\na_total 1\n'],
    ['a series without TYPE', '# HELP a_total Things\na_total 1\n'],
    ['a TYPE that is none', '# HELP a_total Things\n# TYPE a_total count\na_total 1\n'],
    ['HELP twice', `# HELP a_total Things\n${HEAD}a_total 1\n`],
    ['a series twice', `${HEAD}a_total{x="1",y="2"} 1\na_total{y="2",x="1"} 1\n`],
    ['a family in two places', `${HEAD}a_total 1\n# HELP b B\n# TYPE b gauge\nb 1\n${HEAD}a_total{x="1"} 1\n`],
    ['a label twice', `${HEAD}a_total{x="1",x="2"} 1\n`],
    ['a label value that is not escaped', `${HEAD}a_total{x="a"b"} 1\n`],
    ['a label value with an unknown escape', `${HEAD}a_total{x="a\\t"} 1\n`],
    ['a name that is none', '# HELP 1a A\n# TYPE 1a gauge\n1a 1\n'],
    ['a value that is none', `${HEAD}a_total one\n`],
  ])('%s', (_what, text) => {
    expect(() => parseExposition(text)).toThrow()
  })
})

const gauge = (name: string, series = `${name} 1`) => `# HELP ${name} Help\n# TYPE ${name} gauge\n${series}\n`
const histogram = (series: readonly string[]) =>
  `# HELP a_seconds Help\n# TYPE a_seconds histogram\n${series.map((line) => `a_seconds_${line}\n`).join('')}`

describe('and complains of', () => {
  it.each([
    ['a counter without _total', '# HELP a A\n# TYPE a counter\na 1\n'],
    ['a gauge with _total', gauge('a_total')],
    ['no help', '# HELP a \n# TYPE a gauge\na 1\n'],
    ['milliseconds', gauge('a_milliseconds')],
    ['days', gauge('a_days')],
    ['an abbreviated unit', gauge('a_ms')],
    ['a type in a name', gauge('a_gauge_seconds')],
    ['camel case', gauge('aLag_seconds')],
    ['a label in camel case', gauge('a', 'a{someLabel="1"} 1')],
    ['a suffix of histograms', gauge('a_count')],
    ['a bucket’s label', gauge('a', 'a{le="1"} 1')],
    ['a counter below zero', `${HEAD}a_total -1\n`],
    ['a histogram without its last bucket', histogram(['bucket{le="1"} 1', 'sum 1', 'count 1'])],
    ['a histogram that falls', histogram(['bucket{le="1"} 2', 'bucket{le="+Inf"} 1', 'sum 1', 'count 1'])],
    [
      'buckets out of order',
      histogram(['bucket{le="2"} 1', 'bucket{le="1"} 1', 'bucket{le="+Inf"} 1', 'sum 1', 'count 1']),
    ],
    ['a histogram whose count is another', histogram(['bucket{le="1"} 1', 'bucket{le="+Inf"} 1', 'sum 1', 'count 2'])],
    ['a histogram without its sum', histogram(['bucket{le="1"} 1', 'bucket{le="+Inf"} 1', 'count 1'])],
  ])('%s', (_what, text) => {
    expect(problemsOf(parseExposition(text))).not.toEqual([])
  })

  it('nothing that is right', () => {
    const right = `${HEAD}a_total{x="\\"\\\\\\n"} 1e3\n${gauge('c_seconds', 'c_seconds +Inf')}${histogram([
      'bucket{le="0.5"} 0',
      'bucket{le="+Inf"} 2',
      'sum 3',
      'count 2',
    ])}`
    expect(problemsOf(parseExposition(right))).toEqual([])
  })
})
