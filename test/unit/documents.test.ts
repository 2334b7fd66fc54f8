import { existsSync, readdirSync, readFileSync } from 'node:fs'

import { describe, expect, it } from 'vitest'

import { loadConfig, SETTING_NAMES, settingsTable } from '../../src/config.js'

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

  it('starts as it is', () => {
    const given = lines
      .filter(([, comment]) => comment === undefined)
      .map(([, , name = '', value = '']) => [name, value])
    expect(loadConfig(Object.fromEntries(given) as Record<string, string>).NODE_ENV).toBe('production')
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
    const own = names.filter((name) => !name.startsWith('POSTGRES_'))
    expect(own).toEqual(own.filter((name) => (SETTING_NAMES as string[]).includes(name)))
    expect(own).not.toEqual([])
  })

  it('keeps the sandbox out of a start without its profile', () => {
    expect(text).toMatch(/^ {2}sandbox:\n {4}profiles: \[sandbox\]$/m)
    expect(text).toMatch(/driver_opts: \{ type: tmpfs/)
  })
})
