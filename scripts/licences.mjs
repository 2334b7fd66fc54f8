#!/usr/bin/env node
// Lists the licence of every package that ships with the service, from what package-lock.json pins. Fails where one is not
// permissive, or names none: that is for a person to look at before it ships.
import { readFileSync } from 'node:fs'

const PERMISSIVE = new Set([
  'MIT',
  'ISC',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'BlueOak-1.0.0',
  'PostgreSQL',
])
/** Spelled otherwise than SPDX has it, and looked at. */
const SAME_AS = new Map([['BSD-0-Clause', '0BSD']])

const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'))
const shipped = Object.entries(packages)
  .filter(([path, { dev, devOptional }]) => path !== '' && !dev && !devOptional)
  .map(([path, { version, license = 'none' }]) => ({
    name: path.replace(/^.*node_modules\//, ''),
    version,
    licence: SAME_AS.get(license) ?? license,
  }))
  .sort((a, b) => (a.name < b.name ? -1 : 1))

for (const { name, version, licence } of shipped) process.stdout.write(`${licence.padEnd(14)} ${name}@${version}\n`)

const refused = shipped.filter(({ licence }) => !PERMISSIVE.has(licence))
for (const { name, licence } of refused) process.stderr.write(`not permissive: ${name} (${licence})\n`)
process.stdout.write(`${shipped.length} packages, ${refused.length} not permissive\n`)
process.exitCode = refused.length === 0 ? 0 : 1
