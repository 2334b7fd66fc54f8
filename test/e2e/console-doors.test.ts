import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { TEMPLATES } from '../../src/http/console/templates.js'
import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

const MINUTE_MS = 60_000
let service: TestService
let aheadMs = 0
let paymentId: string

beforeAll(async () => {
  service = await startService({ now: () => Date.now() + aheadMs })
  paymentId = await service.register({ title: '<script>alert(1)</script>"\'&' })
})
afterAll(async () => await service.stop())

type Options = Readonly<{ cookie?: string; form?: Record<string, string>; headers?: Record<string, string> }>

async function ask(path: string, { cookie, form, headers }: Options = {}) {
  const response = await fetch(`${service.url}${path}`, {
    method: form === undefined ? 'GET' : 'POST',
    redirect: 'manual',
    headers: {
      ...(cookie === undefined ? {} : { cookie }),
      ...(form === undefined ? {} : { origin: service.url }),
      ...headers,
    },
    ...(form === undefined ? {} : { body: new URLSearchParams(form) }),
  })
  const cookies = response.headers.getSetCookie()
  return { status: response.status, headers: response.headers, cookies, html: await response.text() }
}

async function signedIn() {
  const { cookies } = await ask('/console/sign-in', { form: { token: OPS_TOKEN } })
  const cookie = (cookies[0] ?? '').split(';')[0] ?? ''
  const { html } = await ask(`/console/orders/${paymentId}`, { cookie })
  return { cookie, csrf: /name="csrf" value="([^"]+)"/.exec(html)?.[1] ?? '' }
}

async function syncCount(): Promise<number> {
  return (await service.history(paymentId)).syncs.length
}

describe('the door', () => {
  it('without a session every page leads to the sign-in, and forms do nothing', async () => {
    for (const path of ['/console', '/console/find?q=1', `/console/orders/${paymentId}`, '/console/exceptions']) {
      const { status, headers } = await ask(path)
      expect([path, status, headers.get('location')]).toEqual([path, 303, '/console/sign-in'])
    }
    const form = { csrf: 'x', confirmed: 'yes' }
    expect((await ask(`/console/orders/${paymentId}/sync`, { form })).status).toBe(401)
    expect(await syncCount()).toBe(0)
  })

  it('a part of a page is told to sign in rather than given the form', async () => {
    const { status, headers } = await ask('/console/live', { headers: { 'hx-request': 'true' } })
    expect([status, headers.get('hx-redirect')]).toEqual([401, '/console/sign-in'])
  })

  it('a wrong token is refused, and after ten even a right one waits', async () => {
    const other = await startService()
    try {
      const tryToken = async (token: string) =>
        await fetch(`${other.url}/console/sign-in`, {
          method: 'POST',
          redirect: 'manual',
          headers: { origin: other.url },
          body: new URLSearchParams({ token }),
        })
      for (let tries = 0; tries < 10; tries += 1) expect((await tryToken('wrong')).status).toBe(401)
      const refused = await tryToken(OPS_TOKEN)
      expect([refused.status, refused.headers.getSetCookie()]).toEqual([429, []])
    } finally {
      await other.stop()
    }
  })

  it('the session cookie is HttpOnly and SameSite=Strict', async () => {
    const { status, cookies } = await ask('/console/sign-in', { form: { token: OPS_TOKEN } })
    expect(status).toBe(303)
    expect(cookies[0]).toMatch(/^unipay_console=[^;]+; Max-Age=43200; Path=\/console; HttpOnly; SameSite=Strict$/)
  })

  it('a changed cookie is no session', async () => {
    const { cookie } = await signedIn()
    const flipped = cookie.replace(/=(.)/, (_, first: string) => `=${first === 'W' ? 'X' : 'W'}`)
    expect((await ask('/console', { cookie: flipped })).status).toBe(303)
    expect((await ask('/console', { cookie })).status).toBe(200)
  })

  it('a form of another origin, of a hidden one, or without this session’s token does nothing', async () => {
    const { cookie, csrf } = await signedIn()
    const path = `/console/orders/${paymentId}/sync`
    const form = { csrf, confirmed: 'yes' }
    const before = await syncCount()
    const attempts: readonly Options[] = [
      { cookie, form, headers: { origin: 'https://evil.example' } },
      { cookie, form, headers: { origin: 'null' } },
      { cookie, form, headers: { 'sec-fetch-site': 'cross-site' } },
      { cookie, form: { ...form, csrf: '' } },
      { cookie, form: { ...form, csrf: (await signedIn()).csrf } },
    ]
    for (const attempt of attempts) expect((await ask(path, attempt)).status).toBe(403)
    expect(await syncCount()).toBe(before)
    expect((await ask(path, { cookie, form })).status).toBe(303)
    expect(await syncCount()).toBe(before + 1)
  })

  it('a session ends after 30 idle minutes, polls do not prolong it, and 12 hours are the end in any case', async () => {
    const first = await signedIn()
    try {
      aheadMs = 29 * MINUTE_MS
      const polled = await ask('/console/live', { cookie: first.cookie, headers: { 'hx-request': 'true' } })
      expect([polled.status, polled.cookies]).toEqual([200, []])
      const used = await ask('/console', { cookie: first.cookie })
      let cookie = (used.cookies[0] ?? '').split(';')[0] ?? ''
      aheadMs = 31 * MINUTE_MS
      expect((await ask('/console', { cookie: first.cookie })).status).toBe(303)
      const form = { csrf: first.csrf, confirmed: 'yes' }
      expect((await ask(`/console/orders/${paymentId}/sync`, { cookie: first.cookie, form })).status).toBe(401)
      for (let minutes = 31; minutes < 12 * 60; minutes += 25) {
        aheadMs = minutes * MINUTE_MS
        const kept = await ask('/console', { cookie })
        expect(kept.status).toBe(200)
        cookie = (kept.cookies[0] ?? '').split(';')[0] ?? ''
      }
      aheadMs = 12 * 60 * MINUTE_MS + 1000
      expect((await ask('/console', { cookie })).status).toBe(303)
    } finally {
      aheadMs = 0
    }
  })
})

describe('what a page contains', () => {
  it('nothing inline, and only what this service serves may load', async () => {
    const { cookie } = await signedIn()
    for (const path of ['/console/sign-in', '/console', `/console/orders/${paymentId}`, '/console/exceptions']) {
      const { html, headers } = await ask(path, { cookie })
      expect(html).not.toMatch(/<script(?![^>]*\ssrc="\/console\/)|<style|\sstyle=|\son[a-z]+=|javascript:/i)
      expect(html).not.toMatch(/(?:src|href)="(?!\/console|#|data:,)/)
      expect(headers.get('content-security-policy')).toMatch(/default-src 'none'.*script-src 'self'/)
      expect(headers.get('content-security-policy')).not.toContain('unsafe')
      expect(headers.get('cache-control')).toBe('no-store')
    }
  })

  it('a title with a script in it is text', async () => {
    const { cookie } = await signedIn()
    const { html } = await ask(`/console/orders/${paymentId}`, { cookie })
    expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
    expect(html).not.toContain('<script>alert')
  })

  it('templates put unescaped only other templates into a page', () => {
    for (const template of Object.values(TEMPLATES))
      for (const [, raw = ''] of template.matchAll(/<%~([\s\S]*?)%>/g))
        expect(raw.trim()).toMatch(/^(?:include\(|it\.body$)/)
  })

  it('assets are kept for good, by a path that changes with them', async () => {
    const { html } = await ask('/console/sign-in')
    const paths = [...html.matchAll(/(?:src|href)="(\/console\/assets\/[^"]+)"/g)].map(([, path = '']) => path)
    expect(paths.length).toBeGreaterThanOrEqual(4)
    for (const path of paths) {
      const { status, headers } = await ask(path)
      expect([status, headers.get('cache-control')]).toEqual([200, 'public, max-age=31536000, immutable'])
      const again = await ask(path, { headers: { 'if-none-match': headers.get('etag') ?? '' } })
      expect(again.status).toBe(304)
    }
  })

  it('the page speaks the language that was chosen, else the browser’s', async () => {
    expect((await ask('/console/sign-in', { headers: { 'accept-language': 'zh-CN,en' } })).html).toContain('运维令牌')
    const { status, headers, cookies } = await ask('/console/language?to=zh&back=%2Fconsole%2Ffind')
    expect([status, headers.get('location')]).toEqual([303, '/console/find'])
    const cookie = (cookies[0] ?? '').split(';')[0] ?? ''
    expect((await ask('/console/sign-in', { cookie })).html).toContain('运维令牌')
    const elsewhere = await ask('/console/language?to=en&back=%2F%2Fevil.example')
    expect(elsewhere.headers.get('location')).toBe('/console')
  })

  it('find reaches an order by each of its numbers, whatever is typed', async () => {
    const { cookie } = await signedIn()
    const sync = await service.sync(await service.register())
    const lookups = [paymentId, `B${paymentId}`, sync.traceId]
    for (const q of lookups) {
      const { status, headers } = await ask(`/console/find?q=${encodeURIComponent(q)}`, { cookie })
      expect([q, status]).toEqual([q, 303])
      expect(headers.get('location')).toMatch(/^\/console\/orders\/\d+$/)
    }
    for (const q of ["' OR 1=1 --", '9223372036854775808', '%00', '\u{1F600}', 'x'.repeat(101)]) {
      const { status, html } = await ask(`/console/find?q=${encodeURIComponent(q)}`, { cookie })
      expect([status, html.includes('No such order')]).toEqual([200, true])
    }
  })
})
