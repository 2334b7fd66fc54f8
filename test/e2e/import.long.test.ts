import { Readable } from 'node:stream'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

const ORDERS = 200_000
const BAD_EVERY = 1_000
const FIRST_ID = 1_800_000_000_000_000_000n
const GROWTH_BYTES_MAX = 50 * 1024 * 1024

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

function* file(lines: number, firstId: bigint): Generator<string> {
  for (let index = 0; index < lines; index++) {
    const paymentId = (firstId + BigInt(index)).toString()
    yield index % BAD_EVERY === 0
      ? `{"paymentId":"${paymentId}"}\n`
      : `${JSON.stringify({ paymentId, businessNo: `L${paymentId}`, channel: 'wechat_pay', amount: index + 1, payWay: 'qr_code' })}\n`
  }
}

async function send(lines: number, firstId: bigint): Promise<Record<string, unknown>> {
  const response = await fetch(`${service.url}/ops/orders/import`, {
    method: 'POST',
    headers: { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': 'application/x-ndjson' },
    body: Readable.toWeb(Readable.from(file(lines, firstId))) as ReadableStream,
    duplex: 'half',
  })
  return (await response.json()) as Record<string, unknown>
}

describe('importing 200,000 orders', () => {
  it('takes constant memory, registers every good one and lists the bad ones', async () => {
    // The first lines warm up the compiler, the pool and the heap; growth is counted from there.
    await send(20_000, FIRST_ID - 100_000n)
    const before = process.memoryUsage.rss()
    let peak = before
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage.rss())
    }, 50)
    const report = await send(ORDERS, FIRST_ID)
    clearInterval(watch)
    const bad = ORDERS / BAD_EVERY
    expect(report).toMatchObject({ total: ORDERS, created: ORDERS - bad, same: 0, conflict: 0, invalid: bad })
    expect(report['errors']).toHaveLength(bad)
    const { rows } = await service.pool.query<{ count: string }>(`SELECT count(*) FROM orders WHERE id >= $1`, [
      FIRST_ID.toString(),
    ])
    expect(rows[0]?.count).toBe(String(ORDERS - bad))
    process.stdout.write(`import of ${ORDERS}: RSS grew by ${((peak - before) / 1024 / 1024).toFixed(1)} MiB\n`)
    expect(peak - before).toBeLessThan(GROWTH_BYTES_MAX)
  })
})
