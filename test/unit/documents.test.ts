import { existsSync, readdirSync, readFileSync } from 'node:fs'

import { describe, expect, it } from 'vitest'

import { loadConfig, SETTING_NAMES, settingsTable } from '../../src/config.js'
import { EXCEPTION_KINDS } from '../../src/domain/decide.js'
import { RESULT_CODES } from '../../src/domain/result-code.js'
import { signatureOf, signText } from '../../src/domain/sign.js'
import { createMetrics } from '../../src/metrics.js'
import { readRunbook } from '../support/runbook.js'

const ROOT = new URL('../../', import.meta.url)
const read = (path: string) => readFileSync(new URL(path, ROOT), 'utf8')

/** What two languages of one document have in common. */
function skeleton(text: string) {
  const prose = text.replace(/^```.*?^```$/gms, '')
  const lines = prose.split('\n')
  return {
    headings: lines.flatMap((line) => /^#+(?= )/.exec(line)?.[0] ?? []),
    commands: text.match(/^```.*?^```$/gms),
    tables: lines.filter((line) => line.startsWith('|')).map((line) => line.split('|').length),
    code: [...new Set(prose.match(/`[^`]+`/g))].sort(),
  }
}

const rowsOf = (table: string) =>
  table.split('\n').map((line) => line.split(' | ').map((cell) => cell.replace(/^\| /, '')))

describe('the two READMEs', () => {
  it('have the same headings, commands, tables and names', () => {
    expect(skeleton(read('README.zh-CN.md'))).toEqual(skeleton(read('README.md')))
  })

  it('name the same settings with the same defaults', () => {
    const chinese = rowsOf(read('README.zh-CN.md')).filter(([name = '']) => (SETTING_NAMES as string[]).includes(name))
    const english = rowsOf(settingsTable()).slice(2)
    expect(chinese.map((cells) => cells.slice(0, 2))).toEqual(english.map((cells) => cells.slice(0, 2)))
  })
})

describe('the README', () => {
  const text = read('README.md')

  it('names only scripts that there are', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    const named = [...text.matchAll(/npm (?:run (?:-s )?([a-z:]+)|(test|start))/g)].map(
      ([, run, short]) => run ?? short ?? '',
    )
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([])
    expect(named).toEqual(
      expect.arrayContaining(['demo', 'test', 'start', 'sandbox', 'cli', 'check', 'test:long', 'bench']),
    )
  })

  it('signs its example as the code does', () => {
    const [, signed = '', secret = '', signature] = /^`(.+)&key=(.+)` gives `([0-9a-f]{32})`/m.exec(text) ?? []
    const fields = Object.fromEntries(new URLSearchParams(signed))
    expect(signatureOf(signText(fields), secret, 'MD5')).toBe(signature)
  })

  it('has every code of the wire, and no other', () => {
    const listed = [...text.matchAll(/^\| (\d+) \| /gm)].map(([, code]) => Number(code))
    const known = new Set<number>(Object.values(RESULT_CODES).map(({ code }) => code))
    expect(listed).toEqual([...known].sort((a, b) => a - b))
  })

  it('names only routes that are served', () => {
    const { paths } = JSON.parse(read('docs/openapi.json')) as { paths: Record<string, unknown> }
    const own = ['/docs', '/console', '/openapi.json', '/unipay', '/ops']
    const named = [...text.matchAll(/`(?:(?:GET|POST) )?(\/[a-zA-Z/{}.]+)`/g)].map(([, path = '']) => path)
    expect(named.filter((path) => paths[path] === undefined && !own.includes(path))).toEqual([])
    expect(named).toContain('/unipay/syncPay')
  })
})

it.each(['README.md', 'README.zh-CN.md', 'docs/runbook.md'])(
  '%s runs commands without npm’s own lines, which a shell or jq would read, and says that they are built first',
  (document) => {
    const paragraph = read(document)
      .split(/\n\n|\n(?=\|)/)
      .filter((text) => text.includes('npm run -s cli -- '))
    expect(paragraph).toHaveLength(1)
    expect(paragraph[0]).toContain('`npm run build`')
    expect(read(document)).not.toContain('npm run cli')
  },
)

describe('.env.example', () => {
  const lines = [...read('.env.example').matchAll(/^(# )?([A-Z][A-Z0-9_]*)=(.*)$/gm)]

  it('has every setting on one line, in the order of the table', () => {
    expect(lines.map(([, , name]) => name)).toEqual(SETTING_NAMES)
  })

  it('shows the default of what is commented out', () => {
    const defaults = new Map(rowsOf(settingsTable()).map(([name = '', value = '']) => [name, value.replace(/^–$/, '')]))
    for (const [, comment, name = '', value] of lines)
      if (comment) expect([name, value]).toEqual([name, defaults.get(name)])
  })

  it('starts once its secrets are one’s own, and not before', () => {
    const given = Object.fromEntries(
      lines.filter(([, comment]) => comment === undefined).map(([, , name = '', value = '']) => [name, value]),
    ) as Record<string, string>
    expect(() => loadConfig(given)).toThrow(/SIGN_SECRETS holds the value.*\n.*OPS_TOKENS holds the value/)
    const own = { ...given, SIGN_SECRETS: 'mine', OPS_TOKENS: 'alice:mine-too' }
    expect(loadConfig(own).NODE_ENV).toBe('production')
  })
})

it('every relative link of a document leads to a file', () => {
  const documents = ['.', 'docs', 'docs/decisions'].flatMap((folder) =>
    readdirSync(new URL(`${folder}/`, ROOT))
      .filter((name) => name.endsWith('.md'))
      .map((name) => `${folder}/${name}`),
  )
  const broken = documents.flatMap((path) =>
    [...read(path).matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !existsSync(new URL(target, new URL(path, ROOT))))
      .map((target) => `${path}: ${target}`),
  )
  expect(documents).toContain('./README.md')
  expect(broken).toEqual([])
})

describe('compose.yaml', () => {
  const text = read('compose.yaml')

  it('sets only settings that there are', () => {
    const names = [...text.matchAll(/^ {6}([A-Z][A-Z_]+):/gm)].map(([, name = '']) => name)
    const own = names.filter((name) => !/^(?:POSTGRES|DEMO)_/.test(name))
    expect(own).toEqual(own.filter((name) => (SETTING_NAMES as string[]).includes(name)))
    expect(own).not.toEqual([])
  })

  it('starts only what is built, with options that the image’s Node has', () => {
    const started = [...`${text}${read('Dockerfile')}`.matchAll(/dist\/([\w/-]+)\.js/g)].map(([, name = '']) => name)
    expect([...new Set(started)].sort()).toEqual(['cli', 'demo', 'main', 'sandbox/main'])
    for (const name of started) expect(existsSync(new URL(`src/${name}.ts`, ROOT))).toBe(true)
    // --env-file-if-exists came with Node 22.9.
    const majors = [...read('Dockerfile').matchAll(/^FROM node:(\d+)-/gm)].map(([, major]) => Number(major))
    expect(majors).toEqual([24, 24, 24])
  })

  it('keeps the sandbox out of a start without its profile', () => {
    for (const name of ['sandbox', 'demo'])
      expect(text).toMatch(new RegExp(`^ {2}${name}:\\n {4}profiles: \\[sandbox\\]$`, 'm'))
    expect(text).toMatch(/driver_opts: \{ type: tmpfs/)
  })
})

describe('the runbook', () => {
  // The long test runs every line; this tells at once what a renaming forgot.
  const text = read('docs/runbook.md')

  it('names only metrics, kinds and settings that there are', () => {
    const metrics = createMetrics().described.map(({ name }) => name)
    const named = [...text.matchAll(/\bunipay_[a-z_]*[a-z]\b(?![a-z_]*[|(])/g)].map(([name]) => name)
    expect(named).not.toEqual([])
    expect(named.filter((name) => !metrics.includes(name))).toEqual([])
    const kinds = [...text.matchAll(/kind(?:="| )([a-z_]+)/g)].map(([, kind = '']) => kind)
    expect(kinds).not.toEqual([])
    expect(kinds.filter((kind) => !(EXCEPTION_KINDS as readonly string[]).includes(kind))).toEqual([])
    const settings = [...text.matchAll(/`([A-Z0-9]+_[A-Z0-9_]+)[`=]/g)].map(([, name = '']) => name)
    expect(settings).not.toEqual([])
    expect(settings.filter((name) => !(SETTING_NAMES as string[]).includes(name))).toEqual([])
  })

  it('has commands only that say something, in every block', () => {
    const steps = readRunbook().flatMap(({ blocks }) => blocks.flat())
    expect(steps.length).toBeGreaterThan(40)
    expect(steps.filter(({ says }) => says.length === 0)).toEqual([])
  })
})
