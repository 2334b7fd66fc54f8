import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { createMerchantSandbox, type MerchantSandbox } from '../../src/sandbox/merchant.js'
import { createNotices } from '../../src/store/notices.js'
import { finishRounds, makeNoticesDue } from '../support/rounds.js'
import { SECRET, startService, type TestService } from '../support/service.js'

/** CONTRACT: sent at 0 s, then after these. */
const DISTANCES_S = [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600]

type Merchant = Readonly<{ sandbox: MerchantSandbox; url: string }>
type Attempt = { outcome: string; http_status: number | null; excerpt: string; duration_ms: number }

let service: TestService
let merchants: Merchant[] = []

beforeEach(async () => {
  service = await startService()
})
afterEach(async () => {
  await service.stop()
  await Promise.all(merchants.map(async ({ sandbox }) => await sandbox.close()))
  merchants = []
})

async function openMerchant(): Promise<Merchant> {
  const sandbox = createMerchantSandbox({ secrets: [SECRET], signType: 'MD5' })
  const merchant = { sandbox, url: (await sandbox.listen()).url }
  merchants.push(merchant)
  return merchant
}

/** A paid order whose notice waits to be sent to `notifyUrl`. Its number comes back. */
async function noticeTo(notifyUrl: string, from = service): Promise<string> {
  const id = await from.register({ notifyUrl, attach: '"quoted" \\ 附' })
  from.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  expect(await from.sync(id)).toMatchObject({ code: 0, data: { repair: true } })
  return id
}

async function noticeOf(id: string) {
  const { rows } = await service.pool.query<{ id: string; state: string; attempts: number; due_s: number | null }>(
    `SELECT id, state, attempts, extract(epoch FROM next_attempt_at - clock_timestamp())::float8 AS due_s
     FROM notices WHERE order_id = $1`,
    [id],
  )
  const { rows: attempts } = await service.pool.query<Attempt>(
    `SELECT outcome, http_status, excerpt, duration_ms FROM notice_attempts
     WHERE notice_id = (SELECT id FROM notices WHERE order_id = $1) ORDER BY id`,
    [id],
  )
  return { ...rows[0], attempts: rows[0]?.attempts, tries: attempts }
}

/** Thousands of due notices for one host, as an outage of a merchant leaves them. */
async function backlogFor(url: string, count: number): Promise<void> {
  const id = await noticeTo(url)
  await service.pool.query('ALTER TABLE notices DISABLE TRIGGER ALL')
  await service.pool.query(
    `INSERT INTO notices (order_id, repair_no, trace_id, url, host, payload, next_attempt_at)
     SELECT order_id, -n, trace_id, url, host, payload, now() - interval '1 day'
     FROM notices, generate_series(1, $2) AS n WHERE order_id = $1 AND repair_no > 0`,
    [id, count],
  )
}

describe('a merchant who answers', () => {
  it('hears once of a repair, with a payload that its own verification accepts, and of nothing else', async () => {
    const { sandbox, url } = await openMerchant()
    const id = await noticeTo(`${url}/pay/notice?a=1`)
    await service.sync(id)
    await finishRounds(service.service.courier)
    const notices = sandbox.notices()
    expect(notices).toMatchObject([{ path: '/pay/notice?a=1', contentType: 'application/json', verified: true }])
    expect(notices[0]?.body).toEqual({
      paymentId: id,
      businessNo: `B${id}`,
      asyncPay: true,
      asyncChannel: 'wechat_pay',
      amount: 1000,
      payChannels: [{ channel: 'wechat_pay', way: expect.any(String), amount: 1000 }],
      status: 'success',
      createTime: expect.any(Number),
      payTime: expect.any(Number),
      closeTime: null,
      attach: '"quoted" \\ 附',
      sign: expect.stringMatching(/^[0-9a-f]{32}$/),
    })
    expect(await noticeOf(id)).toMatchObject({
      state: 'delivered',
      attempts: 1,
      due_s: null,
      tries: [{ outcome: 'delivered', http_status: 200, excerpt: 'SUCCESS' }],
    })
  })

  it('blanks around SUCCESS do no harm', async () => {
    const { sandbox, url } = await openMerchant()
    sandbox.behave('padded_success')
    const id = await noticeTo(url)
    await finishRounds(service.service.courier)
    expect(await noticeOf(id)).toMatchObject({ state: 'delivered' })
  })

  it('two couriers at once: each notice arrives exactly once', async () => {
    const { sandbox, url } = await openMerchant()
    await backlogFor(url, 300)
    const other = await startService({ database: service.database, sandboxes: service })
    try {
      await Promise.all([finishRounds(service.service.courier), finishRounds(other.service.courier)])
      expect(sandbox.notices()).toHaveLength(301)
      const { rows } = await service.pool.query('SELECT DISTINCT state, attempts FROM notices')
      expect(rows).toEqual([{ state: 'delivered', attempts: 1 }])
    } finally {
      await other.stop()
    }
  })
})

describe('a merchant who does not take the notice', () => {
  it.each([
    ['lower_case_success', 'refused', 200, 'success'],
    ['fail', 'refused', 200, 'FAIL'],
    ['error_500', 'refused', 500, 'SUCCESS'],
    ['redirect', 'refused', 307, ''],
    ['reset', 'unreachable', null, 'ECONNRESET'],
  ] as const)(
    '%s: sent 16 times on the schedule, each recorded, then dead; redelivered on request',
    async (behaviour, outcome, status, excerpt) => {
      const { sandbox, url } = await openMerchant()
      sandbox.behave(behaviour)
      const id = await noticeTo(`${url}/n`)
      const { courier, database } = service.service
      for (const distanceS of DISTANCES_S) {
        await finishRounds(courier)
        const { state, due_s: dueS } = await noticeOf(id)
        expect(state).toBe('pending')
        expect(dueS).toBeGreaterThan(distanceS - 5)
        expect(dueS).toBeLessThanOrEqual(distanceS)
        await makeNoticesDue(service.pool)
      }
      await finishRounds(courier)
      const dead = await noticeOf(id)
      expect(dead).toMatchObject({ state: 'dead', attempts: 16 })
      expect(dead.tries).toHaveLength(16)
      for (const attempt of dead.tries) {
        expect(attempt).toMatchObject({ outcome, http_status: status, excerpt: expect.stringContaining(excerpt) })
      }
      // Not one of them went where a redirect pointed.
      expect(sandbox.notices().map((notice) => notice.path)).toEqual(Array.from({ length: 16 }, () => '/n'))

      sandbox.behave('accept')
      expect(await createNotices(database.prisma).redeliver(BigInt(dead.id ?? '0'))).not.toBeNull()
      await finishRounds(courier)
      expect(await noticeOf(id)).toMatchObject({ state: 'delivered', attempts: 1 })
    },
  )

  it('hangs, or streams forever: given up within 5 s and 64 KiB, and asked again', async () => {
    const [hanging, endless] = [await openMerchant(), await openMerchant()]
    hanging.sandbox.behave('hang')
    endless.sandbox.behave('endless')
    const [hung, poured] = [await noticeTo(hanging.url), await noticeTo(endless.url)]
    await finishRounds(service.service.courier)
    const slow = await noticeOf(hung)
    expect(slow).toMatchObject({ state: 'pending', attempts: 1, tries: [{ outcome: 'timeout', http_status: null }] })
    expect(slow.tries[0]?.duration_ms).toBeLessThan(5_500)
    const cut = await noticeOf(poured)
    expect(cut).toMatchObject({
      state: 'pending',
      attempts: 1,
      tries: [{ outcome: 'refused', http_status: 200, excerpt: 'S'.repeat(200) }],
    })
    expect(cut.tries[0]?.duration_ms).toBeLessThan(4_000)
  })

  it('an answer that comes drop by drop ends at 5 s, and what came of it is recorded', async () => {
    const timers: NodeJS.Timeout[] = []
    const server = createServer((_request, response) => {
      response.writeHead(200)
      timers.push(setInterval(() => response.write('S'), 50))
    })
    const url = await listening(server)
    try {
      const id = await noticeTo(url)
      await finishRounds(service.service.courier)
      const { state, tries } = await noticeOf(id)
      expect(state).toBe('pending')
      expect(tries).toMatchObject([{ outcome: 'timeout', http_status: 200, excerpt: expect.stringMatching(/^S+$/) }])
      expect(tries[0]?.duration_ms).toBeLessThan(5_500)
    } finally {
      for (const timer of timers) clearInterval(timer)
      server.closeAllConnections()
      server.close()
    }
  })

  it('thousands of notices due at a merchant who hangs hold up nobody', async () => {
    const [hanging, healthy] = [await openMerchant(), await openMerchant()]
    hanging.sandbox.behave('hang')
    await backlogFor(hanging.url, 20_000)
    await service.pool.query('ANALYZE notices')
    const { courier } = service.service
    while (await courier.runOnce());
    // Every place that the hanging host may have is taken; the other's notice is the newest of all.
    const id = await noticeTo(healthy.url)
    const startedMs = performance.now()
    await courier.runOnce()
    await healthy.sandbox.waitForNotices(1)
    expect(performance.now() - startedMs).toBeLessThan(1_000)
    expect(hanging.sandbox.notices().length).toBeLessThanOrEqual(8)
    await courier.drain()
    expect(await noticeOf(id)).toMatchObject({ state: 'delivered' })
  })
})

describe('what is not sent at all', () => {
  it('a host that is not on the list, another protocol, and what is no URL are recorded as not allowed', async () => {
    const { sandbox, url } = await openMerchant()
    const strict = await startService({
      database: service.database,
      sandboxes: service,
      environment: { NOTICE_ALLOW_HOSTS: 'merchant.example' },
    })
    try {
      const elsewhere = await noticeTo(url, strict)
      const ids = [elsewhere]
      for (const badUrl of ['file:///etc/passwd', 'no url']) {
        const id = await noticeTo(url, strict)
        await service.pool.query('UPDATE notices SET url = $2, host = $3 WHERE order_id = $1', [id, badUrl, ''])
        ids.push(id)
      }
      await finishRounds(strict.service.courier)
      for (const id of ids) {
        expect(await noticeOf(id)).toMatchObject({ state: 'pending', attempts: 1, tries: [{ outcome: 'not_allowed' }] })
      }
      expect(sandbox.notices()).toEqual([])
    } finally {
      await strict.stop()
    }
  })
})

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
