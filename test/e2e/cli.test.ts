import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { commandSettings, type RunOptions, unipay as run } from '../support/cli.js'
import { createDatabase } from '../support/database.js'
import { newPaymentId, startService, type TestService } from '../support/service.js'

/** A dozen processes one after the other, on a machine that is busy with others. */
const MANY_COMMANDS_MS_MAX = 120_000

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

const unipay = async (args: readonly string[], more: Record<string, string> = {}, options: RunOptions = {}) =>
  await run({ ...commandSettings(service), ...more }, args, options)

/** Orders of one day of their own, paid there. */
async function paidOn(day: string, count: number): Promise<readonly string[]> {
  const ids: string[] = []
  for (let n = 0; n < count; n++) ids.push(await service.registerPaid({ createTime: `${day}T00:00:0${n}Z` }))
  return ids
}
const windowOf = (day: string) => ['--from', `${day}T00:00:00Z`, '--to', `${day}T12:00:00Z`]

describe('unipay sign', () => {
  it('prints a curl line that the service takes, needs no database, and quotes what a shell would read', async () => {
    const id = await service.registerPaid({ businessNo: '77001' })
    const { status, stdout } = await unipay(['sign', id], { DATABASE_URL: 'postgresql://nobody@127.0.0.1:9/none' })
    expect(status).toBe(0)
    expect(stdout).toContain(`curl -s ${service.url.replace('localhost', '127.0.0.1')}/unipay/syncPay`)
    const bodyOf = (line: string) => /-d '(.+)'/.exec(line)?.[1] ?? ''
    expect(await service.post(bodyOf(stdout))).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success' } })
    const byNumber = await unipay(['sign', '77001', '--number', '--url', 'http://a/?x&y'])
    expect(byNumber.stdout).toContain("'http://a/?x&y/unipay/syncPay'")
    expect(await service.post(bodyOf(byNumber.stdout))).toMatchObject({ code: 0 })
    expect((await unipay(['sign', "it's"])).stdout).toContain(`"businessNo":"it'\\''s"`)
    expect(await unipay(['sign', id], { SIGN_SECRETS: '', SIGN_REQUIRED: 'false' })).toMatchObject({ status: 1 })
  })

  it('--json has the call in its parts as well, for scripts that send it themselves', async () => {
    const id = await service.registerPaid()
    const made = async (order: string) =>
      JSON.parse((await unipay(['sign', order, '--json'])).stdout) as Record<'url' | 'body' | 'curl', string>
    const byId = await made(id)
    const url = `${service.url.replace('localhost', '127.0.0.1')}/unipay/syncPay`
    expect(byId).toMatchObject({ paymentId: id, url, curl: expect.stringContaining(`-d '${byId.body}'`) })
    expect(await service.post(byId.body)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success' } })
    expect(await made("it's")).toMatchObject({ businessNo: "it's", body: expect.stringContaining(`"it's"`) })
  })
})

describe('unipay sync and show', () => {
  it('sync --dry-run changes nothing, sync repairs, show tells both stories', async () => {
    const id = await service.registerPaid()
    const dry = await unipay(['sync', id, '--dry-run', '--json'])
    expect(dry).toMatchObject({ status: 0 })
    expect(JSON.parse(dry.stdout)).toMatchObject({ dryRun: true, repair: true, decision: { action: 'settle' } })
    expect((await service.history(id)).syncs).toEqual([])
    const real = await unipay(['sync', `B${id}`, '--as', 'li.lei'])
    expect(real.stdout).toContain('settle')
    const shown = await unipay(['show', id, '--json'])
    expect(JSON.parse(shown.stdout)).toMatchObject({
      order: { status: 'success' },
      syncs: [{ source: 'operator', actor: 'cli:li.lei' }],
      repairs: [{ actor: 'cli:li.lei' }],
    })
    expect((await unipay(['show', id])).stdout).toContain('pay_success')
  })

  it('says in a sentence why nothing was done, with status 1', async () => {
    const [forged, none, foreign] = [
      await service.registerPaid(),
      await service.register({ channel: null }),
      await service.register({ channel: 'union_pay' }),
    ]
    service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 3, outTradeNo: forged }])
    const why = async (id: string) => await unipay(['sync', id])
    expect(await why(forged)).toMatchObject({ status: 1, stderr: expect.stringContaining('Nothing changed here.') })
    expect(await why(none)).toMatchObject({ status: 1, stderr: expect.stringContaining('nobody to ask') })
    expect(await why(foreign)).toMatchObject({ status: 1, stderr: expect.stringContaining('union_pay is not') })
    expect(await why('404404')).toMatchObject({ status: 1, stderr: expect.stringContaining('404404') })

    const expired = await service.register({ expiredTime: new Date(Date.now() - 60_000).toISOString() })
    service.wechat.putTrade(expired, { state: 'NOTPAY', amount: 1000 })
    const hold = service.wechat.holdNext('close', expired)
    const told = why(expired)
    await hold.arrived
    service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 3, outTradeNo: expired }])
    hold.release()
    expect(await told).toMatchObject({ status: 1, stderr: expect.stringContaining('asked to close or reverse') })
  })
})

describe('unipay batch', () => {
  it('runs by itself, says what it took, and reports counts and money; a dry run first', async () => {
    const ids = await paidOn('2026-02-01', 2)
    const dry = await unipay(['batch', '--dry-run', '--status', 'progress', ...windowOf('2026-02-01')])
    expect(dry.status).toBe(0)
    expect(dry.stdout).toMatch(
      /\(dry run: nothing was changed\): done, 2 of 2; any channel, progress, from 2026-02-01T00:00:00Z/,
    )
    expect(dry.stdout).toMatch(/settled +│ 2 +│ 2000 │ 20\.00/)
    expect(dry.stderr).toContain('settled 2')
    const real = await unipay(['batch', '--as', 'han', ...windowOf('2026-02-01'), '--json'])
    expect(real).toMatchObject({ status: 0, stderr: '' })
    const report = JSON.parse(real.stdout) as { id: string }
    expect(report).toMatchObject({ actor: 'cli:han', state: 'done', results: { settled: { count: 2, fen: 2000 } } })
    for (const id of ids) expect((await service.history(id)).order.status).toBe('success')
    const listed = JSON.parse((await unipay(['batches', '--limit', '1', '--json'])).stdout) as { nextCursor: string }
    expect(listed).toMatchObject({ items: [{ id: report.id, total: 2 }], nextCursor: report.id })
    expect((await unipay(['batches', '--before', listed.nextCursor])).stdout).toContain('│ yes')
    expect(JSON.parse((await unipay(['batch', '--show', report.id, '--json'])).stdout)).toEqual(report)
  })

  it('only watches where another process has the claim, and takes over once that one is dead', async () => {
    await paidOn('2026-02-03', 3)
    const { body } = await service.ops('POST', '/ops/batches', {
      createdFrom: '2026-02-03T00:00:00Z',
      createdTo: '2026-02-03T12:00:00Z',
    })
    const { id } = body as { id: string }
    const claim = `UPDATE batches SET claim_token = gen_random_uuid(), claim_expires_at = clock_timestamp() + $2::interval WHERE id = $1`
    await service.pool.query(claim, [id, '2 seconds'])
    const startedMs = performance.now()
    const watched = await unipay(['batch', '--resume', id, '--json'])
    expect(JSON.parse(watched.stdout)).toMatchObject({ state: 'done', results: { settled: { count: 3, fen: 3000 } } })
    expect(performance.now() - startedMs).toBeGreaterThan(1_500)
  })

  it('of one that is over cancels nothing, and asks again, when resumed, about what could not be told', async () => {
    const [id] = await paidOn('2026-02-05', 1)
    service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 1, outTradeNo: id ?? '' }])
    const untold = await unipay(['batch', ...windowOf('2026-02-05')])
    expect(untold).toMatchObject({ status: 1, stderr: expect.stringContaining('unipay batch --resume ') })
    const batchId = /--resume (\d+)/.exec(untold.stderr)?.[1] ?? ''
    expect(await unipay(['batch', '--cancel', batchId])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('not running: done'),
    })
    expect(await unipay(['batch', '--resume', batchId])).toMatchObject({ status: 0 })
    expect((await service.history(id ?? '')).order.status).toBe('success')
    expect(await unipay(['batch', '--resume', '999999'])).toMatchObject({ status: 1 })
  })

  it('over nothing says so', async () => {
    const none = await unipay(['batch', ...windowOf('2026-02-07')])
    expect(none).toMatchObject({ status: 0, stdout: expect.stringContaining('No order of a channel') })
    const recent = await unipay(['batch', '--from', '2m', '--dry-run', '--json'])
    const { filter } = JSON.parse(recent.stdout) as { filter: { createdFrom: string } }
    expect(Math.abs(Date.now() - 120_000 - Date.parse(filter.createdFrom))).toBeLessThan(60_000)
  })
})

describe('unipay import', () => {
  const line = (id: string) => JSON.stringify({ paymentId: id, businessNo: `C${id}`, channel: 'ali_pay', amount: 5 })

  it('says which lines did not go in, with status 1; a clean file is status 0', async () => {
    const [one, two] = [newPaymentId(), newPaymentId()]
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
    await writeFile(csv, 'paymentId,businessNo,Channel,amount\n7,C7,ali_pay,7\n')
    expect(await unipay(['import', csv, '--json'])).toEqual({
      status: 1,
      stdout: '',
      stderr:
        'The head line has no column channel; has a column Channel, which no order has (channel?). Nothing was registered.\n',
    })
    await writeFile(csv, '')
    const empty = await unipay(['import', csv])
    expect(empty).toMatchObject({ status: 1, stderr: expect.stringContaining('The head line is missing.') })
  })

  it('reads standard input as well, in either format', async () => {
    const [one, two] = [newPaymentId(), newPaymentId()]
    const ndjson = await unipay(['import', '-', '--json'], {}, { stdin: `${line(one)}\n` })
    expect(JSON.parse(ndjson.stdout)).toMatchObject({ total: 1, created: 1 })
    const csv = await unipay(
      ['import', '-', '--format', 'csv'],
      {},
      { stdin: `paymentId,businessNo,channel,amount\n${two},C${two},ali_pay,7\n` },
    )
    expect(csv).toMatchObject({ status: 0, stderr: expect.stringContaining('1 orders, 0 bad') })
  })
})

describe('unipay exceptions, resolve, notices and redeliver', () => {
  it('never send a terminal what a stored text would have it do', async () => {
    const businessNo = `\u001B]0;owned\u0007\u202Egnp\r${Date.now()}`
    const id = await service.register({ businessNo })
    const shown = await unipay(['show', id])
    // oxlint-disable-next-line no-control-regex -- Controls are what is looked for.
    expect(shown.stdout).not.toMatch(/[\u001B\u0007\u202E\r]/)
    expect(shown.stdout).toContain('⟨U+202E⟩')
    const kept = JSON.parse((await unipay(['show', id, '--json'])).stdout) as { order: { businessNo: string } }
    expect(kept.order.businessNo).toBe(businessNo)
  })

  it('close a finding once, with who and why', async () => {
    const id = await service.register({ notifyUrl: 'http://127.0.0.1:9/' })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1 })
    await service.sync(id)
    const open = JSON.parse((await unipay(['exceptions', '--kind', 'amount_mismatch', '--json'])).stdout) as {
      items: { id: string; paymentId: string }[]
    }
    const found = open.items.find(({ paymentId }) => paymentId === id)
    const resolved = await unipay(['resolve', found?.id ?? '', 'refunded by hand', '--as', 'mei'])
    expect(resolved.status).toBe(0)
    expect((await service.history(id)).exceptions).toMatchObject([
      { state: 'resolved', note: 'refunded by hand', resolvedBy: 'cli:mei' },
    ])
    expect(await unipay(['resolve', found?.id ?? '', 'again'])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('by cli:mei already'),
    })
  })

  it('list notices page by page, and send one or all of a state again', async () => {
    const told = [
      await service.registerPaid({ notifyUrl: 'http://127.0.0.1:9/' }),
      await service.registerPaid({ notifyUrl: 'http://127.0.0.1:9/' }),
    ]
    for (const order of told) await service.sync(order)
    const page = await unipay(['notices', '--state', 'pending', '--limit', '1'])
    const before = /There are more: --before (\d+)/.exec(page.stdout)?.[1] ?? ''
    expect((await unipay(['notices', '--state', 'pending', '--before', before])).stdout).toContain(told[0])
    await service.pool.query(`UPDATE notices SET state = 'dead', attempts = 16, next_attempt_at = NULL`)
    expect((await unipay(['redeliver', before])).stdout).toContain(`Notice ${before} is due now`)
    const others = await unipay(['redeliver', '--state', 'dead', '--json'])
    expect((JSON.parse(others.stdout) as { redelivered: string[] }).redelivered).not.toContain(before)
    const { rows } = await service.pool.query(`SELECT 1 FROM notices WHERE state <> 'pending'`)
    expect(rows).toEqual([])
    expect(await unipay(['redeliver', '999999'])).toMatchObject({ status: 1 })
  })

  it('send what can be sent of those named, and say which cannot and why', async () => {
    const late = await service.registerPaidLate()
    const [newer, older] = (await service.history(late)).notices
    const named = [older?.id ?? '', '999998', newer?.id ?? '', '999999']
    const some = await unipay(['redeliver', ...named])
    expect(some).toMatchObject({ status: 1, stdout: `Notice ${newer?.id} is due now; a running courier sends it.\n` })
    expect(some.stderr.trim().split('\n')).toEqual([
      `Notice ${older?.id} tells a state that is over: a newer notice of the same order exists.`,
      'There is no notice 999998.',
      'There is no notice 999999.',
    ])
    const json = await unipay(['redeliver', ...named, '--json'])
    expect(json.status).toBe(1)
    expect(JSON.parse(json.stdout)).toEqual({ redelivered: [newer?.id] })
    expect(await unipay(['redeliver', '999999'])).toMatchObject({ status: 1, stdout: 'No notice was made due.\n' })
  })

  it('of a whole state tell how far they are', async () => {
    const id = await service.registerPaid({ notifyUrl: 'http://127.0.0.1:9/' })
    await service.sync(id)
    const all = await unipay(['redeliver', '--state', 'pending'])
    expect(all).toMatchObject({ status: 0, stderr: expect.stringMatching(/redeliver \| \d+ due/) })
  })

  it('a notice of whose order a newer one exists is listed and not sent again', async () => {
    const late = await service.registerPaidLate()
    const [newer, older] = (await service.history(late)).notices
    expect((await unipay(['notices', '--state', 'superseded'])).stdout).toMatch(new RegExp(`${older?.id}.*${late}`))
    expect(await unipay(['redeliver', older?.id ?? ''])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('a newer notice of the same order exists'),
    })
    expect(await unipay(['redeliver', newer?.id ?? ''])).toMatchObject({ status: 0 })
  })
})

describe('a wrong word', () => {
  it.each([
    [['nonsense'], 'unknown command'],
    [['sync'], 'missing required argument'],
    [['exceptions', '--state', 'shut'], '--state is one of open, resolved'],
    [['exceptions', '--kind', 'odd'], '--kind is one of'],
    [['notices', '--limit', '0'], '--limit is a whole number from 1 to 200'],
    [['notices', '--before', 'x'], 'x is not a number'],
    [['batch', '--limit', '0'], '--limit is a whole number'],
    [['batch', '--limit', 'ten'], '--limit is a whole number'],
    [['batch', '--rate', '-1'], '--rate is a whole number'],
    [['batch', '--channel', 'cash'], '--channel is one of wechat_pay, ali_pay'],
    [['batch', '--from', 'yesterday'], '--from is a time such as'],
    [['batch', '--from', '1h', '--to', '2h'], '--from is not before --to'],
    [['batch', '--resume', '1', '--status', 'close'], 'one of them at a time'],
    [['batch', '--show', 'x'], "x is not a batch's number"],
    [['resolve', '1', ' '], 'The note says why'],
    [['redeliver'], 'Name notices by their ids'],
    [['redeliver', '--state', 'delivered'], '--state is one of pending, dead'],
    [['sync', '1', '--as', 'a b'], '--as is a name'],
    [['import', '/nowhere/orders.csv'], 'cannot be read: ENOENT'],
    [['import', '/'], 'is a folder'],
    [['import', '-', '--format', 'xml'], '--format is ndjson or csv'],
  ])('%j is status 2 and one clear line', async (args, line) => {
    const { status, stdout, stderr } = await unipay(args)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toContain(line)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })

  it('and asking for help, or for the version, is status 0', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string
    }
    expect(await unipay(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n` })
    expect(await unipay(['--help'])).toMatchObject({ status: 0, stdout: expect.stringContaining('doctor') })
    expect(await unipay(['batch', '--help'])).toMatchObject({ status: 0 })
  })
})

describe('what stands in the way', () => {
  it(
    'is one clear line with status 1: a database away, one that is not migrated, a setting, a key',
    async () => {
      const empty = await createDatabase({ migrated: false })
      const stories: readonly (readonly [Record<string, string>, string])[] = [
        [{ DATABASE_URL: 'postgresql://nobody@127.0.0.1:9/none' }, 'database not reachable'],
        [{ DATABASE_URL: empty.url }, 'database not migrated'],
        [{ SIGN_SECRETS: '' }, 'SIGN_SECRETS is missing'],
        [{ WECHAT_PRIVATE_KEY: 'no key' }, 'WECHAT_PRIVATE_KEY is not a private key'],
        [{ DATABASE_URL: 'foo' }, 'DATABASE_URL must be a postgres:// or postgresql:// URL'],
      ]
      try {
        for (const [settings, line] of stories) {
          const { status, stderr } = await unipay(['exceptions'], settings)
          expect([status, stderr]).toEqual([1, expect.stringContaining(line)])
          expect(stderr).not.toMatch(/^ {4}at /m)
        }
        expect(await unipay(['migrate'], { DATABASE_URL: empty.url })).toMatchObject({ status: 0 })
        expect((await unipay(['migrate'], { DATABASE_URL: empty.url })).stdout).toContain('Nothing to do')
        expect(await unipay(['exceptions'], { DATABASE_URL: empty.url })).toMatchObject({ status: 0 })
      } finally {
        await empty.drop()
      }
    },
    MANY_COMMANDS_MS_MAX,
  )
})
