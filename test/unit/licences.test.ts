import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

import { expect, it } from 'vitest'

const SCRIPT = new URL('../../scripts/licences.mjs', import.meta.url).pathname
const LOCK = new URL('../../package-lock.json', import.meta.url)

it('every package that ships has a permissive licence', () => {
  // Ends with another status where one has not.
  const list = execFileSync(process.execPath, [SCRIPT], { encoding: 'utf8' })
  expect(list).toMatch(/^MIT +fastify@/m)
  expect(list).toMatch(/\d+ packages, 0 not permissive\n$/)
})

it('every package that ships is pinned by checksum, and comes from a registry', () => {
  const { packages } = JSON.parse(readFileSync(LOCK, 'utf8')) as {
    packages: Record<string, { integrity?: string; resolved?: string; link?: boolean; dev?: boolean }>
  }
  for (const [path, { integrity, resolved, link, dev }] of Object.entries(packages)) {
    if (path === '' || dev === true) continue
    expect([path, link, integrity?.startsWith('sha512-')]).toEqual([path, undefined, true])
    expect(resolved ?? 'https://').toMatch(/^https:\/\//)
  }
})
