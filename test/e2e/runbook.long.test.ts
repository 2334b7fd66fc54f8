import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { createMerchantSandbox } from '../../src/sandbox/merchant.js'
import { createWechatSandbox } from '../../src/sandbox/wechat.js'
import { commandSettings } from '../support/cli.js'
import { createDatabase } from '../support/database.js'
import { commandFolder, type Incident, readRunbook, runStep } from '../support/runbook.js'
import { OPS_TOKEN, SECRET, startService, type TestService } from '../support/service.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

const MINUTE_MS = 60_000

/** An incident on stage: what happened, what an operator then does beside the commands, and what the placeholders are. */
type Stage = Readonly<{
  service: TestService
  placeholders: Record<string, string>
  /** Settings of the commands that differ from the service's. */
  settings?: Record<string, string>
  /** What happens, or is done, before the second block, the third … */
  acts?: readonly (() => Promise<void> | void)[]
  end?: () => Promise<void>
}>

const ago = (minutes: number) => new Date(Date.now() - minutes * MINUTE_MS).toISOString()

/** A paid trade's order. It is not due by itself, so that the runbook's own command finds it as it was. */
async function paid(service: TestService, order: Record<string, unknown> = {}, trade: Record<string, unknown> = {}) {
  const id = await service.registerPaid({ notifyUrl: null, ...order }, trade)
  await service.pool.query('UPDATE orders SET next_sync_at = NULL WHERE id = $1', [id])
  return id
}

async function onlyException(service: TestService, id: string): Promise<string> {
  return (await service.history(id)).exceptions[0]?.id ?? ''
}

async function firstLook(): Promise<Stage> {
  const service = await startService()
  await paid(service, { createTime: ago(1) })
  await service.sync(await paid(service, {}, { amount: 1 }))
  return { service, placeholders: {} }
}

async function gatewayDown(): Promise<Stage> {
  const service = await startService({ environment: { ROLES: 'api,sweeper' } })
  const ids: string[] = []
  for (let n = 0; n < 40; n++) {
    const id = await service.register({ channel: 'ali_pay' })
    service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    ids.push(id)
  }
  service.alipay.addFaults([{ on: 'query', fault: 'html502', times: 1_000_000 }])
  const [order = ''] = ids
  await service.pool.query('UPDATE orders SET next_sync_at = CASE WHEN id = $1 THEN NULL ELSE now() END', [order])
  // The gateway forgets its faults with its trades: paid ones are put back.
  const isBack = async () => {
    service.alipay.reset()
    for (const id of ids) service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    // The sweeper's probe is due at once; failures had put it off.
    await service.pool.query('UPDATE orders SET next_sync_at = now() WHERE next_sync_at IS NOT NULL')
  }
  return { service, placeholders: { ORDER: order }, acts: [isBack] }
}

async function keysRotated(): Promise<Stage> {
  const first = await startService()
  const { database, wechat, alipay } = first
  const order = await paid(first)
  const settings = wechat.merchantSettings()
  await wechat.rotateKeys('new')
  await first.sync(order)
  const stage = { service: first, placeholders: { ORDER: order }, settings }
  const restart = async () => {
    Object.assign(settings, wechat.merchantSettings())
    await first.service.stop()
    stage.service = await startService({ database, sandboxes: { wechat, alipay } })
  }
  const end = async () => {
    await Promise.all([wechat.close(), alipay.close()])
    await database.drop()
  }
  return {
    ...stage,
    get service() {
      return stage.service
    },
    acts: [restart],
    end,
  }
}

async function clockOff(): Promise<Stage> {
  let offMs = 400_000
  const own = createWechatSandbox({ now: () => Date.now() + offMs })
  await own.listen()
  const service = await startService({ environment: own.merchantSettings() })
  const order = await service.register()
  own.putTrade(order, { state: 'SUCCESS', amount: 1000 })
  return {
    service,
    placeholders: { ORDER: order },
    settings: own.merchantSettings(),
    acts: [
      () => {
        offMs = 0
      },
    ],
    end: async () => await own.close(),
  }
}

async function paidButPending(): Promise<Stage> {
  const merchant = createMerchantSandbox({ secrets: [SECRET], signType: 'MD5' })
  const { url } = await merchant.listen()
  const service = await startService({ environment: { ROLES: 'api,courier' } })
  const order = await paid(service, { notifyUrl: url })
  return { service, placeholders: { ORDER: order, NUMBER: `B${order}` }, end: async () => await merchant.close() }
}

async function latePayment(): Promise<Stage> {
  const service = await startService({ environment: { LATE_PAYMENT: 'hold' } })
  const order = await paid(service, { status: 'close' })
  await service.sync(order)
  return {
    service,
    placeholders: { ORDER: order, EXCEPTION: await onlyException(service, order) },
    settings: { LATE_PAYMENT: 'hold' },
  }
}

async function noticesFail(): Promise<Stage> {
  const merchant = createMerchantSandbox({ secrets: [SECRET], signType: 'MD5' })
  const { url } = await merchant.listen()
  merchant.behave('error_500')
  const service = await startService({ environment: { ROLES: 'api,courier' } })
  const orders = [await paid(service, { notifyUrl: url }), await paid(service, { notifyUrl: url })]
  for (const id of orders) await service.sync(id)
  await merchant.waitForNotices(2)
  // A day later: time passes by the clock of the schedule, not of the test.
  const isRecorded = `SELECT 1 FROM notice_attempts GROUP BY notice_id`
  await expect.poll(async () => (await service.pool.query(isRecorded)).rowCount, { timeout: 10_000 }).toBe(2)
  await service.pool.query(
    `UPDATE notices SET state = 'dead', attempts = 16, next_attempt_at = NULL, claim_token = NULL`,
  )
  const [order = ''] = orders
  return {
    service,
    placeholders: { ORDER: order, NOTICE: (await service.history(order)).notices[0]?.id ?? '' },
    acts: [() => merchant.behave('accept')],
    end: async () => await merchant.close(),
  }
}

async function databaseFailOver(): Promise<Stage> {
  const database = await createDatabase()
  const { proxy, url } = await proxyDatabase(database.url)
  const service = await startService({ database: { ...database, url } })
  await paid(service, { createTime: ago(2) })
  proxy.setMode('closed')
  return {
    service,
    placeholders: {},
    acts: [() => proxy.setMode('open')],
    end: async () => {
      await Promise.all([service.wechat.close(), service.alipay.close()])
      await proxy.close()
      await database.drop()
    },
  }
}

async function backlog(): Promise<Stage> {
  // Without the role sweeper nothing drains, so that the commands find what they are to work on.
  const service = await startService()
  for (let n = 0; n < 12; n++) {
    const id = await service.register({ createTime: ago(120) })
    service.wechat.putTrade(id, { state: n < 8 ? 'SUCCESS' : 'NOTPAY', amount: 1000 })
  }
  await service.pool.query(`UPDATE orders SET next_sync_at = now() - interval '1 hour'`)
  return { service, placeholders: {} }
}

async function doublePayment(): Promise<Stage> {
  const service = await startService()
  const first = { status: 'success', gatewayOrderNo: '4200001863202400000000000001', payTime: ago(5) }
  const order = await paid(service, first, { transactionId: '4200001863202400000000000099' })
  await service.sync(order)
  return { service, placeholders: { ORDER: order, EXCEPTION: await onlyException(service, order) } }
}

async function wrongAmount(): Promise<Stage> {
  const service = await startService()
  const order = await paid(service, {}, { amount: 1 })
  await service.sync(order)
  return { service, placeholders: { ORDER: order, EXCEPTION: await onlyException(service, order) } }
}

const STAGES: Readonly<Record<string, () => Promise<Stage>>> = {
  'Whatever it is, first': firstLook,
  '1. A gateway is down': gatewayDown,
  '2. Keys were rotated': keysRotated,
  '3. A clock is off': clockOff,
  '4. Merchants report "paid, but pending"': paidButPending,
  '5. Late payment': latePayment,
  '6. Notices fail': noticesFail,
  '7. Database fail-over': databaseFailOver,
  '8. Backlog': backlog,
  '9. Double payment': doublePayment,
  '10. Wrong amount': wrongAmount,
}

let commands: Awaited<ReturnType<typeof commandFolder>>
const ran = new Set<number>()
beforeAll(async () => {
  commands = await commandFolder()
})
afterAll(async () => {
  await commands.remove()
})

async function play({ blocks }: Incident, stage: Stage): Promise<void> {
  for (const [index, block] of blocks.entries()) {
    if (index > 0) await stage.acts?.[index - 1]?.()
    for (const step of block) {
      const environment = {
        ...commandSettings(stage.service),
        ...stage.settings,
        PATH: `${commands.folder}:${process.env['PATH'] ?? ''}`,
        UNIPAY: stage.service.url,
        TOKEN: OPS_TOKEN,
      }
      const output = await runStep(step, environment, stage.placeholders)
      // The batch that the next lines are about is the one that was made last.
      const made = /"id":"(\d+)","state":"running"/.exec(output)?.[1]
      if (made !== undefined) stage.placeholders['BATCH'] = made
      ran.add(step.line)
    }
  }
}

describe('the runbook', () => {
  const incidents = readRunbook()

  it('has its incidents all on stage here, and each of its commands says something', () => {
    expect(incidents.map(({ title }) => title)).toEqual(Object.keys(STAGES))
    const silent = incidents.flatMap(({ blocks }) => blocks.flat()).filter(({ says }) => says.length === 0)
    expect(silent).toEqual([])
  })

  it.each(incidents.map((incident) => [incident.title, incident] as const))(
    '%s: every line does what it says',
    async (title, incident) => {
      const stage = await STAGES[title]?.()
      if (stage === undefined) throw new Error(`${title} is not on stage`)
      try {
        await play(incident, stage)
      } finally {
        await stage.service.stop()
        await stage.end?.()
      }
    },
    120_000,
  )

  it('has no line that was not run', () => {
    const lines = incidents.flatMap(({ blocks }) => blocks.flat()).map(({ line }) => line)
    expect(lines.length).toBeGreaterThan(40)
    expect(lines.filter((line) => !ran.has(line))).toEqual([])
  })
})
