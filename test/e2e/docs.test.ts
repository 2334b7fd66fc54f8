import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { TEMPLATES } from '../../src/http/docs/templates.js'
import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

type Document = {
  paths: Record<string, Record<string, { operationId: string; responses: object }>>
  components: { schemas: object }
}

const noCurl = spawnSync('curl', ['--version']).status !== 0

let service: TestService
let document: Document
let html: string
let headers: Headers
beforeAll(async () => {
  service = await startService()
  document = (await (await fetch(`${service.url}/openapi.json`)).json()) as Document
  const page = await fetch(`${service.url}/docs`)
  headers = page.headers
  html = await page.text()
})
afterAll(async () => await service.stop())

const operations = () =>
  Object.entries(document.paths).flatMap(([route, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${route}`, ...operation })),
  )

describe('/docs', () => {
  it('has every operation and every schema of the document', () => {
    for (const { name, operationId } of operations())
      expect(html).toContain(`<h3 id="${operationId}"><code>${name}</code></h3>`)
    for (const name of Object.keys(document.components.schemas)) expect(html).toContain(`<h3 id="schema-${name}">`)
    expect(html).toContain('<h3 id="notice"><code>POST notifyUrl</code></h3>')
    expect(operations().length).toBeGreaterThan(15)
  })

  it('has nothing inline, no script, and leads nowhere but to itself and the document', () => {
    expect(headers.get('content-security-policy')).toMatch(/default-src 'none'.*style-src 'self'/)
    expect(headers.get('content-security-policy')).not.toContain('unsafe')
    expect(html).not.toMatch(/<script|<style|\sstyle=|\son[a-z]+=|javascript:/i)
    const targets = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, target = '']) => target)
    const elsewhere = targets.filter((target) => !/^(?:#|data:,$|\/docs\/docs\.css$|\/openapi\.json$)/.test(target))
    expect(elsewhere).toEqual([])
    const anchors = targets.filter((target) => target.startsWith('#')).map((target) => `id="${target.slice(1)}"`)
    expect(anchors.filter((anchor) => !html.includes(anchor))).toEqual([])
  })

  it('puts unescaped only other templates into the page', () => {
    for (const template of Object.values(TEMPLATES))
      for (const [, raw = ''] of template.matchAll(/<%~([\s\S]*?)%>/g)) expect(raw.trim()).toMatch(/^include\(/)
  })

  it.skipIf(noCurl)(
    'has a line for the shell to each operation, and each gives an answer that the document tells of',
    async () => {
      const folder = mkdtempSync(path.join(tmpdir(), 'unipay-docs-'))
      try {
        // Of no order: a CSV's head line is all there is, an NDJSON has nothing.
        const files = { csv: path.join(folder, 'orders.csv'), ndjson: path.join(folder, 'orders.ndjson') }
        writeFileSync(files.csv, 'paymentId,businessNo,channel,amount\n')
        writeFileSync(files.ndjson, '')
        const variables = { PAYMENT_ID: await service.register(), BUSINESS_NO: 'nobody', ID: '999999' }
        const environment = { ...process.env, UNIPAY: service.url, TOKEN: OPS_TOKEN, ...variables }
        for (const { name, operationId, responses } of operations()) {
          const article = html
            .split(`<article class="card" aria-labelledby="${operationId}">`)[1]
            ?.split('</article>')[0]
          const lines = [...(article ?? '').matchAll(/<pre class="curl" tabindex="0">(.*?)<\/pre>/gs)]
          expect([name, lines.length > 0]).toEqual([name, true])
          for (const [, line = ''] of lines) {
            // The page writes for people: what it escaped is what a person copies.
            const typed = line.replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&gt;', '>')
            const command = `${typed.replaceAll('&amp;', '&')} -o /dev/null -w '%{http_code}'`
            const FILE = typed.includes('text/csv') ? files.csv : files.ndjson
            const env = { ...environment, FILE }
            const { stdout: run } = await promisify(execFile)('/bin/sh', ['-c', command], { env })
            expect([name, run, Object.keys(responses).includes(run)]).toEqual([name, run, true])
            expect([name, run]).not.toEqual([name, expect.stringMatching(/^(?:400|401|415|429|5\d\d)$/)])
          }
        }
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    },
  )
})
