import http from 'node:http'
import https from 'node:https'

import axios, { type AxiosError } from 'axios'

import { signedNotice } from '../domain/notice.js'
import { nextNoticeDelayS } from '../domain/schedule.js'
import type { SignType } from '../domain/sign.js'
import type { Log } from '../log.js'
import type { AttemptOutcome, ClaimedNotice, NoticeAttempt, Outbox } from '../store/outbox.js'

/** CONTRACT: 5 s for a merchant's whole answer. */
const SEND_MS_MAX = 5_000
const ANSWER_BYTES_MAX = 64 * 1024
/** Sends at once: in all, and to one host, so that a merchant who hangs holds up nobody else. */
const SENDS_MAX = 64
const SENDS_PER_HOST_MAX = 8

export type CourierObserver = Readonly<{
  attempted(outcome: AttemptOutcome, seconds: number): void
  delivered(lagS: number): void
  died(): void
}>

export type CourierDeps = Readonly<{
  outbox: Outbox
  signing: Readonly<{ secret: string; type: SignType }>
  /** The hosts that may be told; empty: any. */
  allowHosts: readonly string[]
  log: Log
  observer: CourierObserver
  monotonicMs: () => number
}>

/** Delivers the outbox: claim, sign, POST, record, and on failure again by the schedule. */
export function createCourier(deps: CourierDeps) {
  const agents = {
    httpAgent: new http.Agent({ keepAlive: true, maxFreeSockets: 64, timeout: 7_000 }),
    httpsAgent: new https.Agent({ keepAlive: true, maxFreeSockets: 64, timeout: 7_000 }),
  }
  const client = axios.create({
    ...agents,
    adapter: 'http',
    method: 'POST',
    responseType: 'text',
    transformRequest: [],
    transformResponse: [],
    validateStatus: () => true,
    maxRedirects: 0,
    maxContentLength: ANSWER_BYTES_MAX,
    proxy: false,
  })
  const perHost = new Map<string, number>()
  const sending = new Set<Promise<void>>()

  /** One round: claims what there is room for and starts sending it. True where something was claimed. */
  async function runOnce(): Promise<boolean> {
    if (sending.size >= SENDS_MAX) {
      await Promise.race(sending)
      return true
    }
    const fullHosts = [...perHost].filter(([, count]) => count >= SENDS_PER_HOST_MAX).map(([host]) => host)
    const claimed = await deps.outbox.claim(SENDS_MAX - sending.size, fullHosts)
    for (const notice of claimed) {
      const sent: Promise<void> = inLine(notice).finally(() => sending.delete(sent))
      sending.add(sent)
    }
    return claimed.length > 0
  }

  /** Waits for a place at the notice's host; claims never outnumber the places by more than one round. */
  async function inLine(notice: ClaimedNotice): Promise<void> {
    perHost.set(notice.host, (perHost.get(notice.host) ?? 0) + 1)
    try {
      await deliver(notice)
    } catch (error) {
      // The database went away: the claim ends by itself and the notice is due again.
      deps.log.error({
        event: 'notice_not_recorded',
        traceId: notice.traceId,
        noticeId: notice.id.toString(),
        err: error,
      })
    } finally {
      const left = (perHost.get(notice.host) ?? 1) - 1
      if (left === 0) perHost.delete(notice.host)
      else perHost.set(notice.host, left)
    }
  }

  async function deliver(notice: ClaimedNotice): Promise<void> {
    const startedMs = deps.monotonicMs()
    const answer = isAllowed(notice.url, deps.allowHosts)
      ? await send(notice)
      : { outcome: 'not_allowed' as const, httpStatus: null, excerpt: 'host not in NOTICE_ALLOW_HOSTS' }
    const durationMs = deps.monotonicMs() - startedMs
    const nextDelayS = answer.outcome === 'delivered' ? null : nextNoticeDelayS(notice.attempts + 1)
    const state = await deps.outbox.finish(notice, { ...answer, durationMs, nextDelayS })
    deps.observer.attempted(answer.outcome, durationMs / 1000)
    if (state === 'delivered') deps.observer.delivered(notice.lagS)
    if (state === 'dead') deps.observer.died()
    deps.log[state === 'dead' ? 'error' : 'info']({
      event: 'notice',
      traceId: notice.traceId,
      noticeId: notice.id.toString(),
      orderId: notice.payload.paymentId,
      host: notice.host,
      outcome: answer.outcome,
      httpStatus: answer.httpStatus ?? undefined,
      state: state ?? 'claim_lost',
      attempt: notice.attempts + 1,
      durationMs: Math.round(durationMs),
    })
  }

  async function send(notice: ClaimedNotice): Promise<Pick<NoticeAttempt, 'outcome' | 'httpStatus' | 'excerpt'>> {
    try {
      const response = await client.request<string>({
        url: notice.url,
        data: signedNotice(notice.payload, deps.signing.secret, deps.signing.type),
        headers: {
          'content-type': 'application/json',
          ...(notice.traceparent === null ? {} : { traceparent: notice.traceparent }),
        },
        // The whole exchange, connecting and the last byte included.
        signal: AbortSignal.timeout(SEND_MS_MAX),
      })
      const isTaken = response.data.trim() === 'SUCCESS'
      return {
        outcome: isTaken ? 'delivered' : 'refused',
        httpStatus: response.status,
        excerpt: response.data.slice(0, 200),
      }
    } catch (error) {
      return { ...failureOf(error), httpStatus: null }
    }
  }

  return {
    runOnce,
    /** Resolves once every send that was started is recorded. */
    async drain(): Promise<void> {
      await Promise.allSettled(sending)
      agents.httpAgent.destroy()
      agents.httpsAgent.destroy()
    },
  }
}

export type Courier = ReturnType<typeof createCourier>

function isAllowed(url: string, allowHosts: readonly string[]): boolean {
  const { host, hostname } = new URL(url)
  return allowHosts.length === 0 || allowHosts.includes(host) || allowHosts.includes(hostname)
}

function failureOf(error: unknown): { outcome: AttemptOutcome; excerpt: string } {
  const { code, message } = error as AxiosError
  if (code === 'ERR_CANCELED' || code === 'ECONNABORTED' || code === 'ETIMEDOUT')
    return { outcome: 'timeout', excerpt: `no answer within ${SEND_MS_MAX} ms` }
  if (code === 'ERR_BAD_RESPONSE' || code === 'ERR_FR_TOO_MANY_REDIRECTS')
    return { outcome: 'refused', excerpt: message }
  return { outcome: 'unreachable', excerpt: code === undefined ? message : `${code}: ${message}` }
}
