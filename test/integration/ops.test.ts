import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { newPaymentId, OPS_TOKEN, startService, type TestService } from '../support/service.js'

type Page = { items: (Record<string, unknown> & { id: string })[]; nextCursor: string | null }
type Synced = {
  dryRun: boolean
  outcome: string
  repair: boolean
  repairOrderNo: string | null
  traceId: string
  here: { status: string; statusAfter: string }
  evidence: { state: string; gatewayState: string; amount: number }
  decision: { action: string; exception: string | null; why: string }
}

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

async function syncByOperator(id: string, query = ''): Promise<{ status: number; body: Synced }> {
  const { status, body } = await service.ops('POST', `/ops/orders/${id}/sync${query}`)
  return { status, body: body as Synced }
}

describe('POST /ops/orders', () => {
  it('with a field that no order has registers nothing and names it: a misspelt number is not taken for none', async () => {
    const paymentId = newPaymentId()
    const order = { paymentId, businessNo: `B${paymentId}`, channel: 'wechat_pay', amount: 1000 }
    const misspelt = await service.ops('POST', '/ops/orders', { ...order, out_trade_no: 'WX777' })
    const reason = 'body: has a field out_trade_no, which no order has (outTradeNo?)'
    expect(misspelt).toMatchObject({ status: 400, body: { title: 'Bad Request', detail: reason, errors: [reason] } })
    // What is unknown explains what is missing, so it is told first.
    const { amount, ...rest } = order
    const { body } = await service.ops('POST', '/ops/orders', { ...rest, AMOUNT: amount })
    expect(body).toMatchObject({
      detail: 'body: has a field AMOUNT, which no order has (amount?)',
      errors: [expect.any(String), expect.stringMatching(/^amount: /)],
    })
    expect(await service.ops('GET', `/ops/orders/${paymentId}`)).toMatchObject({ status: 404 })
    expect(await service.ops('POST', '/ops/orders', order)).toMatchObject({ status: 201 })
  })

  it('of a different order under a known id or number says which is taken, by which order, in the names of the call', async () => {
    const [id, other] = [newPaymentId(), newPaymentId()]
    const order = { paymentId: id, businessNo: `B${id}`, channel: 'wechat_pay', amount: 1000, outTradeNo: `T${id}` }
    const times = { createTime: '2026-01-31T10:00:00+08:00', expiredTime: '2026-01-31T10:30:00+08:00' }
    await service.register({ ...order, ...times })
    const refused = async (more: Record<string, unknown>) =>
      await service.ops('POST', '/ops/orders', { ...order, ...times, ...more })
    for (const [name, value] of [
      ['amount', 1],
      ['businessNo', `B${other}`],
      ['createTime', '2026-01-31T10:00:00Z'],
      ['expiredTime', '2026-01-31T10:00:00Z'],
    ] as const) {
      const detail = `Order ${id} is registered already: its ${name} differs.`
      expect(await refused({ [name]: value })).toMatchObject({ status: 409, body: { detail } })
    }
    const asNew = { paymentId: other, businessNo: `B${other}`, outTradeNo: other }
    expect(await refused({ ...asNew, businessNo: order.businessNo })).toMatchObject({
      status: 409,
      body: { detail: `Order ${id} has this businessNo.` },
    })
    expect(await refused({ ...asNew, outTradeNo: order.outTradeNo })).toMatchObject({
      status: 409,
      body: { detail: `Order ${id} has this outTradeNo.` },
    })
  })

  it('of the same order is no error, however many without a channel have its number for the gateway', async () => {
    const orders = Array.from({ length: 5 }, newPaymentId).map((paymentId) => {
      return { paymentId, businessNo: `B${paymentId}`, channel: null, amount: 1000, outTradeNo: 'one for all' }
    })
    const registered = async () => {
      const statuses: number[] = []
      for (const order of orders) statuses.push((await service.ops('POST', '/ops/orders', order)).status)
      return statuses
    }
    expect(await registered()).toEqual([201, 201, 201, 201, 201])
    expect(await registered()).toEqual([200, 200, 200, 200, 200])
  })
})

describe('POST /ops/orders/{id}/sync', () => {
  it('repairs, and the records carry the operator’s name and the answer’s trace id', async () => {
    const id = await service.registerPaid()
    const { status, body } = await syncByOperator(id)
    expect(status).toBe(200)
    expect(body).toMatchObject({
      dryRun: false,
      outcome: 'synced',
      gatewayStatus: 'pay_success',
      repair: true,
      here: { status: 'progress', statusAfter: 'success' },
      evidence: { state: 'paid', gatewayState: 'SUCCESS', amount: 1000, outTradeNo: id },
      decision: { action: 'settle', exception: null },
    })
    const { order, syncs, repairs } = await service.history(id)
    expect(order.status).toBe('success')
    expect(syncs).toMatchObject([{ source: 'operator', actor: 'tester', traceId: body.traceId }])
    expect(repairs).toMatchObject([{ actor: 'tester', repairOrderNo: body.repairOrderNo }])
  })

  it('a dry run says what would be done, on which evidence and why, and changes nothing', async () => {
    const id = await service.registerPaid()
    const before = await service.history(id)
    const { status, body } = await syncByOperator(id, '?dryRun=true')
    expect(status).toBe(200)
    expect(body).toMatchObject({
      dryRun: true,
      repair: true,
      repairOrderNo: null,
      here: { status: 'progress', statusAfter: 'success' },
      decision: { action: 'settle' },
    })
    expect(body.decision.why).toContain('progress here, paid (SUCCESS) there')
    expect(await service.history(id)).toEqual(before)
  })

  it.each([
    ['?dryrun=true', {}, 'query: has a parameter dryrun, which no sync has (dryRun?)'],
    ['', { dryRun: true }, 'body: has a field dryRun, which no such call has'],
    ['?dryRun=true', { note: 'x' }, 'body: has a field note, which no such call has'],
  ])('asked for with what it does not know (%j, %j) is none: the gateway is not asked', async (query, body, detail) => {
    const id = await service.registerPaid()
    const answer = await service.ops('POST', `/ops/orders/${id}/sync${query}`, body)
    expect(answer).toMatchObject({ status: 400, body: { detail } })
    expect((await service.history(id)).syncs).toEqual([])
    expect(await service.ops('POST', `/ops/orders/${id}/sync`, {})).toMatchObject({ status: 200 })
  })

  it('an answer about another amount changes nothing and says which field differs', async () => {
    const id = await service.registerPaid({}, { amount: 1 })
    const { status, body } = await syncByOperator(id)
    expect(status).toBe(200)
    expect(body).toMatchObject({ outcome: 'mismatch', repair: false, decision: { exception: 'amount_mismatch' } })
    expect(body.decision.why).toContain('amount is 1000 here and 1 there')
    expect((await service.history(id)).order.status).toBe('progress')
  })

  it('a gateway that cannot be understood is 502, and nothing changes', async () => {
    const id = await service.registerPaid()
    service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 3, outTradeNo: id }])
    const answer = await service.ops('POST', `/ops/orders/${id}/sync`)
    expect(answer).toMatchObject({
      status: 502,
      body: { title: 'Bad Gateway', status: 502, detail: expect.stringMatching(/\. Nothing changed here\.$/) },
    })
    expect((await service.history(id)).order.status).toBe('progress')
  })

  describe('that had the gateway close or reverse the trade, and did not learn what became of that, says so', () => {
    const asked = 'The gateway was asked to close or reverse the trade and may have done so; the next sync tells.'

    /** An expired order whose trade is closed, or reversed, by the sync; `meanwhile` happens at the gateway before its answer. */
    async function syncExpired(call: 'close' | 'reverse', meanwhile: (id: string) => void) {
      const id = await service.register({
        payWay: call === 'close' ? 'qr_code' : 'bar_code',
        expiredTime: new Date(Date.now() - 60_000).toISOString(),
      })
      service.wechat.putTrade(id, { state: call === 'close' ? 'NOTPAY' : 'USERPAYING', amount: 1000 })
      const hold = service.wechat.holdNext(call, id)
      const answer = syncByOperator(id)
      await hold.arrived
      meanwhile(id)
      hold.release()
      return await answer
    }

    it.each(['close', 'reverse'] as const)('the query after a %s fails', async (call) => {
      const answer = await syncExpired(call, (id) =>
        service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 3, outTradeNo: id }]),
      )
      const detail = expect.stringContaining(`. Nothing changed here. ${asked}`)
      expect(answer).toMatchObject({ status: 502, body: { detail } })
    })

    it('the query after it tells another amount', async () => {
      const { status, body } = await syncExpired('reverse', (id) =>
        service.wechat.putTrade(id, { state: 'REFUND', amount: 1, refunded: 1 }),
      )
      expect(status).toBe(200)
      expect(body).toMatchObject({ outcome: 'mismatch', repair: false })
      expect(body.decision.why).toContain(`Nothing changes here. ${asked}`)
    })
  })

  it('an unknown order is 404, one without a channel 422, a malformed id 400; all as problem+json', async () => {
    const channelless = await service.register({ channel: null })
    expect(await syncByOperator('1')).toMatchObject({ status: 404, body: { status: 404, traceId: expect.any(String) } })
    expect(await syncByOperator(channelless)).toMatchObject({ status: 422 })
    expect(await syncByOperator('abc')).toMatchObject({ status: 400 })
    const response = await fetch(`${service.url}/ops/orders/1/sync`, {
      method: 'POST',
      headers: { authorization: `Bearer ${OPS_TOKEN}` },
    })
    expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/)
  })
})

describe('exceptions', () => {
  it('are listed newest first, filtered, in pages that neither repeat nor skip one', async () => {
    const ids: string[] = []
    for (let index = 0; index < 5; index++) {
      const id = await service.registerPaid({}, { amount: 1 })
      ids.unshift(id)
      await service.sync(id)
    }
    const path = '/ops/exceptions?state=open&kind=amount_mismatch&limit=2'
    const seen: unknown[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page: Page = (await service.ops('GET', cursor === '' ? path : `${path}&cursor=${cursor}`)).body as Page
      expect(page.items.length).toBeLessThanOrEqual(2)
      seen.push(...page.items.map(({ paymentId }) => paymentId))
      cursor = page.nextCursor
    }
    expect(seen.slice(0, 5)).toEqual(ids)
    expect(new Set(seen).size).toBe(seen.length)
    expect((await service.ops('GET', '/ops/exceptions?state=resolved')).body).toEqual({ items: [], nextCursor: null })
    expect((await service.ops('GET', '/ops/exceptions?kind=nonsense')).status).toBe(400)
  })

  it('are resolved once, by name and with a reason, and the same finding does not open again', async () => {
    const id = await service.registerPaid({}, { amount: 2 })
    await service.sync(id)
    const open = (await service.history(id)).exceptions[0]
    const resolve = async () =>
      await service.ops('POST', `/ops/exceptions/${open?.id}/resolve`, { note: 'asked the merchant' })
    expect(await resolve()).toMatchObject({
      status: 200,
      body: { state: 'resolved', resolvedBy: 'tester', note: 'asked the merchant', resolvedTime: expect.any(String) },
    })
    expect(await resolve()).toMatchObject({ status: 409, body: { detail: expect.stringContaining('tester') } })
    await service.sync(id)
    expect((await service.history(id)).exceptions).toMatchObject([{ state: 'resolved' }])
    expect(await service.ops('POST', '/ops/exceptions/999999/resolve', { note: 'x' })).toMatchObject({ status: 404 })
    expect(await service.ops('POST', `/ops/exceptions/${open?.id}/resolve`, { note: ' ' })).toMatchObject({
      status: 400,
    })
  })
})

describe('a parameter that is there but empty', () => {
  it.each([
    ['/ops/exceptions?state=open&kind=', '/ops/exceptions?state=open'],
    ['/ops/exceptions?state=&kind=&cursor=&limit=', '/ops/exceptions'],
    ['/ops/notices?state=&cursor=', '/ops/notices'],
    ['/ops/batches?cursor=&limit=', '/ops/batches'],
  ])('is as good as none: %s', async (path, without) => {
    const id = await service.registerPaid({ notifyUrl: 'http://127.0.0.1:9/notice' }, { amount: 3 })
    await service.sync(id)
    const { status, body } = await service.ops('GET', path)
    expect(status).toBe(200)
    expect(body).toEqual((await service.ops('GET', without)).body)
  })

  it('of what is no list is none: an empty dryRun must not come to mean a real sync', async () => {
    const id = await service.registerPaid()
    expect((await syncByOperator(id, '?dryRun=')).status).toBe(400)
    expect((await service.ops('GET', '/ops/orders?businessNo=')).status).toBe(400)
    expect((await service.history(id)).syncs).toEqual([])
  })
})

describe('a body that is not there', () => {
  const post = async (path: string, headers: Record<string, string>) => {
    const authorization = `Bearer ${OPS_TOKEN}`
    const response = await fetch(`${service.url}${path}`, { method: 'POST', headers: { authorization, ...headers } })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }

  const TYPES = ['application/json', 'text/plain', 'application/x-www-form-urlencoded', 'text/csv; charset=utf-8']
  it.each([[{}], ...TYPES.map((type) => [{ 'content-type': type }])] as Record<string, string>[][])(
    'is one without fields where none is taken, with %j as without',
    async (headers = {}) => {
      const id = await service.registerPaid()
      expect(await post(`/ops/orders/${id}/sync?dryRun=true`, headers)).toMatchObject({ status: 200 })
      const { body } = await service.ops('POST', '/ops/batches', { dryRun: true })
      const batchPath = `/ops/batches/${(body as { id: string }).id}`
      expect(await post(`${batchPath}/cancel`, headers)).toMatchObject({ status: 200 })
    },
  )

  it.each([[{}], ...TYPES.map((type) => [{ 'content-type': type }])] as Record<string, string>[][])(
    'is refused where fields are taken, with %j as without: a batch over everything has to be asked for',
    async (headers = {}) => {
      const { body: batches } = await service.ops('GET', '/ops/batches')
      const detail = 'There is no body. Send one with Content-Type: application/json; {} is one without fields.'
      for (const path of ['/ops/batches', '/ops/orders', '/ops/exceptions/1/resolve'])
        expect(await post(path, headers)).toMatchObject({ status: 400, body: { title: 'Bad Request', detail } })
      expect((await service.ops('GET', '/ops/batches')).body).toEqual(batches)
      expect(await service.ops('POST', '/ops/batches', {})).toMatchObject({ status: 202, body: { dryRun: false } })
      await service.pool.query("UPDATE batches SET state = 'cancelled'")
    },
  )

  it('leaves all else as it was: JSON that is none, or that would reach for a prototype, is refused', async () => {
    for (const body of ['{', '{"__proto__":{"dryRun":true}}', '[]', 'null', ' ']) {
      const headers = { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': 'application/json' }
      const response = await fetch(`${service.url}/ops/batches`, { method: 'POST', headers, body })
      expect([body, response.status]).toEqual([body, 400])
    }
  })
})

describe('a body that cannot be read', () => {
  const send = async (path: string, type: string | null, body: string) => {
    const headers = { authorization: `Bearer ${OPS_TOKEN}`, ...(type === null ? {} : { 'content-type': type }) }
    // As bytes: fetch gives text a type of its own.
    const response = await fetch(`${service.url}${path}`, { method: 'POST', headers, body: Buffer.from(body) })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const order = '{"paymentId":"1","businessNo":"1","channel":null,"amount":1}'
  const JSON_WANTED = 'Send Content-Type: application/json.'

  it.each([
    ['/ops/orders', 'application/x-www-form-urlencoded', order, 415, JSON_WANTED],
    ['/ops/orders', 'text/plain', order, 415, JSON_WANTED],
    ['/ops/orders', 'nonsense', order, 415, JSON_WANTED],
    ['/ops/orders', null, order, 415, JSON_WANTED],
    ['/ops/batches', 'text/plain', '{"dryRun":true}', 415, JSON_WANTED],
    ['/ops/orders/1/sync', 'text/plain', 'dryRun=true', 415, JSON_WANTED],
    ['/ops/orders/import', 'text/plain', order, 415, 'Send Content-Type: application/x-ndjson or text/csv.'],
    ['/ops/orders/import', 'nonsense', order, 415, 'Send Content-Type: application/x-ndjson or text/csv.'],
    ['/ops/orders/import', 'application/json', order, 415, 'Send Content-Type: application/x-ndjson or text/csv.'],
    ['/ops/orders', 'application/json', '{"paymentId":', 400, 'The body is no JSON, or has a field __proto__.'],
    ['/ops/orders', 'application/json', '{"__proto__":{}}', 400, 'The body is no JSON, or has a field __proto__.'],
    ['/ops/orders', 'application/json', `"${'x'.repeat(1_100_000)}"`, 413, 'The body is larger than 1 MiB.'],
  ])('of %s as %s is told what to send instead', async (path, type, body, status, detail) => {
    const title = { 400: 'Bad Request', 413: 'Payload Too Large', 415: 'Unsupported Media Type' }[status]
    const answer = await send(path, type, body)
    expect(answer).toMatchObject({ status, body: { status, title, detail: expect.stringContaining(detail) } })
  })

  it.each(['2026-11-27 12:00:00', '2026-11-27T12:00:00', '2026-02-30T12:00:00Z', 1_764_216_000])(
    'for its time, %s, is told one that would do',
    async (createTime) => {
      const reason = 'must be a time with its zone, such as 2026-01-31T10:00:00+08:00'
      const { body } = await service.ops('POST', '/ops/orders', { ...JSON.parse(order), createTime })
      expect(body).toMatchObject({ errors: [`createTime: ${reason}`] })
      const batch = await service.ops('POST', '/ops/batches', { createdFrom: createTime })
      expect(batch).toMatchObject({ status: 400, body: { errors: [`createdFrom: ${reason}`] } })
    },
  )
})

describe('notices', () => {
  it('a dead one is due again, its schedule from the start, once an operator asks for it', async () => {
    const id = await service.registerPaid({ notifyUrl: 'http://127.0.0.1:9/notice' })
    await service.sync(id)
    const noticeId = (await service.history(id)).notices[0]?.id ?? ''
    await service.pool.query(`UPDATE notices SET state = 'dead', attempts = 16, next_attempt_at = NULL WHERE id = $1`, [
      noticeId,
    ])
    const dead = (await service.ops('GET', '/ops/notices?state=dead')).body as Page
    expect(dead.items).toMatchObject([{ id: noticeId, paymentId: id, attempts: 16 }])

    expect(await service.ops('POST', `/ops/notices/${noticeId}/redeliver`)).toMatchObject({
      status: 200,
      body: { id: noticeId, state: 'pending', attempts: 0 },
    })
    const { rows } = await service.pool.query<{ due: boolean }>(
      `SELECT next_attempt_at <= clock_timestamp() AS due FROM notices WHERE id = $1`,
      [noticeId],
    )
    expect(rows).toEqual([{ due: true }])
    expect(await service.ops('POST', '/ops/notices/999999/redeliver')).toMatchObject({ status: 404 })
  })

  it('one of whose order a newer one exists is refused, whatever its state; the newer one is sent', async () => {
    const id = await service.registerPaidLate()
    const [newer, older] = (await service.history(id)).notices
    expect([newer?.['state'], older?.['state']]).toEqual(['pending', 'superseded'])
    const superseded = (await service.ops('GET', '/ops/notices?state=superseded')).body as Page
    expect(superseded.items).toMatchObject([{ id: older?.id, paymentId: id, nextAttemptTime: null }])
    for (const state of ['superseded', 'delivered', 'dead']) {
      await service.pool.query(
        `UPDATE notices SET state = $2::text, delivered_at = CASE $2::text WHEN 'delivered' THEN now() END WHERE id = $1`,
        [older?.id, state],
      )
      expect(await service.ops('POST', `/ops/notices/${older?.id}/redeliver`)).toMatchObject({
        status: 409,
        body: { title: 'Conflict', detail: expect.stringContaining('newer notice') },
      })
    }
    expect((await service.history(id)).notices).toMatchObject([{ state: 'pending' }, { state: 'dead' }])
    expect(await service.ops('POST', `/ops/notices/${newer?.id}/redeliver`)).toMatchObject({ status: 200 })
  })
})

describe('tokens', () => {
  it('after ten wrong ones an address is not listened to for some seconds, and others are', async () => {
    const own = await startService()
    try {
      const call = async (token: string) => {
        const response = await fetch(`${own.url}/ops/exceptions`, { headers: { authorization: `Bearer ${token}` } })
        await response.arrayBuffer()
        return { status: response.status, retryAfter: response.headers.get('retry-after') }
      }
      const answers: number[] = []
      for (let guess = 0; guess < 12; guess++) answers.push((await call(`wrong${guess}`)).status)
      expect(answers).toEqual([...Array<number>(10).fill(401), 429, 429])
      const blocked = await call(OPS_TOKEN)
      expect(blocked.status).toBe(429)
      expect(Number(blocked.retryAfter)).toBeGreaterThan(0)
      expect((await fetch(`${own.url}/healthz`)).status).toBe(200)
      expect(
        await own.service.server.inject({
          url: '/ops/exceptions',
          remoteAddress: '192.0.2.7',
          headers: { authorization: `Bearer ${OPS_TOKEN}` },
        }),
      ).toMatchObject({ statusCode: 200 })
    } finally {
      await own.stop()
    }
  })
})
