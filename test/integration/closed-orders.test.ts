// An order that was closed here and is at rest, and is paid there after all. A sync learns that and dies before its commit:
// somebody has to ask again.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { createDatabase, type TestDatabase } from '../support/database.js'
import { makeOrdersDue } from '../support/rounds.js'
import { startService, type TestService } from '../support/service.js'
import { proxyDatabase, type TcpProxy } from '../support/tcp-proxy.js'

let database: TestDatabase
let proxy: TcpProxy
/** Reaches the database through the proxy. */
let node: TestService
let other: TestService
beforeEach(async () => {
  database = await createDatabase()
  const proxied = await proxyDatabase(database.url)
  proxy = proxied.proxy
  node = await startService({ database, environment: { DATABASE_URL: proxied.url, GATEWAY_TIMEOUT_MS: '2000' } })
  other = await startService({ database, sandboxes: node, environment: { GATEWAY_TIMEOUT_MS: '2000' } })
})
afterEach(async () => {
  await other.stop()
  await node.stop()
  await proxy.close()
  await database.drop()
})

/** Closed here by verified evidence, at rest, and paid there after all. */
async function closedThenPaid(): Promise<string> {
  const id = await other.register({ notifyUrl: 'http://127.0.0.1:9/notices' })
  node.wechat.putTrade(id, { state: 'CLOSED', amount: 1000 })
  expect(await other.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: true } })
  node.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  return id
}

async function nextSyncAt(id: string): Promise<Date | null> {
  const { rows } = await other.pool.query<{ at: Date | null }>('SELECT next_sync_at AS at FROM orders WHERE id = $1', [
    id,
  ])
  return rows[0]?.at ?? null
}

/** The lease is over, and the sweeper asks about whatever is due. */
async function statusAfterSweep(id: string): Promise<string> {
  await other.pool.query('UPDATE orders SET lease_expires_at = now() WHERE id = $1 AND lease_token IS NOT NULL', [id])
  await makeOrdersDue(other.pool)
  await other.sweep()
  return (await other.history(id)).order.status
}

/** A sync learns what the trade is, and the database goes away before that is written. */
async function syncWithoutCommit(id: string): Promise<void> {
  const hold = node.wechat.holdNext('query', id)
  const call = node.sync(id)
  await hold.arrived
  proxy.setMode('closed')
  hold.release()
  expect(await call).toMatchObject({ code: 10001 })
  proxy.setMode('open')
}

it('the database goes away before the commit', async () => {
  const id = await closedThenPaid()
  await syncWithoutCommit(id)
  expect(await statusAfterSweep(id)).toBe('success')
})

it('the database goes away before the commit of one that is watched, and not due for a day', async () => {
  const id = await other.register({ notifyUrl: 'http://127.0.0.1:9/notices' })
  expect(await other.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_not_found', repair: true } })
  await other.pool.query(
    `UPDATE orders SET close_time = now() - interval '2 hours', next_sync_at = now() + interval '22 hours' WHERE id = $1`,
    [id],
  )
  node.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  await syncWithoutCommit(id)
  const dueAt = (await nextSyncAt(id))?.getTime() ?? Number.POSITIVE_INFINITY
  expect(dueAt - Date.now()).toBeLessThan(60_000)
})

describe('an answer about something else does not end the watch', () => {
  async function withWrongApp(closedForS: number, state: string) {
    const id = await other.register()
    await other.sync(id)
    await other.pool.query(
      `UPDATE orders SET close_time = now() - $2::int * interval '1 second', next_sync_at = NULL WHERE id = $1`,
      [id, closedForS],
    )
    node.wechat.putTrade(id, { state, amount: 1000 })
    node.wechat.addFaults([{ on: 'query', fault: 'wrong_app', outTradeNo: id }])
    expect(await other.sync(id)).toMatchObject({ code: 28100 })
    return id
  }

  it('what is paid rightly then is found by the sweeper', async () => {
    const id = await withWrongApp(600, 'NOTPAY')
    node.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await statusAfterSweep(id)).toBe('success')
  })

  it('nor of one that is older than a day, as long as it can be paid there', async () => {
    expect(await nextSyncAt(await withWrongApp(100_000, 'NOTPAY'))).not.toBeNull()
  })

  it('past the day it is the finding’s alone', async () => {
    expect(await nextSyncAt(await withWrongApp(100_000, 'SUCCESS'))).toBeNull()
  })
})

it('its process has to leave at once, and gives its leases back', async () => {
  const id = await closedThenPaid()
  const hold = node.wechat.holdNext('query', id)
  const call = node.sync(id)
  await hold.arrived
  await node.service.abandon()
  expect(await statusAfterSweep(id)).toBe('success')
  hold.release()
  expect(await call).toMatchObject({ code: 10007 })
})

it('one of which nothing new is learned is at rest again, and a dry run leaves it so', async () => {
  const id = await closedThenPaid()
  const dry = await other.ops('POST', `/ops/orders/${id}/sync?dryRun=true`)
  expect(dry).toMatchObject({ status: 200, body: { dryRun: true, decision: { action: 'settle' } } })
  expect(await nextSyncAt(id)).toBeNull()
  node.wechat.putTrade(id, { state: 'CLOSED', amount: 1000 })
  expect(await other.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: false } })
  expect(await nextSyncAt(id)).toBeNull()
})
