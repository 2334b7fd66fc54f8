import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

import { createDatabase, type TestDatabase } from '../support/database.js'
import { type DemoOrder, demoOrders, shell, startInTerminal } from '../support/demo-process.js'
import { freePort } from '../support/free-port.js'
import type { Envelope, History } from '../support/service.js'
import { startServiceProcess } from '../support/service-process.js'

const ROOT = path.resolve(import.meta.dirname, '../..')
const README = readFileSync(path.join(ROOT, 'README.md'), 'utf8')
const INSTALL_MS_MAX = 300_000
/** From the command until the calls are printed, on two cores, the build included. */
const START_MS_MAX = 60_000
/** A start that others on this machine slow down is slow, not stuck. */
const START_MS_LIMIT = 240_000

/** The situations of the README's table: what each first call must answer. */
const ANNOUNCED = README.split('\n')
  .filter((line) => /^\| .* \| (?:wechat_pay|ali_pay|union_pay|-) \| /.test(line))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )

let folder: string
let clone: string
/** Like `env -i PATH HOME`: nothing of the caller's settings gets in. */
let clean: Record<string, string>

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'unipay-readme-'))
  clone = path.join(folder, 'clone')
  clean = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? folder }
  expect(await shell(`git clone -q ${ROOT} ${clone}`, clean, folder)).toEqual({ status: 0, output: '' })
  const installed = await shell('npm ci --ignore-scripts --prefer-offline', clean, clone, INSTALL_MS_MAX)
  expect(installed).toMatchObject({ status: 0 })
}, INSTALL_MS_MAX)
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

async function demoSettings(): Promise<Record<string, string>> {
  const [service, wechat, alipay, merchant] = await Promise.all([freePort(), freePort(), freePort(), freePort()])
  return {
    ...clean,
    PORT: String(service),
    DEMO_WECHAT_PORT: String(wechat),
    DEMO_ALIPAY_PORT: String(alipay),
    DEMO_MERCHANT_PORT: String(merchant),
    DATA_DIR: path.join(folder, 'data'),
  }
}

const idOf = ({ curl }: DemoOrder): string => /"paymentId":(\d+)/.exec(curl)?.[1] ?? ''

/** The README's own line, of this order at this address. */
async function story(id: string, address: string): Promise<History> {
  const line = /^curl -s -H 'Authorization.*PAYMENT_ID$/m.exec(README)?.[0] ?? ''
  const { output } = await shell(
    line.replace('http://127.0.0.1:9000', address).replace('PAYMENT_ID', id),
    { PATH: clean['PATH'] ?? '' },
    folder,
  )
  return JSON.parse(output) as History
}

/** Each printed call answers what the table announces; the second repairs nothing; the records name each other. */
async function playThrough(orders: readonly DemoOrder[], address: string): Promise<void> {
  expect(orders.map(({ title, row }) => [title, ...row.slice(1, 5)])).toEqual(ANNOUNCED.map((row) => row.slice(0, 5)))
  for (const order of orders) {
    const [title, , code, gatewayStatus, repair] = order.row
    const call = async () =>
      JSON.parse((await shell(order.curl, { PATH: clean['PATH'] ?? '' }, folder)).output) as Envelope
    const first = await call()
    expect([title, String(first.code)]).toEqual([title, code])
    expect([title, first.data?.gatewayStatus ?? '-', String(first.data?.repair ?? '-')]).toEqual([
      title,
      gatewayStatus,
      repair,
    ])
    const second = await call()
    expect([title, second.code, second.data?.repair ?? false]).toEqual([title, first.code, false])
    const { repairs, syncs } = await story(idOf(order), address)
    expect([title, repairs.length]).toEqual([title, repair === 'true' ? 1 : 0])
    for (const made of repairs) {
      expect(made.repairOrderNo).toBe(first.data?.repairOrderNo)
      const naming = syncs.filter(({ repairOrderNo }) => repairOrderNo === made.repairOrderNo)
      expect(naming.map(({ id }) => id)).toEqual([made.syncId])
    }
  }
}

describe('a stranger in a clean clone, after npm ci --ignore-scripts', () => {
  it('npm run demo: every printed call gives what the table says, nobody has to call, and Ctrl-C ends everything', async () => {
    const settings = await demoSettings()
    const startedMs = performance.now()
    const demo = startInTerminal('npm run demo', settings, clone)
    try {
      await demo.says('Ctrl-C ends everything.', START_MS_LIMIT)
      const tookMs = performance.now() - startedMs
      process.stdout.write(`npm run demo printed its calls after ${(tookMs / 1000).toFixed(1)} s\n`)
      expect(tookMs).toBeLessThan(START_MS_MAX)
      const address = `http://127.0.0.1:${settings['PORT']}`
      await playThrough(demoOrders(demo.lines()), address)
      const paid = idOf(demoOrders(demo.lines())[0] ?? { title: '', curl: '', row: [] })
      await demo.says(`notice  order ${paid} is success, signature holds`, 30_000)
      const byItself =
        /^Order (\d+) is called for by nobody/.exec(await demo.says('called for by nobody', 0))?.[1] ?? ''
      await vi.waitFor(async () => expect((await story(byItself, address)).order.status).toBe('success'), {
        timeout: 60_000,
        interval: 250,
      })
    } finally {
      await demo.interrupt()
    }
    // PostgreSQL's own lock file is gone with it.
    expect(existsSync(path.join(settings['DATA_DIR'] ?? '', 'postgres/cluster/postmaster.pid'))).toBe(false)
    await expect(fetch(`http://127.0.0.1:${settings['PORT']}/healthz`)).rejects.toThrow('fetch failed')

    const again = startInTerminal('npm run demo', settings, clone)
    try {
      await again.says('Ctrl-C ends everything.', START_MS_LIMIT)
      expect(demoOrders(again.lines())).toHaveLength(ANNOUNCED.length)
    } finally {
      await again.interrupt()
    }
  })

  it('npm run build && npm start, and npm run dev: the service, from settings', async () => {
    for (const line of ['npm run build && exec npm start', 'npm run dev']) {
      expect(README).toContain(line.replace('exec ', ''))
      const settings: Record<string, string> = { ...(await demoSettings()), SIGN_SECRETS: 'secret' }
      const service = startInTerminal(`sh -c '${line}'`, settings, clone)
      try {
        await service.says('"event":"started"', START_MS_LIMIT)
        expect((await fetch(`http://127.0.0.1:${settings['PORT']}/readyz`)).status).toBe(200)
      } finally {
        await service.interrupt()
      }
    }
  })

  it('npm run -s cli -- --help lists every command that the documents name', async () => {
    expect(README).toContain('`npm run -s cli -- --help`')
    const { status, output } = await shell('npm run -s cli -- --help', clean, clone)
    expect(status).toBe(0)
    // Of the command alone: what is put into a pipe, or a shell, holds no line of npm's.
    expect(output).toMatch(/^Usage: unipay /)
    const named = new Set([...README.matchAll(/`unipay ([a-z]+)/g)].map(([, name]) => name))
    expect([...named].filter((name) => !output.includes(`  ${name} `))).toEqual([])
    expect(named.size).toBeGreaterThan(0)
  })

  it('npm run licences', async () => {
    expect((await shell('npm run -s licences', clean, clone)).output).toMatch(/ 0 not permissive\n$/)
  })
})

describe('the database’s migrations', () => {
  it('with MIGRATE_ON_START=false are waited for, unready, until unipay migrate has applied them', async () => {
    const database = await createDatabase({ migrated: false })
    const settings = { DATABASE_URL: database.url, SIGN_SECRETS: 'secret', MIGRATE_ON_START: 'false' }
    const service = await startServiceProcess(settings)
    try {
      const ready = async () => (await fetch(`${service.url}/readyz`)).status
      expect(await ready()).toBe(503)
      const migrated = await shell(`${process.execPath} dist/cli.js migrate`, { ...clean, ...settings }, clone)
      expect(migrated).toEqual({ status: 0, output: expect.stringContaining('Applied: ') as string })
      expect(await ready()).toBe(200)
    } finally {
      await service.stop()
      await database.drop()
    }
  })
})

describe('what compose.yaml starts with its sandbox profile, as processes without containers', () => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await createDatabase({ migrated: false })
  })
  afterAll(async () => {
    await database.drop()
  })

  it('is the demo: two of the service, the gateways, and the orders with their calls', async () => {
    const { PORT: _, DATA_DIR: dataDir = '', ...ports } = await demoSettings()
    const file = path.join(dataDir, 'sandbox.env')
    const node = async (args: string, more: Record<string, string> = {}) => {
      // As in the file: what the sandbox wrote counts where nothing else is said.
      const environment = { ...clean, DATABASE_URL: database.url, ...more }
      return startInTerminal(`${process.execPath} ${args}`, environment, clone)
    }
    const sandbox = await node(
      `dist/sandbox/main.js --data-dir ${dataDir} --wechat-port ${ports['DEMO_WECHAT_PORT']} --alipay-port ${ports['DEMO_ALIPAY_PORT']}`,
    )
    const started = [sandbox]
    try {
      await sandbox.says('sandbox.env', 30_000)
      const written = readFileSync(file, 'utf8').matchAll(/^([A-Z0-9_]+)='(.*)'$/gm)
      const settings = {
        ...Object.fromEntries([...written].map(([, name, value]) => [name, value])),
        SIGN_SECRETS: '123456',
        OPS_TOKENS: 'demo:demo-token',
      }
      const addresses = []
      for (const port of [await freePort(), await freePort()]) {
        const service = await node('dist/main.js', { ...settings, PORT: String(port), NODE_ENV: 'production' })
        started.push(service)
        await service.says('"event":"started"', 30_000)
        addresses.push(`http://127.0.0.1:${port}`)
      }
      const [address = '', other = ''] = addresses
      const demo = await node('dist/demo.js', {
        ...settings,
        ...ports,
        DEMO_SERVICE_URL: other,
        DEMO_SHOWN_URL: address,
      })
      started.push(demo)
      await demo.says('Ctrl-C ends everything.', 30_000)
      await playThrough(demoOrders(demo.lines()), address)
      await demo.says(/is success, signature holds/, 30_000)
      const refused = await node('dist/demo.js', { ...settings, NODE_ENV: 'production', DEMO_SERVICE_URL: address })
      expect(await refused.interrupt()).not.toBe(0)
    } finally {
      await Promise.all(started.map(async (process) => await process.interrupt()))
    }
  })
})
