import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { launchBrowser, noBrowser, openContext, violationsOf } from '../support/browser.js'
import { startService, type TestService } from '../support/service.js'

describe.skipIf(noBrowser !== null)('/docs in a browser', { timeout: 60_000 }, () => {
  let browser: Browser
  let service: TestService
  beforeAll(async () => {
    ;[browser, service] = await Promise.all([launchBrowser(), startService()])
  })
  afterAll(async () => {
    await browser?.close()
    await service?.stop()
  })

  it.each([
    ['light', { colorScheme: 'light' }],
    ['phone', { viewport: { width: 360, height: 740 }, colorScheme: 'dark' }],
  ] as const)('is readable, and asks no other host for anything: %s', async (_name, options) => {
    const { context, page, complaints } = await openContext(browser, service.url, options)
    await page.goto('/docs')
    await page.getByRole('link', { name: 'POST /unipay/syncPay' }).click()
    expect(await page.locator('#syncPay').isVisible()).toBe(true)
    expect(await violationsOf(page)).toEqual([])
    const overflow = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
    expect(await page.evaluate<number>(overflow)).toBeLessThanOrEqual(0)
    expect(complaints).toEqual([])
    await context.close()
  })
})
