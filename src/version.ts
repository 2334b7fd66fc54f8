import { readFileSync } from 'node:fs'

import { ROOT } from './root.js'

/** Of the installed release, as package.json has it. */
export function versionHere(): string {
  const { version } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as { version: string }
  return version
}
