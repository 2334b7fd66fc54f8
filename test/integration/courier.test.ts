import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { createLog } from '../../src/log.js'
import { createCourier } from '../../src/notify/courier.js'
import { createMerchantSandbox, type MerchantSandbox } from '../../src/sandbox/merchant.js'
import { createNotices } from '../../src/store/notices.js'
import { createOutbox } from '../../src/store/outbox.js'
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

  it.each([200, 201, 302, 400, 404, 500, 503])('SUCCESS counts, whatever the status: %i', async (status) => {
    const paths: unknown[] = []
    const server = createServer((request, response) => {
      paths.push(request.url)
      response.writeHead(status, { location: '/elsewhere' }).end('SUCCESS')
    })
    const url = await listening(server)
    try {
      const id = await noticeTo(`${url}/n`)
      await finishRounds(service.service.courier)
      expect(await noticeOf(id)).toMatchObject({
        state: 'delivered',
        attempts: 1,
        tries: [{ outcome: 'delivered', http_status: status, excerpt: 'SUCCESS' }],
      })
      // A redirect is an answer like any other: it leads nowhere.
      expect(paths).toEqual(['/n'])
    } finally {
      server.closeAllConnections()
      server.close()
    }
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
    ['error_500', 'refused', 500, 'Internal Server Error'],
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
      expect(await createNotices(database.prisma).redeliver(BigInt(dead.id ?? '0'))).toMatchObject({
        kind: 'redelivered',
      })
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

describe('an order of which there is something newer to tell', () => {
  type Told = { state: string; attempts: number; outcomes: string[]; due_s: number | null }

  /** Closed here, its `close` notice written; then paid there after all. */
  async function closedThenPaid(notifyUrl: string): Promise<string> {
    const id = await service.register({ notifyUrl })
    service.wechat.putTrade(id, { state: 'CLOSED', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: true } })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    return id
  }

  async function settle(id: string): Promise<void> {
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  }

  /** The notices of one order, oldest first. */
  async function toldOf(id: string): Promise<readonly Told[]> {
    const { rows } = await service.pool.query<Told>(
      `SELECT state, attempts, ARRAY(SELECT outcome FROM notice_attempts WHERE notice_id = n.id ORDER BY id)::text[] AS outcomes,
         extract(epoch FROM next_attempt_at - clock_timestamp())::float8 AS due_s
       FROM notices n WHERE order_id = $1 ORDER BY id`,
      [id],
    )
    return rows
  }

  /** A merchant whose answer to the first notice waits until the test gives it. */
  async function slowMerchant() {
    const statuses: unknown[] = []
    let answerFirst: (text: string) => void = () => undefined
    let arrived: () => void = () => undefined
    const first = new Promise<void>((resolve) => {
      arrived = resolve
    })
    const server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        statuses.push((JSON.parse(Buffer.concat(chunks).toString()) as { status: string }).status)
        if (statuses.length > 1) response.end('SUCCESS')
        else answerFirst = (text) => void response.end(text)
        arrived()
      })
    })
    const url = await listening(server)
    const close = () => {
      server.closeAllConnections()
      server.close()
    }
    return { url, statuses, first, answerFirst: (text: string) => answerFirst(text), close }
  }

  /** More than the 5 s that a send may take. */
  function expectWaiting(told: Told | undefined): void {
    expect(told?.state).toBe('pending')
    expect(told?.due_s).toBeGreaterThan(5)
    expect(told?.due_s).toBeLessThanOrEqual(10)
  }

  async function redeliverNewest(id: string): Promise<void> {
    const [newest] = (await service.history(id)).notices
    expect(await service.ops('POST', `/ops/notices/${newest?.id}/redeliver`)).toMatchObject({
      status: 200,
      body: { state: 'pending', attempts: 0 },
    })
  }

  it('a close that was not taken is not sent again once the order is settled', async () => {
    const { sandbox, url } = await openMerchant()
    const { courier } = service.service
    sandbox.behave('fail', 1)
    const id = await closedThenPaid(url)
    await finishRounds(courier)
    await settle(id)
    for (let round = 0; round < 2; round++) {
      await finishRounds(courier)
      await makeNoticesDue(service.pool)
    }
    expect(sandbox.notices().map(({ body }) => body['status'])).toEqual(['close', 'success'])
    expect(await toldOf(id)).toEqual([
      { state: 'superseded', attempts: 1, outcomes: ['refused'], due_s: null },
      { state: 'delivered', attempts: 1, outcomes: ['delivered'], due_s: null },
    ])
  })

  it('one that was given up need not be told any more; one that was delivered stays so', async () => {
    const { url } = await openMerchant()
    for (const [before, after] of [
      ['dead', 'superseded'],
      ['delivered', 'delivered'],
    ] as const) {
      const id = await closedThenPaid(url)
      await service.pool.query(
        `UPDATE notices SET state = $2::text, next_attempt_at = NULL, delivered_at = CASE $2::text WHEN 'delivered' THEN now() END
         WHERE order_id = $1`,
        [id, before],
      )
      await settle(id)
      const [older, newer] = await toldOf(id)
      expect([older?.state, newer?.state]).toEqual([after, 'pending'])
      expect(newer?.due_s).toBeLessThanOrEqual(0)
    }
  })

  it.each([
    ['SUCCESS', 'delivered', 'delivered'],
    ['FAIL', 'superseded', 'refused'],
  ] as const)(
    'being sent while the order is settled, answered %s: recorded, %s, and the newer one waits for its end',
    async (answer, state, outcome) => {
      const merchant = await slowMerchant()
      const { courier } = service.service
      try {
        const id = await closedThenPaid(merchant.url)
        // Even its last send is no death any more.
        await service.pool.query('UPDATE notices SET attempts = 15 WHERE order_id = $1', [id])
        await courier.runOnce()
        await merchant.first
        await settle(id)
        const [older, newer] = await toldOf(id)
        expect([older?.state, newer?.state]).toEqual(['superseded', 'pending'])
        expectWaiting(newer)
        expect(await courier.runOnce()).toBe(false)
        merchant.answerFirst(answer)
        await courier.drain()
        expect((await toldOf(id))[0]).toEqual({ state, attempts: 16, outcomes: [outcome], due_s: null })
        await makeNoticesDue(service.pool)
        await finishRounds(courier)
        expect(merchant.statuses).toEqual(['close', 'success'])
        expect((await toldOf(id))[1]).toMatchObject({ state: 'delivered' })
      } finally {
        merchant.close()
      }
    },
  )

  it('being sent while the newer one is redelivered: that waits for its end, and not after it', async () => {
    const merchant = await slowMerchant()
    const { courier } = service.service
    try {
      const id = await closedThenPaid(merchant.url)
      await courier.runOnce()
      await merchant.first
      await settle(id)
      await redeliverNewest(id)
      expectWaiting((await toldOf(id))[1])
      expect(await courier.runOnce()).toBe(false)
      merchant.answerFirst('FAIL')
      await courier.drain()
      await redeliverNewest(id)
      await finishRounds(courier)
      expect(merchant.statuses).toEqual(['close', 'success'])
      expect(await toldOf(id)).toMatchObject([{ state: 'superseded' }, { state: 'delivered' }])
    } finally {
      merchant.close()
    }
  })

  it('being sent and redelivered while the order is settled: recorded, and the newer one waits for its end', async () => {
    const merchant = await slowMerchant()
    const { courier } = service.service
    try {
      const id = await closedThenPaid(merchant.url)
      await courier.runOnce()
      await merchant.first
      await redeliverNewest(id)
      expect(await courier.runOnce()).toBe(false)
      await settle(id)
      expectWaiting((await toldOf(id))[1])
      expect(await courier.runOnce()).toBe(false)
      merchant.answerFirst('FAIL')
      await courier.drain()
      expect((await toldOf(id))[0]).toEqual({ state: 'superseded', attempts: 1, outcomes: ['refused'], due_s: null })
    } finally {
      merchant.close()
    }
  })

  it.each([
    ['SUCCESS', { state: 'delivered', attempts: 1, outcomes: ['delivered'] }],
    ['FAIL', { state: 'pending', attempts: 1, outcomes: ['refused'] }],
  ] as const)(
    'redelivered during its last send, answered %s: that is the first of its new schedule',
    async (answer, told) => {
      const merchant = await slowMerchant()
      const { courier } = service.service
      try {
        const id = await closedThenPaid(merchant.url)
        await service.pool.query('UPDATE notices SET attempts = 15 WHERE order_id = $1', [id])
        await courier.runOnce()
        await merchant.first
        await redeliverNewest(id)
        merchant.answerFirst(answer)
        await courier.drain()
        const [after] = await toldOf(id)
        expect(after).toMatchObject(told)
        if (answer === 'FAIL') expect(after?.due_s).toBeLessThanOrEqual(0)
      } finally {
        merchant.close()
      }
    },
  )

  it('claimed by a process that died: the newer one is due at once', async () => {
    const { url } = await openMerchant()
    const id = await closedThenPaid(url)
    await service.pool.query(
      `UPDATE notices SET claim_token = gen_random_uuid(), next_attempt_at = now() - interval '1 second' WHERE order_id = $1`,
      [id],
    )
    await settle(id)
    const [older, newer] = await toldOf(id)
    expect(older?.state).toBe('superseded')
    expect(newer?.due_s).toBeLessThanOrEqual(0)
  })

  it.each(['redelivery', 'commit'] as const)(
    'sent again while the order is settled, the %s first: the older one ends all the same',
    async (first) => {
      const { url } = await openMerchant()
      const id = await closedThenPaid(url)
      await finishRounds(service.service.courier)
      expect(await toldOf(id)).toMatchObject([{ state: 'delivered' }])
      const [notice] = (await service.history(id)).notices
      // Both have begun, with the order as they found it, and wait for the older notice's row, one after the other.
      const blocker = await service.pool.connect()
      await blocker.query('BEGIN')
      await blocker.query('SELECT 1 FROM notices WHERE order_id = $1 FOR UPDATE', [id])
      const waiting = async () =>
        (
          await service.pool.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
          )
        ).rowCount
      const begun: Promise<unknown>[] = []
      const redelivery = async () => await service.ops('POST', `/ops/notices/${notice?.id}/redeliver`)
      const steps = first === 'commit' ? [settle.bind(null, id), redelivery] : [redelivery, settle.bind(null, id)]
      for (const [index, step] of steps.entries()) {
        begun.push(step())
        await expect.poll(waiting, { timeout: 10_000, interval: 5 }).toBe(index + 1)
      }
      await blocker.query('COMMIT')
      blocker.release()
      const answers = await Promise.all(begun)
      const refused = answers.filter((answer) => (answer as { status: number } | undefined)?.status === 409)
      expect(refused).toHaveLength(first === 'commit' ? 1 : 0)
      expect(await toldOf(id)).toMatchObject([
        { state: first === 'commit' ? 'delivered' : 'superseded' },
        { state: 'pending' },
      ])
    },
  )
})

describe('a courier that was stopped between its claim and its send', () => {
  /** As SIGSTOP, or a machine that is moved, stops one; the test lets it go on. A stopped machine's monotonic clock stands still. */
  async function stoppedCourier(clock: Readonly<{ monotonicMs: () => number; now: () => number }>) {
    const outbox = createOutbox(service.pool)
    let claimed: () => void = () => undefined
    let goOn: () => void = () => undefined
    const isClaimed = new Promise<void>((resolve) => {
      claimed = resolve
    })
    const isGoingOn = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const courier = createCourier({
      outbox: {
        ...outbox,
        claim: async (...asked) => {
          const notices = await outbox.claim(...asked)
          claimed()
          await isGoingOn
          return notices
        },
      },
      signing: { secret: SECRET, type: 'MD5' },
      allowHosts: [],
      log: createLog('silent'),
      observer: { attempted: () => undefined, delivered: () => undefined, died: () => undefined },
      ...clock,
    })
    const round = courier.runOnce()
    await isClaimed
    return async () => {
      goOn()
      await round
      await courier.drain()
      courier.close()
    }
  }

  it.each([
    ['its process', { monotonicMs: 5_001, wallMs: 5_001 }],
    ['its machine', { monotonicMs: 0, wallMs: 5_001 }],
    ['its process, and the clock set back', { monotonicMs: 5_001, wallMs: -3_600_000 }],
  ])('%s: does not tell what is over after what is newer', async (_stopped, passed) => {
    const { sandbox, url } = await openMerchant()
    const id = await service.register({ notifyUrl: url })
    service.wechat.putTrade(id, { state: 'CLOSED', amount: 1000 })
    await service.sync(id)
    const clock = { monotonicMs: performance.now(), wallMs: Date.now() }
    const goOn = await stoppedCourier({ monotonicMs: () => clock.monotonicMs, now: () => clock.wallMs })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ data: { gatewayStatus: 'pay_success', repair: true } })
    await makeNoticesDue(service.pool)
    await finishRounds(service.service.courier)
    clock.monotonicMs += passed.monotonicMs
    clock.wallMs += passed.wallMs
    await goOn()
    expect(sandbox.notices().map(({ body }) => body['status'])).toEqual(['success'])
  })

  it('leaves what it did not send as it was: due again once the claim is over, no send counted', async () => {
    const { sandbox, url } = await openMerchant()
    const id = await noticeTo(url)
    let monotonicMs = 0
    const goOn = await stoppedCourier({ monotonicMs: () => monotonicMs, now: Date.now })
    monotonicMs = 5_001
    await goOn()
    expect(sandbox.notices()).toEqual([])
    const left = await noticeOf(id)
    expect(left).toMatchObject({ state: 'pending', attempts: 0, tries: [] })
    expect(left.due_s).toBeGreaterThan(0)
    await makeNoticesDue(service.pool)
    await finishRounds(service.service.courier)
    expect(await noticeOf(id)).toMatchObject({ state: 'delivered', attempts: 1 })
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
