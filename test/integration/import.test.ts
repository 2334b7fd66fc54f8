import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { newPaymentId, OPS_TOKEN, startService, type TestService } from '../support/service.js'

type Report = {
  total: number
  created: number
  same: number
  conflict: number
  invalid: number
  errors: { line: number; reason: string }[]
}

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

async function send(
  type: string,
  body: string | Buffer,
): Promise<{ status: number; report: Report & { detail?: string } }> {
  const response = await fetch(`${service.url}/ops/orders/import`, {
    method: 'POST',
    headers: { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': type },
    body: typeof body === 'string' ? body : new Uint8Array(body),
  })
  return { status: response.status, report: (await response.json()) as Report & { detail?: string } }
}

function lineOf(paymentId: string, more: Record<string, unknown> = {}): string {
  return JSON.stringify({ paymentId, businessNo: `I${paymentId}`, channel: 'wechat_pay', amount: 1000, ...more })
}

const KINDS: readonly [string, string][] = [
  ['an NDJSON', 'application/x-ndjson'],
  ['a CSV', 'text/csv; charset=utf-8'],
]

describe('an import', () => {
  it.each(KINDS)('of %s file registers the good lines and lists the bad ones with their reasons', async (_, type) => {
    const [one, two, three] = [newPaymentId(), newPaymentId(), newPaymentId()]
    const isCsv = type.startsWith('text/csv')
    const body = isCsv
      ? [
          '\uFEFFpaymentId,businessNo,channel,amount,title',
          `${one},I${one},wechat_pay,1000,"a ""quoted"", title"`,
          `${two},I${two},wechat_pay,10.5,`,
          `${three},I${three}`,
          '',
          `${three},I${three},,1000,没有通道`,
        ].join('\r\n')
      : [
          lineOf(one, { title: 'a "quoted", title' }),
          lineOf(two, { amount: 10.5 }),
          '{"paymentId":',
          '',
          lineOf(three, { channel: null, title: '没有通道' }),
        ].join('\n')
    const { status, report } = await send(type, body)
    expect(status).toBe(200)
    expect(report).toMatchObject({ total: 4, created: 2, same: 0, conflict: 0, invalid: 2 })
    expect(report.errors.map(({ line }) => line)).toEqual(isCsv ? [3, 4] : [2, 3])
    expect(report.errors[0]?.reason).toContain('amount')
    expect((await service.history(one)).order).toMatchObject({ amount: 1000, title: 'a "quoted", title' })
    expect((await service.history(three)).order).toMatchObject({ channel: null, title: '没有通道' })
    expect(await service.ops('GET', `/ops/orders/${two}`)).toMatchObject({ status: 404 })
  })

  it('sent twice finds every order the same; a different order under a known id or number is a conflict', async () => {
    const [one, two] = [newPaymentId(), newPaymentId()]
    expect((await send('application/x-ndjson', lineOf(one))).report).toMatchObject({ created: 1 })
    const again = [lineOf(one), lineOf(one, { amount: 1 }), lineOf(two, { businessNo: `I${one}` })].join('\n')
    const { report } = await send('application/x-ndjson', again)
    expect(report).toMatchObject({ total: 3, created: 0, same: 1, conflict: 2, invalid: 0 })
    expect(report.errors).toEqual([
      { line: 2, reason: `Order ${one} is registered already: its amount differs` },
      { line: 3, reason: `Order ${one} has this businessNo` },
    ])
  })

  it('the same order twice in one file goes in once', async () => {
    const id = newPaymentId()
    const { report } = await send('application/x-ndjson', `${lineOf(id)}\n${lineOf(id)}\n${lineOf(id, { amount: 2 })}`)
    expect(report).toMatchObject({ total: 3, created: 1, same: 1, conflict: 1 })
  })

  it('two lines of one order of which the first is refused: that one is told, and the other one is created', async () => {
    const [taken, id] = [newPaymentId(), newPaymentId()]
    await send('application/x-ndjson', lineOf(taken))
    const lines = [lineOf(id, { businessNo: `I${taken}` }), lineOf(id), lineOf(id, { amount: 2 })]
    const { report } = await send('application/x-ndjson', lines.join('\n'))
    expect(report).toMatchObject({ total: 3, created: 1, same: 0, conflict: 2 })
    expect(report.errors).toMatchObject([
      { line: 1, reason: expect.stringContaining('businessNo') },
      { line: 3, reason: expect.stringContaining('amount') },
    ])
    expect((await service.history(id)).order).toMatchObject({ businessNo: `I${id}`, amount: 1000 })

    const other = newPaymentId()
    const channels = ['wechat_pay', 'ali_pay'].map((channel) => lineOf(other, { channel, outTradeNo: taken }))
    const second = (await send('application/x-ndjson', channels.join('\n'))).report
    expect(second).toMatchObject({ created: 1, same: 0, conflict: 1, errors: [{ line: 1 }] })
    expect((await service.history(other)).order).toMatchObject({ channel: 'ali_pay' })
  })

  it('a line of a megabyte, one that is not UTF-8 and one with a NUL are bad lines among good ones', async () => {
    const id = newPaymentId()
    const body = Buffer.concat([
      Buffer.from(`"${'x'.repeat(1_048_576)}"\n`),
      Buffer.from([0x22, 0xff, 0xfe, 0x22, 0x0a]),
      Buffer.from(`${lineOf(newPaymentId(), { businessNo: 'a\0b' })}\n${lineOf(id)}\n`),
    ])
    const { report } = await send('application/x-ndjson', body)
    expect(report).toMatchObject({ total: 4, created: 1, invalid: 3 })
    expect(report.errors.map(({ line }) => line)).toEqual([1, 2, 3])
  })

  it('of NDJSON with a field that no order has, or a misspelt one, is a bad line that names it, among good ones', async () => {
    const ids = Array.from({ length: 5 }, newPaymentId)
    const [one = '', two = '', three = '', four = '', five = ''] = ids
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`${n}${'x'.repeat(500)}`, 1]))
    const body = [
      lineOf(one),
      lineOf(two, { out_trade_no: 'WX777', creatTime: '2026-01-31T10:00:00+08:00' }),
      lineOf(three).replace('"amount"', '"Amount"'),
      lineOf(four).replace('{', '{"__proto__":{"outTradeNo":"WX1"},"":1,'),
      lineOf(newPaymentId(), many),
      lineOf(five, { outTradeNo: `WX${five}` }),
    ].join('\n')
    const { report } = await send('application/x-ndjson', body)
    expect(report).toMatchObject({ total: 6, created: 2, invalid: 4 })
    expect(report.errors.slice(0, 3)).toEqual([
      {
        line: 2,
        reason:
          'line: has a field out_trade_no, which no order has (outTradeNo?); has a field creatTime, which no order has',
      },
      { line: 3, reason: 'line: has a field Amount, which no order has (amount?)' },
      { line: 4, reason: 'line: has a field __proto__, which no order has; has a field without a name' },
    ])
    // However many and however long they are, a line's reason stays one to read.
    expect(report.errors[3]?.reason.length).toBeLessThan(1_000)
    for (const id of [two, three, four])
      expect(await service.ops('GET', `/ops/orders/${id}`)).toMatchObject({ status: 404 })
    expect((await service.history(five)).order).toMatchObject({ outTradeNo: `WX${five}` })
  })

  it('tells the first thousand bad lines and counts them all', async () => {
    const { report } = await send('application/x-ndjson', '{}\n'.repeat(1500))
    expect(report).toMatchObject({ total: 1500, created: 0, invalid: 1500 })
    expect(report.errors).toHaveLength(1000)
  })

  it.each([
    ['has no column channel', 'paymentId,businessNo,amount'],
    [
      'has no column channel; has a column Channel, which no order has (channel?)',
      'paymentId,businessNo,Channel,amount',
    ],
    [
      'has a column pay_time, which no order has (payTime?); has a column creatTime, which no order has',
      'paymentId,businessNo,channel,amount,pay_time,creatTime',
    ],
    ['has no column paymentId; has no column businessNo; has no column channel; has no column amount', 'title'],
    ['has a column closeTime, which no order has', 'paymentId,businessNo,channel,amount,closeTime'],
    ['has a column without a name', 'paymentId,businessNo,channel,amount,'],
    ['has the column amount twice', 'paymentId,businessNo,channel,amount, amount'],
    ['has a column __proto__, which no order has', 'paymentId,businessNo,channel,amount,__proto__'],
    [/has a column x{40}…, which no order has/, `paymentId,businessNo,channel,amount,${'x'.repeat(9_000)}`],
    [/cannot be read: longer than 16384 bytes/, `paymentId,businessNo,channel,amount,${'x'.repeat(20_000)}`],
    [/cannot be read: .*quote/, 'paymentId,businessNo,channel,"amount'],
  ])('of a CSV file whose head line %s is refused as a whole', async (reason, head) => {
    const id = newPaymentId()
    const { status, report } = await send('text/csv', `${head}\n${id},I${id},wechat_pay,1000,\n`)
    expect(status).toBe(400)
    if (typeof reason === 'string') expect(report.detail).toBe(`The head line ${reason}. Nothing was registered.`)
    else expect(report.detail).toMatch(reason)
    expect(await service.ops('GET', `/ops/orders/${id}`)).toMatchObject({ status: 404 })
  })

  it.each([
    ['a quote that is not closed', '"15 inch', 'quote'],
    ['something behind a closing quote', '"Big" sale', 'quote'],
    ['a quote after a space', ' "Big" sale', 'quote'],
    ['one cell too many', 'a,b', '6 cells'],
  ])('of CSV with %s on one line registers every other line', async (_, title, reason) => {
    const ids = Array.from({ length: 5 }, newPaymentId)
    const lines = ids.map((id, index) => `${id},I${id},wechat_pay,1000,${index === 1 ? title : 'plain'}`)
    const { report } = await send('text/csv', `paymentId,businessNo,channel,amount,title\n${lines.join('\n')}`)
    expect(report).toMatchObject({ total: 5, created: 4, invalid: 1, errors: [{ line: 3 }] })
    expect(report.errors[0]?.reason).toContain(reason)
    expect(await service.ops('GET', `/ops/orders/${ids[4] ?? ''}`)).toMatchObject({ status: 200 })
  })

  it('of CSV with two such lines tells both: what stands between them is no title of an order', async () => {
    const ids = Array.from({ length: 5 }, newPaymentId)
    const lines = ids.map((id, index) => `${id},I${id},wechat_pay,1000,${index % 3 === 0 ? '"15 inch' : 'plain'}`)
    const { report } = await send('text/csv', `paymentId,businessNo,channel,amount,title\n${lines.join('\n')}`)
    expect(report).toMatchObject({ total: 5, created: 3, invalid: 2, errors: [{ line: 2 }, { line: 5 }] })
  })

  it('of CSV keeps what is no quoting: quotes within a cell', async () => {
    const id = newPaymentId()
    await send('text/csv', `paymentId,businessNo,channel,amount,title\n${id},I${id},wechat_pay,1000,15" wide\n`)
    expect((await service.history(id)).order).toMatchObject({ title: '15" wide' })
  })

  it('of a large CSV file with such a head line is told so as well, whatever is still on its way', async () => {
    const body = `paymentId,businessNo,amount\n${'1,I1,1000\n'.repeat(800_000)}`
    expect((await send('text/csv', body)).report.detail).toContain('has no column channel')
  })

  it('with a time that no order has is a bad line, and nothing that reads of it fail later', async () => {
    const times = ['9999-12-31T23:59:59-23:59', '0000-01-01T00:00:00Z', '1999-12-31T23:59:59Z', '2100-01-01T00:00:00Z']
    const ids = times.map(newPaymentId)
    const lines = ['createTime', 'expiredTime', 'payTime'].flatMap((field) =>
      times.map((time, index) => lineOf(ids[index] ?? '', { [field]: time })),
    )
    const { report } = await send('application/x-ndjson', lines.join('\n'))
    expect(report).toMatchObject({ total: 12, created: 0, invalid: 12 })
    expect(report.errors[0]?.reason).toBe('createTime: must be between the years 2000 and 2100')
  })

  it('leaves nothing on the connection: many may follow each other on one', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => warnings.push(warning)
    process.on('warning', onWarning)
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let count = 0; count < 15; count++) {
      const headers = { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': 'application/x-ndjson' }
      const call = request(`${service.url}/ops/orders/import`, { method: 'POST', agent, headers }).end('')
      const [response] = (await once(call, 'response')) as [IncomingMessage]
      expect(response.statusCode).toBe(200)
      await response.resume().toArray()
    }
    agent.destroy()
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })

  it.each([
    ['an NDJSON file without a line', 'application/x-ndjson', ''],
    ['an NDJSON file of blank lines', 'application/x-ndjson', '\n\r\n'],
    ['a CSV file of a head line alone', 'text/csv', 'paymentId,businessNo,channel,amount\n'],
  ])('of %s is one of no orders, and no error', async (_, type, body) => {
    expect(await send(type, body)).toMatchObject({ status: 200, report: { total: 0, errors: [] } })
  })

  it.each(['', '\r\n\r\n', '\uFEFF'])(
    'of a CSV file without a head line (%j) is refused: an export was cut off',
    async (body) => {
      const { status, report } = await send('text/csv', body)
      expect(status).toBe(400)
      expect(report.detail).toBe('The head line is missing. Nothing was registered.')
    },
  )

  it('of another type is refused', async () => {
    expect((await send('application/json', '{}')).status).toBe(415)
    expect((await send('text/plain', 'x')).status).toBe(415)
  })
})
