import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { createOverview } from '../../src/store/overview.js'
import { startService, type TestService } from '../support/service.js'

type Finding = { id: string; kind: string; state: string; atRisk: number; seenCount: number; evidence: object }

let service: TestService
const opened: Record<string, unknown>[] = []
beforeAll(async () => {
  const onLogLine = (line: string) => {
    const entry = JSON.parse(line) as Record<string, unknown>
    if (entry['event'] === 'exception_opened') opened.push(entry)
  }
  service = await startService({ environment: { LOG_LEVEL: 'error', LATE_PAYMENT: 'hold' }, onLogLine })
})
afterAll(async () => await service.stop())

/** The findings of one order, oldest first. */
async function findingsOf(id: string): Promise<readonly Finding[]> {
  return ((await service.history(id)).exceptions as unknown as Finding[]).toReversed()
}

/** A sync after the trade became this. */
async function syncAs(id: string, trade: Readonly<{ state: string; amount?: number; transactionId?: string }>) {
  service.wechat.putTrade(id, { amount: 1000, ...trade })
  return await service.sync(id)
}

async function resolve(finding: Finding | undefined): Promise<void> {
  const path = `/ops/exceptions/${finding?.id}/resolve`
  expect(await service.ops('POST', path, { note: 'seen' })).toMatchObject({ status: 200 })
}

/** What operators and metrics are told of one kind, of one order: nothing else may be open. */
async function atRiskOf(kind: string): Promise<unknown> {
  const found = await createOverview(service.pool, []).openFindings()
  return found.find((one) => one.kind === kind)
}

const paidBy = (transactionId: string) => ({ state: 'SUCCESS', transactionId })
const openedOf = (id: string) => opened.filter(({ orderId }) => orderId === id).map(({ kind }) => kind)

describe('each payment is a finding of its own', () => {
  it.each([
    ['double_payment', { status: 'success', gatewayOrderNo: 'T1', payTime: new Date().toISOString() }],
    ['paid_after_close', { status: 'close' }],
  ])(
    '%s: the second and the third open one each, seen again they count, and all of their money is at risk',
    async (kind, order) => {
      const id = await service.register(order)
      for (const transaction of ['T2', 'T2', 'T3', 'T2']) await syncAs(id, paidBy(transaction))
      const findings = await findingsOf(id)
      expect(findings).toMatchObject([
        { kind, state: 'open', atRisk: 1000, seenCount: 3, evidence: { gatewayOrderNoThere: 'T2' } },
        { kind, state: 'open', atRisk: 1000, seenCount: 1, evidence: { gatewayOrderNoThere: 'T3' } },
      ])
      expect(openedOf(id)).toEqual([kind, kind])
      expect(await atRiskOf(kind)).toEqual({ kind, count: 2, atRiskFen: 2000n })
      for (const finding of findings) await resolve(finding)
      // What was resolved does not open again; what nobody has seen does.
      for (const transaction of ['T3', 'T2', 'T4']) await syncAs(id, paidBy(transaction))
      expect(await findingsOf(id)).toMatchObject([
        { state: 'resolved', seenCount: 3 },
        { state: 'resolved', seenCount: 1 },
        { state: 'open', seenCount: 1, evidence: { gatewayOrderNoThere: 'T4' } },
      ])
    },
  )
})

describe('the same money is at risk once', () => {
  it('paid_here_not_there: whatever the trade becomes while it is not paid, one finding; resolved, it stays so', async () => {
    const id = await service.register({ status: 'success', payTime: new Date().toISOString() })
    const all = ['NOTPAY', 'CLOSED', 'REVOKED'] as const
    for (const state of all) await syncAs(id, { state })
    service.wechat.addFaults([{ on: 'query', fault: 'not_exist', outTradeNo: id }])
    expect(await service.sync(id)).toMatchObject({ data: { gatewayStatus: 'pay_not_found' } })
    const [finding, ...more] = await findingsOf(id)
    expect(finding).toMatchObject({ kind: 'paid_here_not_there', state: 'open', atRisk: 1000, seenCount: 4 })
    expect(more).toEqual([])
    await resolve(finding)
    for (const state of all) await syncAs(id, { state })
    expect(await findingsOf(id)).toMatchObject([{ state: 'resolved' }])
    expect(openedOf(id)).toHaveLength(1)
  })

  it('a wrong amount: that it was paid is told as well, and the order’s money counts once', async () => {
    const id = await service.register()
    const kind = 'amount_mismatch'
    for (const state of ['NOTPAY', 'NOTPAY', 'SUCCESS', 'SUCCESS']) await syncAs(id, { state, amount: 300 })
    const findings = await findingsOf(id)
    expect(findings).toMatchObject([
      { kind, state: 'open', atRisk: 1000, seenCount: 2, evidence: { stateThere: 'paying' } },
      { kind, state: 'open', atRisk: 1000, seenCount: 2, evidence: { stateThere: 'paid' } },
    ])
    expect(await atRiskOf(kind)).toEqual({ kind, count: 2, atRiskFen: 1000n })
    for (const finding of findings) await resolve(finding)
    await syncAs(id, { state: 'SUCCESS', amount: 300 })
    expect((await findingsOf(id)).map(({ state }) => state)).toEqual(['resolved', 'resolved'])
    await syncAs(id, { ...paidBy('T9'), amount: 300 })
    expect((await findingsOf(id)).map(({ state }) => state)).toEqual(['resolved', 'resolved', 'open'])
  })
})
