import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { text } from 'node:stream/consumers'

import { SECRET, type TestService } from './service.js'

/** The built command (`npm run build`); the npm scripts of the tests build it first. */
export const CLI = path.resolve(import.meta.dirname, '../../dist/cli.js')
/** A command that is not over by then hangs. */
const RUN_MS_MAX = 300_000

export type Ran = Readonly<{ status: number; stdout: string; stderr: string }>

export type RunOptions = Readonly<{ stdin?: string; uid?: number; cwd?: string }>

/** The settings of a service under test, for commands on its database and gateways. */
export function commandSettings(service: TestService): Record<string, string> {
  return {
    DATABASE_URL: service.database.url,
    DATABASE_POOL_MAX: '4',
    SIGN_SECRETS: SECRET,
    OPS_TOKENS: 'tester:token',
    PORT: new URL(service.url).port,
    ...service.wechat.merchantSettings(),
    ...service.alipay.merchantSettings(),
  }
}

/** One command, to its end. `environment` is all it gets besides PATH; an empty value counts as unset. */
export async function unipay(
  environment: Readonly<Record<string, string>>,
  args: readonly string[],
  { stdin = '', uid, cwd }: RunOptions = {},
): Promise<Ran> {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { PATH: process.env['PATH'] ?? '', ...environment },
    timeout: RUN_MS_MAX,
    ...(uid === undefined ? {} : { uid, gid: uid }),
    ...(cwd === undefined ? {} : { cwd }),
  })
  // A command that ends before it has read everything is no fault of the test's.
  child.stdin.on('error', () => undefined)
  child.stdin.end(stdin)
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { status: typeof code === 'number' ? code : -1, stdout, stderr }
}
