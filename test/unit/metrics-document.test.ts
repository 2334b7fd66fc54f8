import { readFileSync, writeFileSync } from 'node:fs'

import { expect, it } from 'vitest'

import { createMetrics } from '../../src/metrics.js'

const DOCUMENT = new URL('../../docs/metrics.md', import.meta.url)
const TABLE = /<!-- metrics -->[\s\S]*<!-- \/metrics -->/

const { described } = createMetrics()

function table(): string {
  const rows = described.map(
    ({ name, type, labelNames, help }) =>
      `| \`${name}\` | ${type} | ${labelNames.map((label) => `\`${label}\``).join(' ')} | ${help} |`,
  )
  return ['| metric | type | labels | |', '|---|---|---|---|', ...rows].join('\n')
}

it('the table of metrics is the one that the code has (UPDATE_DOCS=1 writes it)', () => {
  const text = readFileSync(DOCUMENT, 'utf8')
  const current = text.replace(TABLE, () => `<!-- metrics -->\n${table()}\n<!-- /metrics -->`)
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(DOCUMENT, current)
  else expect(text).toBe(current)
})

it('every alert asks for metrics and labels that there are', () => {
  const alerts = readFileSync(DOCUMENT, 'utf8').split('## What to alert on')[1]?.split('\n## ')[0] ?? ''
  const asked = [...alerts.matchAll(/(unipay_\w+)(?:\{([^}]*)\})?/g)]
  expect(asked.length).toBeGreaterThan(10)
  for (const [, name = '', selectors = ''] of asked) {
    const metric = described.find(
      (known) => name === known.name || name.replace(/_(?:bucket|count|sum)$/, '') === known.name,
    )
    expect(metric, name).toBeDefined()
    const labels = [...selectors.matchAll(/(\w+)(?:=~|!=|=)"/g)].map(([, label]) => label)
    for (const label of labels) expect(metric?.labelNames, name).toContain(label)
  }
})
