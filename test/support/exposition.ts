/** One series, as /metrics printed it. `key` is its name with its labels, sorted. */
export type Sample = Readonly<{ key: string; name: string; labels: Readonly<Record<string, string>>; value: number }>
type Family = { readonly name: string; help: string | null; type: string | null; readonly samples: Sample[] }

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(?:,|$)/y
const NUMBER = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]inf|nan)$/i
const TYPES = ['counter', 'gauge', 'histogram', 'summary', 'untyped']

/**
 * Reads the text format 0.0.4 as strictly as Prometheus may: every family together, its HELP and TYPE before its series,
 * every series once. Throws with the line that breaks a rule.
 */
export function parseExposition(text: string): readonly Family[] {
  if (!text.endsWith('\n')) throw new Error('the last line is not ended')
  const families = new Map<string, Family>()
  const seen = new Set<string>()
  let current: Family = { name: '', help: null, type: null, samples: [] }
  for (const line of text.slice(0, -1).split('\n')) {
    const fail = (why: string) => new Error(`${why}: ${line}`)
    if (line === '') continue
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line)
    const sample = comment === null ? sampleOf(line, fail) : null
    const name: string = comment?.[2] ?? familyName(sample?.name ?? '', families)
    if (!NAME.test(name)) throw fail('not a name')
    if (current.name !== name) {
      if (families.has(name)) throw fail('a family in two places')
      current = { name, help: null, type: null, samples: [] }
      families.set(name, current)
    }
    if (sample === null) {
      const member = comment?.[1] === 'HELP' ? 'help' : 'type'
      if (current[member] !== null || current.samples.length > 0) throw fail('said twice, or too late')
      current[member] = comment?.[3] ?? ''
      if (member === 'type' && !TYPES.includes(current.type ?? '')) throw fail('not a type')
    } else {
      if (current.help === null || current.type === null) throw fail('no HELP or no TYPE')
      if (seen.has(sample.key)) throw fail('the same series twice')
      seen.add(sample.key)
      current.samples.push(sample)
    }
  }
  return [...families.values()]
}

function sampleOf(line: string, fail: (why: string) => Error): Sample {
  const match = /^([^{\s]+)(?:\{(.*)\})? (\S+)$/.exec(line)
  const [, name = '', labelText = '', number = ''] = match ?? []
  if (match === null || !NAME.test(name)) throw fail('not a series')
  if (!NUMBER.test(number)) throw fail('not a number')
  const labels: Record<string, string> = {}
  LABEL.lastIndex = 0
  for (let end = 0; end < labelText.length; end = LABEL.lastIndex) {
    const [, label = '', value = ''] = LABEL.exec(labelText) ?? []
    if (label === '' || label in labels) throw fail('not labels, or one of them twice')
    labels[label] = value
  }
  const sorted = Object.keys(labels).toSorted()
  const key = `${name}{${sorted.map((label) => `${label}="${labels[label] ?? ''}"`).join(',')}}`
  return { key, name, labels, value: /inf$/i.test(number) ? Number(`${number[0]}Infinity`) : Number(number) }
}

/** A histogram's series have its name and a suffix. */
function familyName(name: string, families: ReadonlyMap<string, Family>): string {
  const stem = name.replace(/_(?:bucket|sum|count)$/, '')
  return families.get(stem)?.type === 'histogram' ? stem : name
}

/** What promtool's `check metrics` complains of: the base unit of each unit that a name may have. */
const BASE_OF: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ['seconds', 'bytes', 'celsius', 'grams', 'joules', 'kelvin', 'meters', 'metres', 'moles', 'volts', 'amperes'].map(
      (unit) => [unit, unit],
    ),
  ),
  ...Object.fromEntries(['minutes', 'hours', 'days', 'weeks'].map((unit) => [unit, 'seconds'])),
  bits: 'bytes',
  pounds: 'grams',
  ounces: 'grams',
  miles: 'meters',
  calories: 'joules',
}
const PREFIXES = 'pico nano micro milli centi deci deca hecto kilo kibi mega mibi giga gibi tera tebi peta pebi'.split(
  ' ',
)
const ABBREVIATIONS = 's ms us ns sec b kb mb gb tb pb m h d'.split(' ')

/** The problems of names, types, units and labels; and of histograms whose buckets do not add up. */
export function problemsOf(families: readonly Family[]): string[] {
  return families.flatMap(({ name, help, type, samples }) => {
    const words = name.split('_')
    const problems: string[] = []
    const check = (isWrong: boolean, problem: string) => isWrong && problems.push(`${name}: ${problem}`)
    check((help ?? '').trim() === '', 'no help text')
    check(type === 'counter' && !name.endsWith('_total'), 'a counter should end in _total')
    check(type !== 'counter' && name.endsWith('_total'), 'only a counter should end in _total')
    check(/_(?:bucket|sum|count)$/.test(name), 'a suffix that histograms have')
    check(/_(?:counter|gauge|histogram|summary)(?:_|$)/.test(name), 'its type in its name')
    check(name.includes(':'), 'a colon')
    check(/[a-z][A-Z]/.test(name), 'camel case')
    check(
      words.some((word) => ABBREVIATIONS.includes(word)),
      'an abbreviated unit',
    )
    for (const word of words) {
      check(word in BASE_OF && BASE_OF[word] !== word, `use ${BASE_OF[word] ?? ''} instead of ${word}`)
      check(
        PREFIXES.some((prefix) => word.startsWith(prefix) && word.slice(prefix.length) in BASE_OF),
        `use the base unit instead of ${word}`,
      )
    }
    for (const { key, labels, value } of samples) {
      check(
        Object.keys(labels).some((label) => /[a-z][A-Z]|^__/.test(label)),
        `label of ${key}`,
      )
      check(type !== 'histogram' && 'le' in labels, `le in ${key}`)
      check('quantile' in labels, `quantile in ${key}`)
      check((type === 'counter' || type === 'histogram') && !(value >= 0), `${key} is ${value}`)
    }
    return type === 'histogram' ? [...problems, ...histogramProblems(name, samples)] : problems
  })
}

function histogramProblems(name: string, samples: readonly Sample[]): string[] {
  const groupOf = ({ labels }: Sample) => JSON.stringify({ ...labels, le: undefined })
  return [...new Set(samples.map(groupOf))].flatMap((group) => {
    const members = samples.filter((sample) => groupOf(sample) === group)
    const buckets = members.filter((sample) => sample.name === `${name}_bucket`)
    const of = (suffix: string) => members.filter((sample) => sample.name === `${name}_${suffix}`)
    const bounds = buckets.map(({ labels }) => Number(labels['le']?.replace('+Inf', 'Infinity')))
    const isRising = (values: readonly number[], strictly: boolean) =>
      values.every((value, place) => place === 0 || value - (values[place - 1] ?? 0) >= (strictly ? 1e-12 : 0))
    const isWhole =
      bounds.at(-1) === Number.POSITIVE_INFINITY &&
      isRising(bounds, true) &&
      isRising(
        buckets.map(({ value }) => value),
        false,
      ) &&
      of('sum').length === 1 &&
      of('count').length === 1 &&
      of('count')[0]?.value === buckets.at(-1)?.value &&
      members.length === buckets.length + 2
    return isWhole ? [] : [`${name}: the buckets of ${group} do not add up`]
  })
}

/** /metrics of a service, read strictly. */
export async function scrape(url: string) {
  const response = await fetch(`${url}/metrics`)
  if (response.status !== 200) throw new Error(`/metrics answered ${response.status}`)
  const text = await response.text()
  const families = parseExposition(text)
  const samples = families.flatMap((family) => family.samples)
  return {
    families,
    contentType: response.headers.get('content-type'),
    series: new Set(samples.map(({ key }) => key)),
    /** The sum over the series of this name that have these labels; null where there are none. */
    value(name: string, labels: Readonly<Record<string, string>> = {}): number | null {
      const found = samples.filter(
        (sample) =>
          sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
      )
      return found.length === 0 ? null : found.reduce((sum, { value }) => sum + value, 0)
    },
  }
}

export type Scrape = Awaited<ReturnType<typeof scrape>>
