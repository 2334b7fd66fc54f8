import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { commandSettings, unipay } from '../support/cli.js'
import { startService, type TestService } from '../support/service.js'

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

async function prune(olderThan = '90d') {
  const { status, stdout, stderr } = await unipay(commandSettings(service), [
    'prune',
    '--older-than',
    olderThan,
    '--json',
  ])
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return JSON.parse(stdout) as { syncRecords: number; noticeSends: number }
}

/** Records of syncs that changed nothing, `days` old. */
async function oldSyncs(id: string, count: number, days = 100): Promise<void> {
  await service.pool.query(
    `INSERT INTO sync_records (order_id, trace_id, source, outcome, gateway_status, decision, exchanges, duration_ms, created_at)
     SELECT $1, 'old' || n, 'merchant', 'synced', 'pay_progress', 'wait', '[]', 1, now() - $3::int * interval '1 day'
     FROM generate_series(1, $2::int) AS n`,
    [id, count, days],
  )
}

/** A paid and settled order, everything about it `days` old, nothing about it open. */
async function settled(days = 100): Promise<string> {
  const id = await service.register()
  service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  expect(await service.sync(id)).toMatchObject({ data: { repair: true } })
  await service.pool.query(
    'UPDATE sync_records SET created_at = now() - $2::int * interval $$1 day$$ WHERE order_id = $1',
    [id, days],
  )
  return id
}

const set = async (id: string, text: string) =>
  await service.pool.query(`UPDATE orders SET ${text} WHERE id = $1`, [id])

/** A batch of this order, 150 days old, that asked about it so many times and does not know yet what came of it. */
async function runningBatch(id: string, tries: number): Promise<void> {
  await service.pool.query(
    `WITH made AS (
       INSERT INTO batches (actor, trace_id, filter, dry_run, rate_per_s, created_at)
       VALUES ('me', gen_random_uuid()::text::varchar(32), '{}', false, 1, now() - interval '150 days') RETURNING id)
     INSERT INTO batch_items (batch_id, order_id, channel, amount_fen, trace_id, tries)
     SELECT id, $1, 'ali_pay', 1, 't', $2 FROM made`,
    [id, tries],
  )
}

async function countOf(id: string): Promise<number> {
  const { rows } = await service.pool.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM sync_records WHERE order_id = $1',
    [id],
  )
  return rows[0]?.count ?? -1
}

describe('what goes', () => {
  it('old syncs that changed nothing; the repair, its sync and the order stay as they were, and it may run again', async () => {
    const id = await settled()
    const before = await service.history(id)
    await oldSyncs(id, 3)
    await oldSyncs(id, 2, 89)
    expect(await prune()).toMatchObject({ syncRecords: 3 })
    const { syncs, ...after } = await service.history(id)
    expect(after).toEqual({ ...before, syncs: undefined })
    expect(syncs.map(({ repairOrderNo }) => repairOrderNo)).toEqual([null, null, before.repairs[0]?.repairOrderNo])
    expect(await prune()).toMatchObject({ syncRecords: 0, noticeSends: 0 })
  })

  it('all of it, over as many steps as there are, past those that stay', async () => {
    const [resting, open] = [await settled(), await service.register()]
    await oldSyncs(open, 1_100)
    await oldSyncs(resting, 2_500)
    await oldSyncs(open, 7)
    expect(await prune()).toMatchObject({ syncRecords: 2_500 })
    expect([await countOf(resting), await countOf(open)]).toEqual([1, 1_107])
    await service.pool.query('DELETE FROM sync_records WHERE order_id = $1', [open])
  })

  it('the sends of a delivered or superseded notice, not the notice; those of a dead one stay', async () => {
    const ids = [await settled(), await settled(), await settled()] as const
    for (const [id, state] of [
      [ids[0], 'delivered'],
      [ids[1], 'dead'],
      [ids[2], 'superseded'],
    ] as const) {
      await service.pool.query(
        `WITH told AS (
           INSERT INTO notices (order_id, repair_no, trace_id, url, host, payload, state, delivered_at)
           SELECT $1, repair_no, 't', 'http://m/', 'm', '{}', $2::text, CASE WHEN $2::text = 'delivered' THEN now() END
           FROM repair_records WHERE order_id = $1 RETURNING id)
         INSERT INTO notice_attempts (notice_id, attempt, outcome, excerpt, duration_ms, created_at)
         SELECT id, n, 'refused', '', 1, now() - interval '100 days' FROM told, generate_series(1, 3) AS n`,
        [id, state],
      )
    }
    expect(await prune()).toMatchObject({ noticeSends: 6 })
    for (const id of [ids[0], ids[2]]) expect((await service.history(id)).notices).toHaveLength(1)
    const { rows } = await service.pool.query(
      'SELECT n.order_id FROM notice_attempts JOIN notices n ON n.id = notice_id',
    )
    expect(rows).toEqual([{ order_id: ids[1] }, { order_id: ids[1] }, { order_id: ids[1] }])
  })
})

describe('what stays, however old', () => {
  const exception = (state: string) => async (id: string) =>
    await service.pool.query(
      `INSERT INTO sync_exceptions (order_id, sync_id, kind, state, at_risk_fen, fingerprint, evidence, resolved_at, resolved_by, note)
       SELECT order_id, max(id), 'amount_mismatch', $2::text, 1, 'f', '{}', r.at, r.by, r.by
       FROM sync_records, (SELECT CASE $2::text WHEN 'resolved' THEN now() END, CASE $2::text WHEN 'resolved' THEN 'me' END) AS r (at, by)
       WHERE order_id = $1 GROUP BY order_id, r.at, r.by`,
      [id, state],
    )
  const open: Record<string, (id: string) => Promise<unknown>> = {
    'an unsettled order': async (id) => await set(id, "status = 'progress'"),
    'a failed order, which may still be paid': async (id) => await set(id, "status = 'fail'"),
    'an order that is to be asked about': async (id) => await set(id, "next_sync_at = now() + interval '1 day'"),
    'an order whose sync is under way': async (id) =>
      await set(id, "lease_token = gen_random_uuid(), lease_expires_at = now() + interval '1 minute'"),
    'an order with an open finding': exception('open'),
    'an order whose merchant has not been told': async (id) =>
      await service.pool.query(
        `INSERT INTO notices (order_id, repair_no, trace_id, url, host, payload)
         SELECT order_id, repair_no, 't', 'http://m/', 'm', '{}' FROM repair_records WHERE order_id = $1`,
        [id],
      ),
  }
  it('the syncs of each of these, until it is over', async () => {
    const orders = await Promise.all(
      Object.entries(open).map(async ([name, make]) => ({ name, id: await settled(), make })),
    )
    for (const { id, make } of orders) {
      await oldSyncs(id, 2)
      await make(id)
    }
    const counts = async () =>
      await Promise.all(orders.map(async ({ name, id }) => ({ name, count: await countOf(id) })))
    expect(await prune()).toMatchObject({ syncRecords: 0 })
    expect(await counts()).toEqual(orders.map(({ name }) => ({ name, count: 3 })))
    await service.pool.query('DELETE FROM sync_exceptions')
    await service.pool.query("DELETE FROM notices WHERE state = 'pending'")
    for (const { id } of orders)
      await set(id, "status = 'success', next_sync_at = NULL, lease_token = NULL, lease_expires_at = NULL")
    expect(await prune()).toMatchObject({ syncRecords: 12 })
    expect(await counts()).toEqual(orders.map(({ name }) => ({ name, count: 1 })))
  })

  it('the sync that a resolved finding rests on', async () => {
    const id = await settled()
    await oldSyncs(id, 2)
    await exception('resolved')(id)
    expect(await prune()).toMatchObject({ syncRecords: 1 })
    expect(await countOf(id)).toBe(2)
  })

  it('what is younger than a running batch that tried one of its orders: it finds its syncs by their records', async () => {
    const id = await settled()
    await oldSyncs(id, 2, 100)
    await oldSyncs(id, 2, 200)
    await runningBatch(id, 1)
    expect(await prune()).toMatchObject({ syncRecords: 2 })
    await service.pool.query("UPDATE batches SET state = 'done'")
    expect(await prune()).toMatchObject({ syncRecords: 2 })
  })

  it('nothing for a running batch that has yet to ask, as one whose channel is not configured any more never does', async () => {
    const id = await settled()
    await oldSyncs(id, 2, 100)
    await runningBatch(id, 0)
    expect(await prune()).toMatchObject({ syncRecords: 2 })
    await service.pool.query("UPDATE batches SET state = 'done'")
  })
})

it('less than a week, no number or nothing at all is misuse', async () => {
  for (const args of [[], ['--older-than', '6d'], ['--older-than', '90'], ['--older-than', '-1d']])
    expect(await unipay(commandSettings(service), ['prune', ...args])).toMatchObject({ status: 2, stdout: '' })
})
