import cookie from '@fastify/cookie'
import formbody from '@fastify/formbody'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

import type { SignOuts } from '../../store/sign-outs.js'
import { createFailures } from '../ops/failures.js'
import type { OpsToken } from '../ops/operator.js'
import { registerAssets } from './assets.js'
import { type BatchPageDeps, registerBatchPages } from './batch-pages.js'
import { eventOf, STREAM_OVER } from './event-stream.js'
import { registerExceptionPages } from './exception-pages.js'
import { registerNoticePages } from './notice-pages.js'
import { type NowDeps, registerNowPages } from './now-pages.js'
import { type OrderPageDeps, registerOrderPages } from './order-pages.js'
import { createRender, LANGUAGE_COOKIE, type Render } from './render.js'
import { createSessions, SESSION_COOKIE, SESSION_MAX_AGE_S, type Session, type Sessions } from './session.js'
import { fieldOf, isOwnForm, isSameOrigin, ownPage, queryOf, visitOf } from './visit.js'
import { LANGUAGES, languageOf } from './words.js'

type DoorDeps = Readonly<{ tokens: readonly OpsToken[]; signOuts: SignOuts; now: () => number }>
export type ConsoleDeps = DoorDeps &
  NowDeps &
  OrderPageDeps &
  BatchPageDeps &
  Parameters<typeof registerExceptionPages>[2] &
  Parameters<typeof registerNoticePages>[2]

/** Forms are a few fields; the longest is a note. */
const FORM_BYTES_MAX = 16 * 1024
const YEAR_S = 365 * 86_400

/** The operators' page. Whoever is not signed in sees the sign-in form and the assets, nothing else. */
export async function registerConsole(scope: FastifyInstance, deps: ConsoleDeps): Promise<void> {
  const sessions = createSessions(deps.tokens)
  await scope.register(cookie)
  await scope.register(formbody, { bodyLimit: FORM_BYTES_MAX })
  scope.decorateRequest('visit', null)
  // Browsers hide a form's origin under `no-referrer`; within the page it must be told, to others it stays hidden.
  scope.addHook('onRequest', async (_request, reply) => void reply.header('referrer-policy', 'same-origin'))
  const render = createRender(registerAssets(scope))
  scope.setErrorHandler(async (error: FastifyError, request, reply) => await onError(error, request, reply, render))
  scope.setNotFoundHandler(async (request, reply) => {
    const { t } = languageFor(request)
    return await render.message(request, reply, 404, t.noSuchPage, t.noSuch)
  })
  registerDoor(scope, deps, sessions, render)
  await scope.register(async (inner) => {
    guard(inner, deps, sessions, render)
    registerNowPages(inner, render, deps)
    registerOrderPages(inner, render, deps)
    registerExceptionPages(inner, render, deps)
    registerNoticePages(inner, render, deps)
    registerBatchPages(inner, render, deps)
    inner.post('/sign-out', async (request, reply) => {
      const { session } = visitOf(request)
      await deps.signOuts.end(session.id)
      request.log.info({ event: 'console_signed_out', operator: session.operator })
      return await reply.clearCookie(SESSION_COOKIE, { path: '/console' }).redirect('/console/sign-in', 303)
    })
  })
}

/** What is open to everybody: signing in, and the choice of language. */
function registerDoor(scope: FastifyInstance, { now }: DoorDeps, sessions: Sessions, render: Render): void {
  const failures = createFailures(() => performance.now())
  scope.get('/sign-in', async (request, reply) => {
    return await render.page(request, reply, 'sign-in', { goal: ownPage(queryOf(request, 'back')) })
  })

  scope.post('/sign-in', async (request, reply) => {
    const { t } = languageFor(request)
    if (!isSameOrigin(request)) {
      logRefusedForm(request)
      return await render.message(request, reply, 403, t.denied, t.otherOrigin)
    }
    const goal = ownPage(fieldOf(request, 'back'))
    const again = { goal, back: signInFor(goal) }
    const waitS = failures.waitS(request.ip)
    if (waitS > 0) {
      void reply.code(429).header('retry-after', waitS)
      return await render.page(request, reply, 'sign-in', { ...again, problem: t.tooMany })
    }
    const signedIn = sessions.signIn(fieldOf(request, 'token'), now())
    if (signedIn === null) {
      failures.failed(request.ip)
      request.log.warn({ event: 'console_refused', address: request.ip })
      void reply.code(401)
      return await render.page(request, reply, 'sign-in', { ...again, problem: t.wrongToken })
    }
    request.log.info({ event: 'console_signed_in', operator: signedIn.operator, address: request.ip })
    return await setSession(request, reply, signedIn.sealed).redirect(goal, 303)
  })

  scope.get('/language', async (request, reply) => {
    const to = queryOf(request, 'to') === 'zh' ? 'zh' : 'en'
    const cookieOptions = { path: '/console', maxAge: YEAR_S, sameSite: 'strict', secure: isSecure(request) } as const
    void reply.setCookie(LANGUAGE_COOKIE, to, { ...cookieOptions, httpOnly: true })
    return await reply.redirect(ownPage(queryOf(request, 'back')), 303)
  })
}

/** Lets only sessions through, and of their forms only their own. Polls keep no session alive: only people do. */
function guard(scope: FastifyInstance, deps: DoorDeps, sessions: Sessions, render: Render): void {
  async function sessionOf(request: FastifyRequest): Promise<Session | null> {
    const session = sessions.read(request.cookies[SESSION_COOKIE], deps.now())
    return session === null || (await deps.signOuts.isEnded(session.id)) ? null : session
  }

  scope.addHook('onRequest', async (request, reply) => {
    const session = await sessionOf(request)
    const { language, t } = languageFor(request)
    const isPart = request.headers['hx-request'] === 'true' || request.headers.accept === 'application/json'
    if (session !== null) {
      request.visit = { session, language, words: t }
      if (!isPart || request.method === 'POST') setSession(request, reply, sessions.renew(session, deps.now()))
      return undefined
    }
    if (request.headers.accept?.includes('text/event-stream') === true) {
      // A stream that is opened again has nowhere to be sent to: what it shows says so instead.
      const gone = render.html(request, 'gone', {})
      return await reply.type('text/event-stream; charset=utf-8').send(`${eventOf(gone)}${STREAM_OVER}`)
    }
    if (isPart)
      return await reply
        .code(401)
        .header('hx-redirect', signInFor(pageOfPart(request)))
        .send()
    if (request.method === 'GET') return await reply.redirect(signInFor(request.url), 303)
    return await render.message(request, reply, 401, t.denied, t.ended)
  })
  scope.addHook('preHandler', async (request, reply) => {
    if (request.method === 'GET' || request.method === 'HEAD' || isOwnForm(request, sessions)) return undefined
    const { t } = languageFor(request)
    logRefusedForm(request)
    return await render.message(request, reply, 403, t.denied, t.deniedWhy)
  })
}

/** With what was compared: behind a proxy that changes Host they differ. */
function logRefusedForm(request: FastifyRequest): void {
  const { origin, 'sec-fetch-site': site } = request.headers
  request.log.warn({ event: 'console_form_refused', address: request.ip, origin, host: request.host, site })
}

/** The sign-in that leads on to where somebody wanted to go. */
function signInFor(page: string): string {
  const goal = ownPage(page)
  return goal === '/console' ? '/console/sign-in' : `/console/sign-in?${new URLSearchParams({ back: goal }).toString()}`
}

/** The page that asks for a part of itself, as htmx tells it. */
function pageOfPart(request: FastifyRequest): string {
  const address = request.headers['hx-current-url']
  if (typeof address !== 'string' || !URL.canParse(address)) return '/console'
  const { pathname, search } = new URL(address)
  return `${pathname}${search}`
}

function setSession(request: FastifyRequest, reply: FastifyReply, sealed: string): FastifyReply {
  return reply.setCookie(SESSION_COOKIE, sealed, {
    path: '/console',
    httpOnly: true,
    sameSite: 'strict',
    secure: isSecure(request),
    maxAge: SESSION_MAX_AGE_S,
  })
}

/** Over plain http (a tunnel, the demo) a Secure cookie would never come back. */
function isSecure(request: FastifyRequest): boolean {
  return request.protocol === 'https'
}

function languageFor(request: FastifyRequest) {
  const language = languageOf(request.cookies[LANGUAGE_COOKIE], request.headers['accept-language'])
  return { language, t: LANGUAGES[language] }
}

async function onError(error: FastifyError, request: FastifyRequest, reply: FastifyReply, render: Render) {
  const status = error.statusCode ?? 500
  const { t } = languageFor(request)
  if (status < 500) return await render.message(request, reply, status, t.denied, t.badForm)
  request.log.error({ event: 'request_failed', method: request.method, err: error })
  return await render.message(request, reply, 500, t.failed, `${t.crash} ${request.id}`)
}
