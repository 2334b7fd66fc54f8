import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { newPaymentId, SECRET, startService, type TestService } from '../support/service.js'

const CLI = path.resolve(import.meta.dirname, '../../dist/cli.js')

let service: TestService
let folder: string
beforeAll(async () => {
  service = await startService()
  folder = await mkdtemp(path.join(tmpdir(), 'unipay-cli-'))
})
afterAll(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

type Ran = { status: number; stdout: string; stderr: string }

/** The built command with this service's database and gateways. Settings in `more` win; an empty one counts as unset. */
async function unipay(args: readonly string[], more: Record<string, string> = {}): Promise<Ran> {
  const env = {
    PATH: process.env['PATH'],
    DATABASE_URL: service.database.url,
    DATABASE_POOL_MAX: '4',
    SIGN_SECRETS: SECRET,
    OPS_TOKENS: 'tester:token',
    PORT: new URL(service.url).port,
    ...service.wechat.merchantSettings(),
    ...service.alipay.merchantSettings(),
    ...more,
  }
  return await new Promise((resolve) => {
    execFile(process.execPath, [CLI, ...args], { env, timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
    })
  })
}

async function paid(more: Record<string, unknown> = {}): Promise<string> {
  const id = await service.register(more)
  service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  return id
}

describe('unipay', () => {
  it('sign prints a curl line that the service takes', async () => {
    const id = await paid()
    const { status, stdout } = await unipay(['sign', id])
    expect(status).toBe(0)
    const body = /-d '(.+)'/.exec(stdout)?.[1] ?? ''
    expect(stdout).toContain(`curl -s ${service.url.replace('localhost', '127.0.0.1')}/unipay/syncPay`)
    expect(await service.post(body)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success' } })
  })

  it('sync --dry-run changes nothing, sync repairs, show tells both stories', async () => {
    const id = await paid()
    const dry = await unipay(['sync', id, '--dry-run', '--json'])
    expect(dry).toMatchObject({ status: 0 })
    expect(JSON.parse(dry.stdout)).toMatchObject({ dryRun: true, repair: true, decision: { action: 'settle' } })
    expect((await service.history(id)).syncs).toEqual([])
    const real = await unipay(['sync', `B${id}`])
    expect(real.stdout).toContain('settle')
    const shown = await unipay(['show', id, '--json'])
    expect(JSON.parse(shown.stdout)).toMatchObject({
      order: { status: 'success' },
      syncs: [{ source: 'operator', actor: expect.stringMatching(/^cli:/) }],
    })
    expect((await unipay(['show', id])).stdout).toContain('pay_success')
  })

  it('batch runs by itself and reports counts and money', async () => {
    const ids = [await paid({ createTime: '2026-02-01T00:00:00Z' }), await paid({ createTime: '2026-02-01T00:00:01Z' })]
    const window = ['--from', '2026-02-01T00:00:00Z', '--to', '2026-02-02T00:00:00Z', '--json']
    const dry = await unipay(['batch', '--dry-run', ...window])
    expect(JSON.parse(dry.stdout)).toMatchObject({ state: 'done', results: { settled: { count: 2, fen: 2000 } } })
    const real = await unipay(['batch', ...window])
    expect(real.status).toBe(0)
    expect(JSON.parse(real.stdout)).toMatchObject({ state: 'done', results: { settled: { count: 2, fen: 2000 } } })
    for (const id of ids) expect((await service.history(id)).order.status).toBe('success')
  })

  it('import says which lines did not go in, with status 1; a clean file is status 0', async () => {
    const [one, two] = [newPaymentId(), newPaymentId()]
    const line = (id: string) => JSON.stringify({ paymentId: id, businessNo: `C${id}`, channel: 'ali_pay', amount: 5 })
    const file = path.join(folder, 'orders.ndjson')
    await writeFile(file, `${line(one)}\nnot json\n`)
    const bad = await unipay(['import', file])
    expect(bad.status).toBe(1)
    expect(bad.stdout).toContain('line 2:')
    const csv = path.join(folder, 'orders.csv')
    await writeFile(csv, `paymentId,businessNo,channel,amount\n${two},C${two},ali_pay,7\n`)
    const good = await unipay(['import', csv, '--json'])
    expect(good.status).toBe(0)
    expect(JSON.parse(good.stdout)).toMatchObject({ total: 1, created: 1 })
    expect((await service.history(one)).order.status).toBe('progress')
  })

  it('exceptions, resolve, notices and redeliver work on the queues', async () => {
    const id = await service.register({ notifyUrl: 'http://127.0.0.1:9/' })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1 })
    await service.sync(id)
    const open = JSON.parse((await unipay(['exceptions', '--kind', 'amount_mismatch', '--json'])).stdout) as {
      items: { id: string; paymentId: string }[]
    }
    const found = open.items.find(({ paymentId }) => paymentId === id)
    expect((await unipay(['resolve', found?.id ?? '', 'refunded by hand'])).status).toBe(0)
    expect((await service.history(id)).exceptions).toMatchObject([{ state: 'resolved', note: 'refunded by hand' }])
    const told = await paid({ notifyUrl: 'http://127.0.0.1:9/' })
    await service.sync(told)
    const notice = (await service.history(told)).notices[0]
    expect((await unipay(['notices', '--state', 'pending'])).stdout).toContain(told)
    expect((await unipay(['redeliver', notice?.id ?? ''])).status).toBe(0)
  })

  it('a failure is status 1, a misuse status 2', async () => {
    expect(await unipay(['show', '404404'])).toMatchObject({ status: 1, stderr: expect.stringContaining('404404') })
    expect(await unipay(['exceptions', '--state', 'shut'])).toMatchObject({ status: 2 })
    expect(await unipay(['batch', '--limit', '0'])).toMatchObject({ status: 2 })
    expect(await unipay(['nonsense'])).toMatchObject({ status: 2 })
    expect(await unipay(['import', path.join(folder, 'missing.csv')])).toMatchObject({ status: 2 })
    expect(await unipay(['--help'])).toMatchObject({ status: 0 })
  })
})

describe('unipay doctor', () => {
  type Checks = { checks: { check: string; result: string; found: string; todo: string }[] }
  const checksOf = ({ stdout }: Ran) => (JSON.parse(stdout) as Checks).checks
  const failing = (ran: Ran) => checksOf(ran).filter(({ result }) => result === 'failed')

  it('finds nothing wrong where nothing is', async () => {
    const ran = await unipay(['doctor', '--json'])
    expect(failing(ran)).toEqual([])
    expect(ran.status).toBe(0)
    expect(checksOf(ran).map(({ check }) => check)).toContain('wechat_pay keys')
  })

  it('finds a wrong gateway key, an unreachable gateway, a database away, and a missing setting, and says what to do', async () => {
    const swapped = await unipay(['doctor', '--json'], {
      WECHAT_PUBLIC_KEY: service.alipay.merchantSettings()['ALIPAY_PUBLIC_KEY'] ?? '',
    })
    expect(failing(swapped)).toMatchObject([{ check: 'wechat_pay keys', todo: expect.stringContaining('public key') }])
    const down = await unipay(['doctor', '--json'], { ALIPAY_GATEWAY_URL: 'http://127.0.0.1:9/gateway.do' })
    expect(failing(down).map(({ check }) => check)).toContain('127.0.0.1:9')
    const away = await unipay(['doctor', '--json'], { DATABASE_URL: 'postgresql://nobody@127.0.0.1:9/none' })
    expect(failing(away)).toMatchObject([{ check: 'database', todo: expect.stringContaining('PostgreSQL') }])
    const unset = await unipay(['doctor', '--json'], { SIGN_SECRETS: '' })
    expect(unset.status).toBe(1)
    expect(failing(unset)).toMatchObject([{ check: 'settings', found: expect.stringContaining('SIGN_SECRETS') }])
  })
})
