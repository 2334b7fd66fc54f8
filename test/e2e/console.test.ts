import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { launchBrowser, noBrowser, openContext, photograph, signIn, violationsOf } from '../support/browser.js'
import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

const HOSTILE = '<script>document.title="hacked"</script><img src=x onerror="document.title=\'hacked\'">'

if (noBrowser !== null) console.warn(`The browser tests are skipped: ${noBrowser}.`)

describe.skipIf(noBrowser !== null)('the operators’ page in a browser', { timeout: 90_000 }, () => {
  let service: TestService
  let browser: Browser

  beforeAll(async () => {
    service = await startService({ environment: { ROLES: 'api,courier' } })
    browser = await launchBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    await service?.stop()
  })

  async function operator(options: Parameters<typeof openContext>[2] = {}) {
    const opened = await openContext(browser, service.url, options)
    await signIn(opened.page, OPS_TOKEN)
    return opened
  }

  /** An order paid there and not here, with one merchant's sync that could not tell. */
  async function unsettledOrder(title: string) {
    const paymentId = await service.register({ title, amount: 123_456 })
    service.wechat.putTrade(paymentId, { state: 'SUCCESS', amount: 123_456 })
    service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 1, outTradeNo: paymentId }])
    const { traceId, code } = await service.sync(paymentId)
    if (code !== 20000) throw new Error(`the forged answer was believed: ${code}`)
    return { paymentId, traceId }
  }

  async function exceptionOf(title: string): Promise<string> {
    const paymentId = await service.register({ title, amount: 1000 })
    service.wechat.putTrade(paymentId, { state: 'SUCCESS', amount: 1 })
    await service.sync(paymentId)
    return paymentId
  }

  it('where all is well, the first view says so and nothing else', async () => {
    const { context, page } = await operator()
    expect(await page.locator('#live').innerText()).toContain('Nothing needs attention.')
    expect(await page.locator('.alarm, .bad, .warn').count()).toBe(0)
    await photograph(page, 'now-calm')
    await context.close()
  })

  it('an operator finds an order by a trace id, tries, syncs, and sees the story grow', {
    timeout: 90_000,
  }, async () => {
    const { paymentId, traceId } = await unsettledOrder(HOSTILE)
    const { context, page, complaints } = await operator()
    await page.fill('#q', traceId)
    await page.press('#q', 'Enter')
    await page.waitForURL(`**/console/orders/${paymentId}`)
    expect(await page.locator('#story > li').count()).toBe(2)
    await page.locator('#story details summary').first().click()
    expect(await page.locator('#story details pre').first().innerText()).toContain('trade_state')

    await page.getByRole('button', { name: 'Dry run' }).click()
    await page.locator('#outcome dl').waitFor()
    expect(await page.locator('#outcome').innerText()).toMatch(/settle[\s\S]*pay_success[\s\S]*Nothing was changed/)
    expect((await service.history(paymentId)).order.status).toBe('progress')
    await photograph(page, 'order-dry-run')
    expect(await violationsOf(page)).toEqual([])

    await page.getByRole('link', { name: 'Sync now' }).click()
    await page.waitForURL('**/sync')
    expect(await page.locator('.big').innerText()).toMatch(/^1,234\.56\sCNY 123456\sfen$/)
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    await page.waitForURL('**/orders/*?done=sync')
    await page.locator('#story li.repaired').waitFor()
    expect(await page.locator('#story > li').count()).toBeGreaterThanOrEqual(4)
    const { order, syncs, repairs } = await service.history(paymentId)
    expect([order.status, syncs[0]?.['source'], syncs[0]?.['actor'], repairs[0]?.['actor']]).toEqual([
      'success',
      'operator',
      'tester',
      'tester',
    ])

    // Another sync, made elsewhere, comes into the open page by itself.
    const before = await page.locator('#story li.synced').count()
    await service.sync(paymentId)
    await expect.poll(() => page.locator('#story li.synced').count(), { timeout: 10_000 }).toBe(before + 1)
    // Nothing that was asked is asked again by going back.
    await page.goBack()
    await page.waitForURL('**/sync')
    expect(await page.getByRole('button', { name: 'Yes, do it' }).count()).toBe(1)
    await page.goForward()
    expect(await page.title()).not.toContain('hacked')
    expect(await page.getByText(HOSTILE).count()).toBe(1)
    expect(complaints).toEqual([])
    await context.close()
  })

  it('find and every action work without JavaScript', async () => {
    const { paymentId } = await unsettledOrder('no script')
    const { context, page } = await operator({ javaScriptEnabled: false })
    await page.goto('/console/find')
    await page.fill('#q', `B${paymentId}`)
    await page.press('#q', 'Enter')
    await page.waitForURL(`**/console/orders/${paymentId}`)
    await page.getByRole('button', { name: 'Dry run' }).click()
    expect(await page.locator('#outcome').innerText()).toContain('Nothing was changed')
    await page.getByRole('link', { name: 'Sync now' }).click()
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    await page.waitForURL('**/orders/*?done=sync')
    expect((await service.history(paymentId)).order.status).toBe('success')

    const wrong = await exceptionOf('no script, wrong amount')
    await page.goto('/console/exceptions')
    await page.getByRole('link', { name: `Resolve: ${wrong}` }).click()
    await page.getByLabel('What was found and done').fill('seen')
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    expect((await service.history(wrong)).exceptions[0]).toMatchObject({ state: 'resolved', note: 'seen' })

    await page.goto('/console/batches')
    await page.getByRole('button', { name: 'Next' }).click()
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    for (const [act, state] of [
      ['Pause', 'paused'],
      ['Resume', 'running'],
      ['Cancel', 'cancelled'],
    ] as const) {
      await page.getByRole('link', { name: act }).click()
      await page.getByRole('button', { name: 'Yes, do it' }).click()
      expect(await page.locator('#progress .tag').first().innerText()).toBe(state)
    }
    await context.close()
  })

  it('an exception is resolved with a note, under the operator’s name', async () => {
    const paymentId = await exceptionOf('wrong amount')
    const { context, page, complaints } = await operator()
    await page.goto('/console/exceptions')
    await page.getByRole('link', { name: `Resolve: ${paymentId}` }).click()
    await page.waitForURL('**/resolve')
    expect(await page.locator('.big').innerText()).toMatch(/1000\sfen/)
    await page.getByLabel('What was found and done').fill('asked the merchant <b>today</b>')
    await photograph(page, 'resolve')
    expect(await violationsOf(page)).toEqual([])
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    await page.waitForURL('**/exceptions?state=resolved')
    expect(await page.locator('article', { hasText: paymentId }).innerText()).toContain(
      'asked the merchant <b>today</b>',
    )
    const { exceptions } = await service.history(paymentId)
    expect(exceptions[0]).toMatchObject({ state: 'resolved', resolvedBy: 'tester' })
    expect(complaints).toEqual([])
    await context.close()
  })

  it('a batch of 500 is started, paused, resumed and watched to its end', async () => {
    const batching = await startService({ environment: { ROLES: 'api,sweeper', GATEWAY_RATE_PER_S: '200' } })
    // Not due: the sweeper leaves them to the batch.
    const { rows: orders } = await batching.pool.query<{ id: string }>(
      `INSERT INTO orders (id, business_no, channel, amount_fen, out_trade_no, created_at, expires_at)
       SELECT n, 'B' || n, 'wechat_pay', 200, n, '2026-01-02T03:04:05Z', '2099-01-01' FROM generate_series(1, 500) AS n
       RETURNING id`,
    )
    for (const { id } of orders)
      batching.wechat.putTrade(id, { state: Number(id) % 2 === 0 ? 'SUCCESS' : 'NOTPAY', amount: 200 })
    const { context, page, complaints } = await openContext(browser, batching.url)
    await signIn(page, OPS_TOKEN)
    await page.goto('/console/batches')
    await page.fill('#createdFrom', '2026-01-02T11:04')
    await page.fill('#createdTo', '2026-01-02T11:05')
    await page.fill('#ratePerS', '200')
    await page.uncheck('#dryRun')
    await page.getByRole('button', { name: 'Next' }).click()
    await page.waitForURL('**/batches/new?*')
    expect(await page.locator('.big').innerText()).toMatch(/^1,000\.00\sCNY 100000\sfen$/)
    await photograph(page, 'batch-question')
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    const bar = page.locator('progress')
    await bar.waitFor()
    const done = async () => Number(await bar.getAttribute('value'))
    await expect.poll(done, { timeout: 20_000 }).toBeGreaterThan(20)
    await page.getByRole('link', { name: 'Pause' }).click()
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    await page.getByText('Stopped by').waitFor()
    await photograph(page, 'batch-paused')
    await page.getByRole('link', { name: 'Resume' }).click()
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    await bar.waitFor()
    await photograph(page, 'batch-running')
    expect(await violationsOf(page)).toEqual([])
    // The bar moves by itself: nothing is loaded again from here on.
    await expect.poll(done, { timeout: 40_000 }).toBe(500)
    await expect
      .poll(() => page.locator('#progress').innerText(), { timeout: 10_000 })
      .toMatch(/settled\s+250[\s\S]*waiting\s+250/)
    // There is nothing left to do, and what is over is not asked about any more: the counts are whole a moment
    // before the batch is done.
    await expect.poll(() => page.locator('#progress a').count(), { timeout: 10_000 }).toBe(0)
    await photograph(page, 'batch-done')
    const isWatched = async () => await page.evaluate("document.querySelector('#progress')._htmx?.sse !== undefined")
    await expect.poll(isWatched, { timeout: 5_000 }).toBe(false)
    await page.goto('/console/batches')
    await photograph(page, 'batches')
    const { rows } = await batching.pool.query<{ actor: string }>('SELECT DISTINCT actor FROM batches')
    expect(rows).toEqual([{ actor: 'tester' }])
    expect(complaints).toEqual([])
    await context.close()
    await batching.stop()
  })

  it('a notice is sent again after asking, with the money it is about', async () => {
    const paymentId = await service.register({ notifyUrl: 'http://127.0.0.1:9/notice', amount: 77 })
    service.wechat.putTrade(paymentId, { state: 'SUCCESS', amount: 77 })
    await service.sync(paymentId)
    const { context, page } = await operator()
    await page.goto('/console/notices')
    await page.getByRole('link', { name: `Send again: ${paymentId}` }).click()
    await page.waitForURL('**/redeliver')
    expect(await page.locator('.big').innerText()).toMatch(/^0\.77\sCNY 77\sfen$/)
    await page.getByRole('button', { name: 'Yes, do it' }).click()
    await page.waitForURL('**/console/notices')
    const sends = async () =>
      (
        await service.pool.query(
          'SELECT 1 FROM notice_attempts a JOIN notices n ON n.id = a.notice_id WHERE order_id = $1',
          [paymentId],
        )
      ).rowCount
    await expect.poll(sends, { timeout: 10_000 }).toBe(2)
    await context.close()
  })

  it('from the sign-in to a settled order, everything is done by keyboard alone', async () => {
    const { paymentId, traceId } = await unsettledOrder('by keyboard')
    const { context, page } = await openContext(browser, service.url)
    await page.goto('/console')
    await photograph(page, 'sign-in')
    expect(await violationsOf(page)).toEqual([])
    const focused = async () =>
      await page.evaluate<string>('document.activeElement.id || document.activeElement.textContent')
    const tabTo = async (wanted: string) => {
      for (let tabs = 0; tabs < 40; tabs += 1) {
        await page.keyboard.press('Tab')
        if ((await focused()) === wanted) return
      }
      throw new Error(`no Tab leads to ${wanted}`)
    }
    await page.keyboard.press('Tab')
    expect(await focused()).toBe('Skip to content')
    await tabTo('token')
    await page.keyboard.type(OPS_TOKEN)
    await page.keyboard.press('Enter')
    await page.waitForURL('**/console')
    await tabTo('q')
    await page.keyboard.type(traceId)
    await page.keyboard.press('Enter')
    await page.waitForURL(`**/orders/${paymentId}`)
    await tabTo('Sync now')
    await page.keyboard.press('Enter')
    await page.waitForURL('**/sync')
    await tabTo('Yes, do it')
    await page.keyboard.press('Enter')
    await page.waitForURL('**/orders/*?done=sync')
    expect((await service.history(paymentId)).order.status).toBe('success')
    await context.close()
  })

  it('another origin’s form with a stolen token does nothing', async () => {
    const { paymentId } = await unsettledOrder('stolen')
    const { context, page } = await operator()
    await page.goto(`/console/orders/${paymentId}`)
    const csrf = await page.locator('input[name=csrf]').first().inputValue()
    // The same server under another name is another origin, and another site.
    const elsewhere = service.url.replace('127.0.0.1', 'localhost')
    const thief = await context.newPage()
    await thief.route(`${elsewhere}/steal`, async (route) => {
      const action = `${service.url}/console/orders/${paymentId}/sync`
      await route.fulfill({
        contentType: 'text/html',
        body: `<form method="post" action="${action}"><input name="csrf" value="${csrf}"><input name="confirmed" value="yes"></form>`,
      })
    })
    await thief.goto(`${elsewhere}/steal`)
    const [answer] = await Promise.all([
      thief.waitForResponse((response) => response.url().endsWith('/sync')),
      thief.evaluate("document.querySelector('form').submit()"),
    ])
    expect([401, 403]).toContain(answer.status())
    expect((await service.history(paymentId)).order.status).toBe('progress')
    await context.close()
  })
})
