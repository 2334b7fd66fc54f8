import { readFileSync, writeFileSync } from 'node:fs'

import { expect, it } from 'vitest'

import { SETTING_NAMES, settingsTable } from '../../src/config.js'

const README = new URL('../../README.md', import.meta.url)
const SETTINGS = /<!-- settings -->[\s\S]*<!-- \/settings -->/

it('the README’s table of settings is the one that the code has (UPDATE_DOCS=1 writes it)', () => {
  const text = readFileSync(README, 'utf8')
  const current = text.replace(SETTINGS, () => `<!-- settings -->\n${settingsTable()}\n<!-- /settings -->`)
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(README, current)
  else expect(text).toBe(current)
})

it('every setting says what it is for', () => {
  for (const name of SETTING_NAMES)
    expect(settingsTable()).toMatch(new RegExp(`^\\| ${name} \\| .+ \\| .{4,} \\|$`, 'm'))
})
