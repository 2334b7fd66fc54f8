import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSessions } from '../../src/http/console/session.js'
import { wordOf } from '../../src/http/console/words.js'
import { OPS_TOKEN, startService, type TestService } from '../support/service.js'

const MINUTE_MS = 60_000
const OTHER_TOKEN = 'another-token-of-ops'
let service: TestService
let aheadMs = 0
let paymentId: string
const logged: Record<string, unknown>[] = []

beforeAll(async () => {
  service = await startService({
    now: () => Date.now() + aheadMs,
    onLogLine: (line) => logged.push(JSON.parse(line) as Record<string, unknown>),
    environment: { LOG_LEVEL: 'info', OPS_TOKENS: `tester:${OPS_TOKEN},other:${OTHER_TOKEN}` },
  })
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
  const location = response.headers.get('location')
  return { status: response.status, headers: response.headers, location, cookies, html: await response.text() }
}

const cookieOf = (cookies: readonly string[]) => (cookies[0] ?? '').split(';')[0] ?? ''

async function signedIn(token = OPS_TOKEN) {
  const { cookies } = await ask('/console/sign-in', { form: { token } })
  const cookie = cookieOf(cookies)
  const { html } = await ask(`/console/orders/${paymentId}`, { cookie })
  const csrf = /name="csrf" value="([^"]+)"/.exec(html)?.[1] ?? ''
  const post = async (path: string, fields: Record<string, string> = {}) =>
    await ask(`/console${path}`, { cookie, form: { csrf, ...fields } })
  const get = async (path: string) => await ask(`/console${path}`, { cookie })
  return { cookie, csrf, get, post }
}

async function syncCount(): Promise<number> {
  return (await service.history(paymentId)).syncs.length
}

/** An order with an open finding; the finding's number. */
async function finding(): Promise<string> {
  const wrong = await service.register()
  service.wechat.putTrade(wrong, { state: 'SUCCESS', amount: 1 })
  await service.sync(wrong)
  return (await service.history(wrong)).exceptions[0]?.id ?? ''
}

/** The fields of the one form that a question's page asks to send. */
function fieldsOf(html: string): Record<string, string> {
  const inputs = [...html.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)">/g)]
  return Object.fromEntries(inputs.map(([, name = '', value = '']) => [name, value]))
}

describe('the door', () => {
  it('without a session every page leads to the sign-in, and forms do nothing', async () => {
    for (const path of ['/find?q=1', `/orders/${paymentId}`, '/exceptions', '/batches/new?limit=1']) {
      const { status, location } = await ask(`/console${path}`)
      const back = new URLSearchParams({ back: `/console${path}` }).toString()
      expect([path, status, location]).toEqual([path, 303, `/console/sign-in?${back}`])
    }
    expect((await ask('/console')).location).toBe('/console/sign-in')
    expect((await ask(`/console/orders/${paymentId}/sync`, { form: { csrf: 'x' } })).status).toBe(401)
    expect(await syncCount()).toBe(0)
  })

  it('the sign-in leads on to the page that was wanted, and to no other place', async () => {
    const { location } = await ask('/console/find?q=a%20b')
    const { html } = await ask(location ?? '')
    const wanted = await ask('/console/sign-in', { form: { ...fieldsOf(html), token: OPS_TOKEN } })
    expect([wanted.status, wanted.location]).toEqual([303, '/console/find?q=a%20b'])
    const elsewhere = await ask('/console/sign-in', { form: { token: OPS_TOKEN, back: 'https://evil.example' } })
    expect([elsewhere.status, elsewhere.location]).toEqual([303, '/console'])
  })

  it('a part of a page is told to sign in and come back rather than given the form; a stream says so itself', async () => {
    const headers = { 'hx-request': 'true', 'hx-current-url': `${service.url}/console/orders/${paymentId}` }
    const part = await ask('/console/live', { headers })
    const back = new URLSearchParams({ back: `/console/orders/${paymentId}` }).toString()
    expect([part.status, part.headers.get('hx-redirect')]).toEqual([401, `/console/sign-in?${back}`])
    const stream = await ask('/console/batches/1/events', { headers: { accept: 'text/html, text/event-stream' } })
    expect(stream.html).toMatch(/^data: .*Your session has ended[^]*\nevent: over\ndata: \n\n$/)
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

  it('behind a proxy that speaks TLS the session cookie is Secure as well', async () => {
    const behind = await startService({ environment: { TRUST_PROXY: '127.0.0.1' } })
    try {
      const { headers } = await fetch(`${behind.url}/console/sign-in`, {
        method: 'POST',
        redirect: 'manual',
        headers: {
          origin: 'https://pay.example',
          'x-forwarded-proto': 'https',
          'x-forwarded-host': 'pay.example',
          'x-forwarded-for': '203.0.113.7',
        },
        body: new URLSearchParams({ token: OPS_TOKEN }),
      })
      expect(headers.getSetCookie()[0]).toMatch(/; HttpOnly; Secure; SameSite=Strict$/)
    } finally {
      await behind.stop()
    }
  })

  it('behind a proxy that sends its own name as Host the browser’s word opens, that the form is of this origin', async () => {
    const headers = { origin: 'https://pay.example', 'sec-fetch-site': 'same-origin' }
    const { status, cookies } = await ask('/console/sign-in', { form: { token: OPS_TOKEN }, headers })
    expect(status).toBe(303)
    const cookie = cookieOf(cookies)
    const { html } = await ask(`/console/orders/${paymentId}`, { cookie })
    const { csrf = '' } = fieldsOf(html)
    const form = { csrf }
    const synced = await ask(`/console/orders/${paymentId}/sync`, { cookie, form, headers })
    expect([synced.status, synced.location]).toEqual([303, `/console/orders/${paymentId}?done=sync`])
  })

  it('a sign-in of another origin than Host is refused, says what a proxy has to pass on, and stands in the log', async () => {
    logged.length = 0
    const { host } = new URL(service.url)
    for (const [language, words] of [
      ['en', 'TRUST_PROXY'],
      ['zh', '请让代理'],
    ] as const) {
      const headers = { origin: 'https://pay.example', 'accept-language': language }
      const { status, cookies, html } = await ask('/console/sign-in', { form: { token: OPS_TOKEN }, headers })
      expect([status, cookies]).toEqual([403, []])
      expect(html).toContain(words)
    }
    const refused = {
      level: 'warn',
      event: 'console_form_refused',
      address: '127.0.0.1',
      origin: 'https://pay.example',
      host,
    }
    expect(logged).toMatchObject([refused, refused])
  })

  it('a changed cookie is no session', async () => {
    const { cookie } = await signedIn()
    const flipped = cookie.replace(/=(.)/, (_, first: string) => `=${first === 'W' ? 'X' : 'W'}`)
    expect((await ask('/console', { cookie: flipped })).status).toBe(303)
    expect((await ask('/console', { cookie })).status).toBe(200)
  })

  it('a session goes with the token that it was opened by, also while the operator has two', async () => {
    const sessionsOf = (...tokens: string[]) => createSessions(tokens.map((token) => ({ name: 'bob', token })))
    const both = sessionsOf('old-token', 'new-token')
    const nowMs = Date.now()
    for (const token of ['old-token', 'new-token']) {
      const { sealed } = both.signIn(token, nowMs) ?? { sealed: '' }
      const session = both.read(sealed, nowMs)
      expect(session).toMatchObject({ operator: 'bob' })
      const renewed = session === null ? '' : both.renew(session, nowMs)
      for (const cookie of [sealed, renewed]) {
        const stays = sessionsOf('new-token').read(cookie, nowMs)
        expect(stays === null).toBe(token === 'old-token')
      }
    }
  })

  it('a form of another origin, of a hidden one, or without this session’s token does nothing', async () => {
    const { cookie, csrf } = await signedIn()
    const path = `/console/orders/${paymentId}/sync`
    const form = { csrf }
    const before = await syncCount()
    const attempts: readonly Options[] = [
      { cookie, form, headers: { origin: 'https://evil.example' } },
      { cookie, form, headers: { origin: 'null' } },
      { cookie, form, headers: { 'sec-fetch-site': 'cross-site' } },
      { cookie, form: { csrf: '' } },
      { cookie, form: { csrf: (await signedIn()).csrf } },
      { cookie, form: { csrf: (await signedIn(OTHER_TOKEN)).csrf } },
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
      let cookie = cookieOf(used.cookies)
      aheadMs = 31 * MINUTE_MS
      expect((await ask('/console', { cookie: first.cookie })).status).toBe(303)
      expect((await first.post(`/orders/${paymentId}/sync`)).status).toBe(401)
      for (let minutes = 31; minutes < 12 * 60; minutes += 25) {
        aheadMs = minutes * MINUTE_MS
        const kept = await ask('/console', { cookie })
        expect(kept.status).toBe(200)
        cookie = cookieOf(kept.cookies)
      }
      aheadMs = 12 * 60 * MINUTE_MS + 1000
      expect((await ask('/console', { cookie })).status).toBe(303)
    } finally {
      aheadMs = 0
    }
  })

  it('two tabs share a session; signed out in one, it is over in the other and for every copy of the cookie', async () => {
    const tab = await signedIn()
    const renewed = cookieOf((await tab.get('')).cookies)
    const before = await syncCount()
    expect((await ask(`/console/orders/${paymentId}/sync`, { cookie: renewed, form: { csrf: tab.csrf } })).status).toBe(
      303,
    )
    expect((await tab.post(`/orders/${paymentId}/sync`)).status).toBe(303)
    expect(await syncCount()).toBe(before + 2)
    const out = await ask('/console/sign-out', { cookie: renewed, form: { csrf: tab.csrf } })
    expect([out.status, out.location, out.cookies[0]]).toEqual([
      303,
      '/console/sign-in',
      expect.stringMatching(/^unipay_console=;/),
    ])
    for (const copy of [tab.cookie, renewed]) expect((await ask('/console', { cookie: copy })).status).toBe(303)
    const instance = await startService({ database: service.database, sandboxes: service })
    const elsewhere = await fetch(`${instance.url}/console`, { redirect: 'manual', headers: { cookie: renewed } })
    expect([elsewhere.status, elsewhere.headers.get('location')]).toEqual([303, '/console/sign-in'])
    await instance.stop()
    expect((await tab.post(`/orders/${paymentId}/sync`)).status).toBe(401)
    expect(await syncCount()).toBe(before + 2)
  })

  it('a sign-out is kept for as long as its session could have lived, and no longer', async () => {
    await service.pool.query(
      `INSERT INTO console_sign_outs (session_id, ended_at) VALUES ('over', now() - interval '12 hours 1 minute'),
         ('not over', now() - interval '11 hours')`,
    )
    await (await signedIn()).post('/sign-out')
    const { rows } = await service.pool.query<{ id: string }>(
      `SELECT session_id AS id FROM console_sign_outs WHERE session_id LIKE '%over'`,
    )
    expect(rows).toEqual([{ id: 'not over' }])
  })

  it('a form that is too large, of another kind, or has a field twice does nothing', async () => {
    const id = await finding()
    const { cookie, csrf, post } = await signedIn()
    const path = `/exceptions/${id}/resolve`
    expect((await post(path, { note: 'x'.repeat(20_000) })).status).toBe(413)
    for (const [type, body, status] of [
      ['application/x-www-form-urlencoded', `csrf=${csrf}&note=a&note=b`, 400],
      ['application/x-www-form-urlencoded', `csrf=${csrf}&csrf=${csrf}&note=a`, 403],
      ['text/plain', `csrf=${csrf}&note=a`, 403],
      ['multipart/form-data; boundary=x', `--x--`, 415],
    ] as const) {
      const headers = { cookie, origin: service.url, 'content-type': type }
      const sent = await fetch(`${service.url}/console${path}`, { method: 'POST', redirect: 'manual', headers, body })
      expect([body, sent.status]).toEqual([body, status])
    }
    const { rows } = await service.pool.query<{ state: string }>('SELECT state FROM sync_exceptions WHERE id = $1', [
      id,
    ])
    expect(rows[0]?.state).toBe('open')
  })

  it('who came, who was turned away and who left stands in the log, and no token does', async () => {
    logged.length = 0
    await ask('/console/sign-in', { form: { token: 'a-wrong-token' } })
    const { post } = await signedIn(OTHER_TOKEN)
    await ask('/console/exceptions/1/resolve', { cookie: (await signedIn()).cookie, form: { csrf: 'stolen' } })
    await post('/sign-out')
    const told = logged.map(({ event, operator, address }) => [event, operator, address])
    expect(told).toEqual([
      ['console_refused', undefined, '127.0.0.1'],
      ['console_signed_in', 'other', '127.0.0.1'],
      ['console_signed_in', 'tester', '127.0.0.1'],
      ['console_form_refused', undefined, '127.0.0.1'],
      ['console_signed_out', 'other', undefined],
    ])
    expect(JSON.stringify(logged)).not.toMatch(/a-wrong-token|another-token/)
  })
})

describe('what a page contains', () => {
  it('nothing inline, and only what this service serves may load', async () => {
    const { get } = await signedIn()
    for (const path of [
      '/sign-in',
      '',
      `/orders/${paymentId}`,
      '/exceptions',
      '/batches',
      '/notices',
      '/no-such-page',
    ]) {
      const { html, headers } = await get(path)
      expect(html).not.toMatch(/<script(?![^>]*\ssrc="\/console\/)|<style|\sstyle=|\son[a-z]+=|javascript:/i)
      expect(html).not.toMatch(/(?:src|href)="(?!\/console|#|data:,)/)
      expect(headers.get('content-security-policy')).toMatch(/default-src 'none'.*script-src 'self'/)
      expect(headers.get('content-security-policy')).not.toContain('unsafe')
      expect(headers.get('cache-control')).toBe('no-store')
    }
  })

  it('no link is dead and no form leads nowhere, on every page that links lead to, in both languages', async () => {
    await finding()
    const told = await service.register({ notifyUrl: 'https://merchant.example/notice' })
    service.wechat.putTrade(told, { state: 'SUCCESS', amount: 1000 })
    await service.sync(told)
    await service.ops('POST', '/ops/batches', { dryRun: true, limit: 1 })
    const { cookie } = await signedIn()
    const seen = new Map([['/console', 0]])
    const forms = new Set<string>()
    for (const [path] of seen) {
      const page = await ask(path, { cookie: `${cookie}; unipay_language=${seen.size % 2 === 0 ? 'en' : 'zh'}` })
      seen.set(path, page.status)
      for (const [, href = ''] of page.html.matchAll(/\shref="(\/console[^"]*)"/g)) {
        const plain = href.replaceAll('&amp;', '&')
        // What the language link leads back to is this very page.
        if (!plain.startsWith('/console/language') && !plain.includes('/assets/') && !seen.has(plain))
          seen.set(plain, 0)
      }
      for (const [, action = ''] of page.html.matchAll(/<form[^>]*method="post" action="([^"]+)"/g)) forms.add(action)
      expect(seen.size).toBeLessThan(200)
    }
    expect([...seen].filter(([, status]) => status !== 200)).toEqual([])
    const kinds = new Set([...seen.keys()].map((path) => path.replace(/\d+/g, 'N').replace(/\?.*/, '')))
    for (const kind of [
      '/orders/N',
      '/orders/N/sync',
      '/exceptions/N/resolve',
      '/notices/N/redeliver',
      '/batches/N',
      '/batches/N/cancel',
    ])
      expect(kinds).toContain(`/console${kind}`)
    for (const action of forms)
      expect([action, (await ask(action, { cookie, form: {} })).status]).toEqual([action, 403])
    expect(forms.size).toBeGreaterThan(5)
  })

  it('a notice of whose order a newer one exists is not sent again, from no page, in either language', async () => {
    const id = await service.registerPaidLate()
    const [newer, older] = (await service.history(id)).notices
    const { cookie, csrf, get, post } = await signedIn()
    const links = (html: string) => [...html.matchAll(/\/notices\/(\d+)\/redeliver"/g)].map(([, notice]) => notice)
    expect(links((await get(`/orders/${id}`)).html)).toEqual([newer?.id])
    const list = (await get('/notices?state=superseded')).html
    expect([list.includes(id), links(list)]).toEqual([true, []])
    const question = await get(`/notices/${older?.id}/redeliver`)
    expect([question.status, question.html]).toEqual([
      409,
      expect.stringContaining('A newer notice of this order exists'),
    ])
    // A question that was asked before the newer one was written.
    const sent = await post(`/notices/${older?.id}/redeliver`)
    expect([sent.status, sent.html]).toEqual([409, expect.stringContaining('A newer notice of this order exists')])
    const chinese = { cookie: `${cookie}; unipay_language=zh`, form: { csrf } }
    expect((await ask(`/console/notices/${older?.id}/redeliver`, chinese)).html).toContain('此订单已有更新的通知')
    expect((await service.history(id)).notices).toMatchObject([{ state: 'pending' }, { state: 'superseded' }])
    expect(await post(`/notices/${newer?.id}/redeliver`)).toMatchObject({ status: 303, location: '/console/notices' })
  })

  it('a title with a script in it is text', async () => {
    const { get } = await signedIn()
    const { html } = await get(`/orders/${paymentId}`)
    expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
    expect(html).not.toContain('<script>alert')
  })

  it('what gateways, merchants and operators wrote is text everywhere, and what cannot be seen in it is spelled out', async () => {
    const hostile = '</pre><img src=x onerror=alert(1)>\u202E"\'{{1234*5678}}<%= it %>'
    const id = await service.register({ title: hostile, businessNo: `N${hostile}`, notifyUrl: 'https://m.example/' })
    const { rows } = await service.pool.query<{ id: string }>(
      `INSERT INTO sync_records (order_id, trace_id, source, actor, outcome, gateway_status, decision, error_msg, exchanges, duration_ms)
       VALUES ($1, 'hostile', 'merchant', $2, 'unknown', 'pay_fail', 'none', $2, $3, 1) RETURNING id`,
      [
        id,
        hostile,
        JSON.stringify([{ method: 'GET', host: hostile, path: hostile, status: 200, durationMs: 1, body: hostile }]),
      ],
    )
    await service.pool.query(
      `INSERT INTO sync_exceptions (order_id, sync_id, kind, at_risk_fen, fingerprint, evidence) VALUES ($1, $2, 'double_payment', 1, 'x', $3)`,
      [id, rows[0]?.id, JSON.stringify({ stateThere: hostile, gatewayState: hostile, note: hostile })],
    )
    await service.pool.query(
      `WITH r AS (INSERT INTO repair_records (repair_no, order_id, sync_id, way, gateway_status, status_before, status_after, amount_fen, actor)
         VALUES (99, $1, $2, 'pay_success', 'pay_success', 'progress', 'success', 1, $3) RETURNING order_id),
       n AS (INSERT INTO notices (order_id, repair_no, trace_id, url, host, payload) SELECT order_id, 99, 't', $3, 'm', '{}' FROM r RETURNING id)
       INSERT INTO notice_attempts (notice_id, attempt, outcome, excerpt, duration_ms) SELECT id, 1, 'refused', $3, 1 FROM n`,
      [id, rows[0]?.id, hostile],
    )
    const { get } = await signedIn()
    const found = `/find?q=${encodeURIComponent(hostile)}`
    for (const path of [`/orders/${id}`, `/orders/${id}/sync`, '/exceptions', '/notices', '/find?q=hostile', found]) {
      const { status, html } = await get(path)
      expect([path, status === 303 || html.includes('&lt;/pre&gt;&lt;img')]).toEqual([path, true])
      expect(html).not.toMatch(/<img|onerror=alert\(1\)>|\u202E/)
      expect(html).not.toContain('7006652')
    }
    const { html } = await get(`/orders/${id}`)
    expect(html).toContain('⟨U+202E⟩')
    expect((await get(`/find?q=${encodeURIComponent(`\u200BN${hostile}`)}`)).status).toBe(200)
  })

  it('an id of 19 digits is found exactly, also with a zero-width character pasted along', async () => {
    const { get } = await signedIn()
    for (const q of [paymentId, `${paymentId}\u200B`, ` \uFEFF${paymentId}`]) {
      const { status, location } = await get(`/find?q=${encodeURIComponent(q)}`)
      expect([status, location]).toEqual([303, `/console/orders/${paymentId}`])
    }
    const next = (BigInt(paymentId) + 1_000_000_000n).toString()
    expect((await get(`/orders/${next}`)).status).toBe(404)
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

  it('the page speaks the language that was chosen, else the browser’s, and stays where it is', async () => {
    expect((await ask('/console/sign-in', { headers: { 'accept-language': 'zh-CN,en' } })).html).toContain('运维令牌')
    const { get, post, cookie } = await signedIn()
    for (const path of [
      `/find?q=${encodeURIComponent('无此订单 *')}`,
      '/exceptions?state=all&kind=',
      `/orders/${paymentId}/sync`,
    ]) {
      const link = /href="(\/console\/language[^"]+)"/.exec((await get(path)).html)?.[1]?.replaceAll('&amp;', '&') ?? ''
      const { status, location, cookies } = await ask(link, { cookie })
      expect([status, location]).toEqual([303, `/console${path}`])
      const chinese = await ask(location ?? '', { cookie: `${cookie}; ${cookieOf(cookies)}` })
      expect(chinese.html).toContain('<html lang="zh-CN">')
    }
    // Where a form led, there is nothing to stay at: the page it was on is shown again.
    const after = await post(`/orders/${paymentId}/dry-run`)
    expect(after.html).toContain(`back=${encodeURIComponent(`/console/orders/${paymentId}`)}`)
  })

  it('every code that records can hold has a Chinese word', async () => {
    const { rows } = await service.pool.query<{ name: string; definition: string }>(
      `SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
       WHERE contype = 'c' AND conname LIKE '%\\_known' AND conname <> 'orders_pay_way_known'`,
    )
    expect(rows.length).toBeGreaterThanOrEqual(9)
    const codes = rows.flatMap(({ name, definition }) =>
      [...definition.matchAll(/'([a-z_]+)'::/g)].map(([, code = '']) =>
        name.includes('source') ? `by_${code}` : code,
      ),
    )
    expect(codes.length).toBeGreaterThan(35)
    expect(codes.filter((code) => !/[\u4E00-\u9FFF]/.test(wordOf('zh', code)))).toEqual([])
  })

  it('find reaches an order by each of its numbers, whatever is typed', async () => {
    const { get } = await signedIn()
    const settled = await service.register()
    service.wechat.putTrade(settled, { state: 'SUCCESS', amount: 1000 })
    const { traceId } = await service.sync(settled)
    const { order } = await service.history(settled)
    for (const q of [settled, `B${settled}`, order.gatewayOrderNo ?? '', traceId]) {
      const { status, location } = await get(`/find?q=${encodeURIComponent(q)}`)
      expect([q, status, location]).toEqual([q, 303, `/console/orders/${settled}`])
    }
    for (const q of ["' OR 1=1 --", '9223372036854775808', '%00', '\u{1F600}', 'x'.repeat(101)]) {
      const { status, html } = await get(`/find?q=${encodeURIComponent(q)}`)
      expect([status, html.includes('No such order')]).toEqual([200, true])
    }
  })
})

describe('what operators do', () => {
  it('a question changes nothing, and tells the fen', async () => {
    const exceptionId = await finding()
    const { get } = await signedIn()
    const before = await syncCount()
    const questions = [
      `/orders/${paymentId}/sync`,
      `/exceptions/${exceptionId}/resolve`,
      '/batches/new?limit=5&ratePerS=1',
    ]
    const counts = async () =>
      (
        await service.pool.query(
          `SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM sync_exceptions WHERE state = 'open')`,
        )
      ).rows
    const earlier = await counts()
    for (const path of questions)
      expect((await get(path)).html).toMatch(/\d+\.\d\d\u{A0}CNY<\/span> <small class="muted">\d+\u{A0}fen/u)
    expect(await syncCount()).toBe(before)
    expect(await counts()).toEqual(earlier)
  })

  it('a sync that had the trade closed and did not learn what became of that says so, in either language', async () => {
    const { post, cookie, csrf } = await signedIn()
    const syncExpired = async (send: (path: string) => Promise<{ html: string }>) => {
      const id = await service.register({ expiredTime: new Date(Date.now() - MINUTE_MS).toISOString() })
      service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
      const hold = service.wechat.holdNext('close', id)
      const page = send(`/orders/${id}/sync`)
      await hold.arrived
      service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 3, outTradeNo: id }])
      hold.release()
      return (await page).html
    }
    expect(await syncExpired(post)).toContain('Nothing changed here. The gateway was asked to close or reverse')
    const inChinese = async (path: string) =>
      await ask(`/console${path}`, { cookie: `${cookie}; unipay_language=zh`, form: { csrf } })
    expect(await syncExpired(inChinese)).toContain('本地未作任何改动。 已请求网关关闭或撤销此交易')
  })

  it('of two operators who resolve one exception, the first one’s note stays and the second is told', async () => {
    const id = await finding()
    const [one, other] = [await signedIn(), await signedIn(OTHER_TOKEN)]
    expect((await other.get(`/exceptions/${id}/resolve`)).status).toBe(200)
    const answers = await Promise.all([
      one.post(`/exceptions/${id}/resolve`, { note: 'by one' }),
      other.post(`/exceptions/${id}/resolve`, { note: 'by the other' }),
    ])
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([303, 409])
    const { rows } = await service.pool.query<{ resolved_by: string; note: string }>(
      'SELECT resolved_by, note FROM sync_exceptions WHERE id = $1',
      [id],
    )
    const first = answers[0].status === 303 ? ['tester', 'by one'] : ['other', 'by the other']
    expect([rows[0]?.resolved_by, rows[0]?.note]).toEqual(first)
    expect((await other.get(`/exceptions/${id}/resolve`)).status).toBe(409)
  })

  it.each([
    ['empty', ''],
    ['blank', '  '],
    ['too long', 'x'.repeat(1001)],
    ['with a NUL', 'a\0b'],
  ])('a note that is %s resolves nothing', async (_, note) => {
    const id = await finding()
    const { post } = await signedIn()
    expect((await post(`/exceptions/${id}/resolve`, { note })).status).toBe(400)
    const { rows } = await service.pool.query<{ state: string }>('SELECT state FROM sync_exceptions WHERE id = $1', [
      id,
    ])
    expect(rows[0]?.state).toBe('open')
  })

  it('a batch that was asked for once is made once, however often its form is sent', async () => {
    const { get, post } = await signedIn()
    const { html } = await get('/batches/new?limit=3&ratePerS=1&dryRun=yes&status=progress')
    expect(html).toContain('A dry run asks and changes nothing')
    const answers = await Promise.all([1, 2, 3].map(async () => await post('/batches', fieldsOf(html))))
    expect(answers.map(({ status }) => status)).toEqual([303, 303, 303])
    expect(new Set(answers.map(({ location }) => location)).size).toBe(1)
  })

  it.each([
    ['ratePerS=101', 'Per second (1–100)'],
    ['ratePerS=0', 'Per second (1–100)'],
    ['limit=100001', 'Orders at most (1–100000)'],
    ['limit=-1', 'Orders at most (1–100000)'],
    ['channel=bank', 'Channel'],
    ['status=paid', 'Status'],
    ['createdFrom=yesterday', 'Created from'],
    ['createdTo=2026-02-30T00%3A00%3A00Z', 'Created before'],
  ])('a batch of %s is refused, naming the field and its bounds', async (field, name) => {
    const { get, post } = await signedIn()
    const query = new URLSearchParams({ limit: '1', ratePerS: '1', ...Object.fromEntries(new URLSearchParams(field)) })
    const { status, html } = await get(`/batches/new?${query.toString()}`)
    expect([status, html.includes(name)]).toEqual([400, true])
    const fields = { ...Object.fromEntries(query), traceId: 'abcdefghijkl' }
    expect((await post('/batches', fields)).status).toBe(400)
  })

  it('a batch that nothing matches is not offered', async () => {
    const { get } = await signedIn()
    const { html } = await get('/batches/new?limit=1&ratePerS=1&createdTo=2001-01-01T00%3A00')
    expect(html).toContain('No order matches')
    expect(html).not.toContain('action="/console/batches"')
  })

  it('a batch is paused, cancelled and resumed by whoever comes first; the second is told what became of it', async () => {
    const { body } = await service.ops('POST', '/ops/batches', { limit: 2, ratePerS: 1 })
    const { id } = body as { id: string }
    const [one, other] = [await signedIn(), await signedIn(OTHER_TOKEN)]
    const state = async () =>
      (await service.ops('GET', `/ops/batches/${id}`)).body as { state: string; cancelledBy: string | null }
    const first = await Promise.all([one.post(`/batches/${id}/pause`), other.post(`/batches/${id}/pause`)])
    expect(first.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([303, 409])
    expect(await state()).toMatchObject({ state: 'paused' })
    expect((await other.post(`/batches/${id}/pause`)).html).toContain('paused')
    expect((await other.post(`/batches/${id}/cancel`)).status).toBe(303)
    expect(await state()).toMatchObject({ state: 'cancelled', cancelledBy: 'other' })
    const late = await one.get(`/batches/${id}/cancel`)
    expect([late.status, late.html.includes('cancelled')]).toEqual([409, true])
    expect((await one.post(`/batches/${id}/resume`)).status).toBe(303)
    expect(await state()).toMatchObject({ state: 'running', cancelledBy: null })
    expect((await other.post(`/batches/${id}/resume`)).status).toBe(409)
    expect((await other.post(`/batches/${id}/cancel`)).status).toBe(303)
    const { html } = await one.get('/batches')
    expect(html).toMatch(new RegExp(`/batches/${id}"[^]*?cancelled`))
  })

  it('every action stands in the log and the records under the name of who did it', async () => {
    const exceptionId = await finding()
    const { post } = await signedIn(OTHER_TOKEN)
    logged.length = 0
    await post(`/orders/${paymentId}/dry-run`)
    await post(`/orders/${paymentId}/sync`)
    await post(`/exceptions/${exceptionId}/resolve`, { note: 'looked at' })
    const told = logged
      .filter(({ level }) => level === 'info')
      .map(({ event, actor, operator, dryRun }) => [event, actor ?? operator, dryRun])
    expect(told).toEqual([
      ['sync', 'other', true],
      ['sync', 'other', undefined],
      ['exception_resolved', 'other', undefined],
    ])
    expect((await service.history(paymentId)).syncs[0]).toMatchObject({ source: 'operator', actor: 'other' })
  })
})

describe('what needs attention', () => {
  it('stands first, each with its figure: findings, a gateway that is not asked, work that is late', async () => {
    const troubled = await startService()
    try {
      const late = await troubled.register({ notifyUrl: 'https://merchant.example/', amount: 500 })
      troubled.wechat.putTrade(late, { state: 'SUCCESS', amount: 500 })
      await troubled.sync(late)
      const wrong = await troubled.register({ amount: 123_456 })
      troubled.wechat.putTrade(wrong, { state: 'SUCCESS', amount: 1 })
      await troubled.sync(wrong)
      await troubled.pool.query(`UPDATE notices SET next_attempt_at = now() - interval '20 minutes'`)
      await troubled.pool.query(`UPDATE orders SET next_sync_at = now() - interval '2 hours' WHERE id = $1`, [wrong])
      troubled.wechat.addFaults([{ on: 'query', fault: 'reset', times: 1_000 }])
      const orders = await Promise.all(Array.from({ length: 40 }, async () => await troubled.register()))
      await Promise.all(orders.map(async (id) => await troubled.sync(id)))
      const signed = await fetch(`${troubled.url}/console/sign-in`, {
        method: 'POST',
        headers: { origin: troubled.url },
        redirect: 'manual',
        body: new URLSearchParams({ token: OPS_TOKEN }),
      })
      const headers = { cookie: cookieOf(signed.headers.getSetCookie()) }
      const html = (await (await fetch(`${troubled.url}/console`, { headers })).text()).replaceAll('\u{A0}', ' ')
      const alarms = [...html.matchAll(/<li class="(bad|warn)">([^]*?)<\/li>/g)].map(([, tone = '', text = '']) => [
        tone,
        text.replace(/<[^>]+>/g, ''),
      ])
      expect(alarms).toEqual([
        ['bad', 'Open exceptions: 1 · 1,234.56 CNY (123456 fen)'],
        [
          expect.stringMatching(/^(?:bad|warn)$/),
          expect.stringMatching(/^wechat_pay · Breaker: (?:open: not asked|probing)$/),
        ],
        ['warn', 'wechat_pay · Oldest due order: 2.0 h'],
        ['warn', expect.stringMatching(/^Oldest due notice: 20\.\d min$/)],
      ])
      expect(html.indexOf('id="attention"')).toBeGreaterThan(0)
      expect(html.indexOf('id="attention"')).toBeLessThan(html.indexOf('role="search"'))
    } finally {
      await troubled.stop()
    }
  })
})

describe('the curves', () => {
  it('tell the gateway’s own time and the errors of each channel, of minutes that are over', async () => {
    const other = await startService()
    try {
      const start = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS - 20 * MINUTE_MS
      const id = await other.register()
      for (const [channel, gatewayMs, outcome, seconds] of [
        ['wechat_pay', 40, 'synced', 1],
        ['wechat_pay', 60, 'synced', 20],
        ['wechat_pay', 900, 'unknown', 40],
        ['ali_pay', null, 'unknown', 2],
        ['ali_pay', 7, 'failed', 65],
      ] as const) {
        await other.pool.query(
          `INSERT INTO sync_records (order_id, trace_id, source, outcome, gateway_status, decision, exchanges, duration_ms, created_at, channel, gateway_ms)
           VALUES ($1, 't', 'sweeper', $2, 'pay_fail', 'none', '[]', 5000, $3, $4, $5)`,
          [id, outcome, new Date(start + seconds * 1000), channel, gatewayMs],
        )
      }
      // A real one, of a minute that is not over: it is not shown yet, and it has its channel and time.
      await other.sync(id)
      const { rows } = await other.pool.query<{ channel: string; known: boolean }>(
        'SELECT channel, gateway_ms BETWEEN 0 AND duration_ms + 1 AS known FROM sync_records WHERE trace_id <> $1',
        ['t'],
      )
      expect(rows).toEqual([{ channel: 'wechat_pay', known: true }])
      const signed = await fetch(`${other.url}/console/sign-in`, {
        method: 'POST',
        redirect: 'manual',
        headers: { origin: other.url },
        body: new URLSearchParams({ token: OPS_TOKEN }),
      })
      const headers = { cookie: cookieOf(signed.headers.getSetCookie()), accept: 'application/json' }
      type View = {
        minutes: number[]
        curves: Record<string, { series: { label: string; values: (number | null)[] }[] }>
      }
      const view = (await (await fetch(`${other.url}/console/curves`, { headers })).json()) as View
      const at = view.minutes.indexOf(start / 1000)
      const valuesOf = (name: string) =>
        Object.fromEntries(
          (view.curves[name]?.series ?? []).map(({ label, values }) => [label, values.slice(at, at + 2)]),
        )
      expect(view.minutes).toHaveLength(180)
      expect((view.minutes.at(-1) ?? 0) * 1000).toBeLessThan(Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS)
      expect(valuesOf('syncs')).toEqual({ wechat_pay: [3, 0], ali_pay: [1, 1] })
      expect(valuesOf('failures')).toEqual({ wechat_pay: [1, 0], ali_pay: [1, 1] })
      expect(valuesOf('latency')).toEqual({
        'wechat_pay p50': [60, null],
        'wechat_pay p95': [900, null],
        'ali_pay p50': [null, 7],
        'ali_pay p95': [null, 7],
      })
    } finally {
      await other.stop()
    }
  })
})
