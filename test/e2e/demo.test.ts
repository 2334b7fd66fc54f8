import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import path from 'node:path'
import { text } from 'node:stream/consumers'

import { describe, expect, it } from 'vitest'

import { freePort } from '../support/free-port.js'

const DEMO = path.resolve(import.meta.dirname, '../../dist/demo.js')

/** One that began after all would run until somebody ends it. Milliseconds. */
const RUN_MS_MAX = 20_000

/** A demo that does not begin: what it says, and its status. */
async function refusal(environment: Readonly<Record<string, string>>) {
  const ports = { DEMO_WECHAT_PORT: await freePort(), DEMO_ALIPAY_PORT: await freePort(), PORT: await freePort() }
  const env = {
    PATH: process.env['PATH'] ?? '',
    ...Object.fromEntries(Object.entries(ports).map(([k, v]) => [k, `${v}`])),
  }
  const child = spawn(process.execPath, [DEMO], {
    env: { ...env, ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: RUN_MS_MAX,
    killSignal: 'SIGKILL',
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  return { said: await text(child.stderr), status: await ended }
}

describe('a demo that cannot begin says why in a line for people, and ends', { timeout: 2 * RUN_MS_MAX }, () => {
  it('because a port is taken', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const address = taken.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const { said, status } = await refusal({ DEMO_ALIPAY_PORT: `${port}` })
    taken.close()
    expect(said).toBe(`listen EADDRINUSE: address already in use 127.0.0.1:${port}\n`)
    expect(status).toBe(1)
  })

  it.each([
    ['a setting is wrong', { GATEWAY_TIMEOUT_MS: 'soon' }, 'GATEWAY_TIMEOUT_MS'],
    ['its folder cannot be made', { DATA_DIR: '/dev/null/nowhere' }, 'DATA_DIR: ENOTDIR'],
    ['one of its own ports is none', { DEMO_MERCHANT_PORT: '70000' }, 'DEMO_MERCHANT_PORT'],
    ['it joins a service without its settings', { DEMO_SERVICE_URL: 'http://127.0.0.1:9' }, 'SIGN_SECRETS'],
  ])('because %s', async (_why, environment, named) => {
    const { said, status } = await refusal(environment)
    expect(said).toContain(named)
    expect(said).not.toContain('    at ')
    expect(status).toBe(1)
  })
})
