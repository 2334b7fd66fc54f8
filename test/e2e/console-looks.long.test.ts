import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { launchBrowser, noBrowser, openContext, photograph, signIn, violationsOf } from '../support/browser.js'
import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

/** Three hours of syncs and some days of open orders, so that the pictures show what an operator would see. */
async function makeHistory({ pool }: TestService): Promise<void> {
  await pool.query(
    `INSERT INTO orders (id, business_no, title, channel, amount_fen, out_trade_no, created_at, expires_at)
     SELECT n, 'H' || n, '历史订单 ' || n, CASE WHEN n % 3 = 0 THEN 'ali_pay' ELSE 'wechat_pay' END, n * 7919, n,
       now() - n * n * interval '30 seconds', now() FROM generate_series(1, 90) AS n`,
  )
  await pool.query(
    `INSERT INTO sync_records (order_id, trace_id, source, outcome, gateway_status, decision, exchanges, duration_ms,
       created_at, channel, gateway_ms)
     SELECT 1 + n % 90, 't', 'sweeper', CASE WHEN n % 40 = 0 OR (n BETWEEN 900 AND 1100 AND n % 3 = 0) THEN 'unknown' ELSE 'synced' END,
       'pay_progress', 'wait', '[]', 40, now() - n * interval '5 seconds',
       CASE WHEN n % 3 = 0 THEN 'ali_pay' ELSE 'wechat_pay' END, 60 + n % 37 + CASE WHEN n BETWEEN 900 AND 1100 THEN 400 ELSE 0 END
     FROM generate_series(1, 2100) AS n`,
  )
}

describe.skipIf(noBrowser !== null)('the operators’ page in every look', { timeout: 90_000 }, () => {
  let browser: Browser
  let service: TestService
  let paymentId: string
  beforeAll(async () => {
    ;[browser, service] = await Promise.all([launchBrowser(), startService()])
    await makeHistory(service)
    paymentId = await service.register({
      title: 'a title in two scripts, \u202Eturned around\u202C, and very long '.padEnd(200, '长'),
      notifyUrl: 'http://127.0.0.1:9/notice',
    })
    // Closed there, with its notice; then paid, of another amount: an exception.
    service.wechat.putTrade(paymentId, { state: 'CLOSED', amount: 1000 })
    expect(await service.sync(paymentId)).toMatchObject({ code: 0, data: { repair: true } })
    service.wechat.putTrade(paymentId, { state: 'SUCCESS', amount: 1 })
    expect(await service.sync(paymentId)).toMatchObject({ code: 28100 })
    await service.pool.query('UPDATE notices SET state = $1, next_attempt_at = NULL WHERE state <> $1', ['dead'])
  })
  afterAll(async () => {
    await browser?.close()
    await service?.stop()
  })

  const all = ['now', 'find', 'order', 'sync', 'exceptions', 'notices', 'batches'] as const
  // Every view is checked in the smallest look, the first one in each; the others are for the eye, and for what overflows.
  it.each([
    ['light', all, false, { colorScheme: 'light' }],
    ['phone', all, true, { viewport: { width: 360, height: 740 }, colorScheme: 'dark', locale: 'zh-CN' }],
    ['dark', ['now', 'order'], false, { colorScheme: 'dark', locale: 'zh-CN' }],
    ['phone-light', ['now', 'exceptions'], false, { viewport: { width: 360, height: 740 } }],
  ] as const)('each view is readable: %s', async (name, views, isChecked, options) => {
    const { context, page, complaints } = await openContext(browser, service.url, options)
    await signIn(page, OPS_TOKEN)
    await page.locator('figure[data-drawn=yes] canvas').nth(3).waitFor()
    const paths = { find: 'find?q=t', order: `orders/${paymentId}`, sync: `orders/${paymentId}/sync` }
    for (const view of views) {
      if (view !== 'now') await page.goto(`/console/${paths[view as keyof typeof paths] ?? view}`)
      await photograph(page, `${view}-${name}`)
      if (isChecked || view === 'now') expect([view, await violationsOf(page)]).toEqual([view, []])
      const overflow = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
      expect([view, await page.evaluate<number>(overflow)]).toEqual([view, 0])
    }
    expect(complaints).toEqual([])
    await context.close()
  })
})
