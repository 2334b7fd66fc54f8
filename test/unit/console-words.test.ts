import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

import { describe, expect, it } from 'vitest'

import { visible, withoutInvisible } from '../../src/domain/visible-text.js'
import { escapeHtml, moneyFor, timeText, waitFor } from '../../src/http/console/format.js'
import { TEMPLATES } from '../../src/http/console/templates.js'
import { ownPage } from '../../src/http/console/visit.js'
import { LANGUAGES } from '../../src/http/console/words.js'

const FOLDER = path.join('src', 'http', 'console')
const sources = readdirSync(FOLDER)
  .filter((name) => name !== 'words.ts' && name !== 'codes.ts')
  .map((name) => readFileSync(path.join(FOLDER, name), 'utf8'))
  .join('\n')

/** Words that are looked up by a name that is put together: the part that stands in the source. */
const COMPOSED = [
  [/^why_/, 'why_${'],
  [/^confirm_/, 'confirm_${'],
  [/_event$/, "+ '_event'"],
  [/^(?:syncs|repairs|latency|failures)$/, 'it.t[curve]'],
  [/^(?:pause|cancel|resume)$/, 'it.t[act]'],
] as const

describe('words', () => {
  it('every word is used', () => {
    const isUsed = (word: string) =>
      new RegExp(`(?:\\bt|words)\\.${word}\\b|\\w: '${word}'`).test(sources) ||
      COMPOSED.some(([name, source]) => name.test(word) && sources.includes(source))
    expect(Object.keys(LANGUAGES.en).filter((word) => !isUsed(word))).toEqual([])
  })

  it('every word of the other language is another one, and none is empty', () => {
    const same = Object.entries(LANGUAGES.zh).filter(([name, word]) => word === LANGUAGES.en[name as 'now'])
    expect(same).toEqual([])
    for (const word of [...Object.values(LANGUAGES.en), ...Object.values(LANGUAGES.zh)]) expect(word).not.toBe('')
    for (const word of Object.values(LANGUAGES.zh)) expect(word).toMatch(/[\u4E00-\u9FFF]|English/)
  })
})

describe('templates', () => {
  it('hold no script, style or handler of their own', () => {
    for (const template of Object.values(TEMPLATES)) {
      expect(template).not.toMatch(/<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=|hx-vars/i)
      for (const [script] of template.matchAll(/<script[^>]*>[^<]*/g)) expect(script).toMatch(/ src="[^"]+" defer>$/)
    }
  })

  it('put unescaped only other templates into a page', () => {
    for (const template of Object.values(TEMPLATES))
      for (const [, raw = ''] of template.matchAll(/<%~([\s\S]*?)%>/g))
        expect(raw.trim()).toMatch(/^(?:include\('@[a-z-]+', [^()]*\)|it\.body)$/)
  })
})

describe('values', () => {
  it('money is yuan first, then the fen it is counted in, in either language', () => {
    const spaced = (text: string) => text.replaceAll('\u{A0}', ' ')
    expect(spaced(moneyFor('en', 123_456_789n))).toBe('1,234,567.89 CNY (123456789 fen)')
    expect(spaced(moneyFor('zh', 5n))).toBe('0.05 元 (5 分)')
    expect(spaced(moneyFor('zh', 100n, 'USD'))).toBe('1.00 USD (100 分)')
  })

  it('times are Beijing time and say so', () => {
    expect(timeText(new Date('2026-01-01T16:00:00Z')).replace('\u{A0}', ' ')).toBe('2026-01-02 00:00:00 +08')
    expect(timeText(null)).toBe('–')
    expect(
      [waitFor('en', 4), waitFor('zh', 90), waitFor('en', 7200)].map((text) => text.replace('\u{A0}', ' ')),
    ).toEqual(['4.0 s', '1.5 分钟', '2.0 h'])
  })

  it('markup is text', () => {
    expect(escapeHtml(`<a href="x" title='y'>&amp;</a>`)).toBe(
      '&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;amp;&lt;/a&gt;',
    )
  })

  it.each([
    ['a mark that turns the text around', 'pay\u202Egnp.exe', 'pay⟨U+202E⟩gnp.exe'],
    ['an isolate', '\u2066x\u2069', '⟨U+2066⟩x⟨U+2069⟩'],
    ['a zero-width space', 'B1\u200B2', 'B1⟨U+200B⟩2'],
    ['a joiner inside a number', 'B1\u200D2', 'B1⟨U+200D⟩2'],
    ['a byte order mark', '\uFEFFB1', '⟨U+FEFF⟩B1'],
    ['a control', 'a\u0007b\u0085', 'a⟨U+0007⟩b⟨U+0085⟩'],
    ['a tag', 'a\u{E0041}', 'a⟨U+E0041⟩'],
  ])('%s is spelled out, and left out of what is searched for', (_, text, shown) => {
    expect(visible(text)).toBe(shown)
    expect(withoutInvisible(text)).toBe(shown.replace(/⟨U\+[0-9A-F]+⟩/g, ''))
  })

  it.each(['订单 👨‍👩‍👧', 'نص عربي', 'क्‍ष', 'line\nline\ttab'])('what scripts need stays as it is: %s', (text) => {
    expect(visible(text)).toBe(text)
  })

  it.each([
    ['/console', '/console'],
    ['/console/find?q=a%20b*c', '/console/find?q=a%20b*c'],
    ['/console/orders/1?done=sync', '/console/orders/1?done=sync'],
    ['//evil.example', '/console'],
    ['/consolex', '/console'],
    ['https://evil.example/console', '/console'],
    ['/console/\\evil.example', '/console'],
    ['/console/\r\nset-cookie: x', '/console'],
    ['', '/console'],
  ])('somebody who comes from %j is led to %j', (from, to) => {
    expect(ownPage(from)).toBe(to)
  })
})
