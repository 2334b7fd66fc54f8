import http from 'node:http'
import https from 'node:https'
import type { Readable } from 'node:stream'

import axios, { type AxiosError } from 'axios'

import { signedNotice } from '../domain/notice.js'
import { nextNoticeDelayS } from '../domain/schedule.js'
import type { SignType } from '../domain/sign.js'
import type { Log } from '../log.js'
import { createLookup } from '../lookup.js'
import { createPlaces } from '../loop.js'
import type { AttemptOutcome, ClaimedNotice, NoticeAttempt, Outbox } from '../store/outbox.js'
import { SEND_OVER_S } from '../store/sync-commit.js'

/** CONTRACT: 5 s for a merchant's whole answer, connecting and the last byte included. */
const SEND_MS_MAX = 5_000
/** A send begins so soon after its claim or not at all: by the time that a newer notice may be sent it has to be over. */
const SEND_BEGINS_MS_MAX = SEND_OVER_S * 1000 - SEND_MS_MAX
/** `SUCCESS` has 7; what goes on longer than this is not read. */
const ANSWER_BYTES_MAX = 64 * 1024
/** Servers commonly drop idle connections after 5 s; ours go a second before, so that a send rarely meets a closing one. */
const IDLE_MS_MAX = 4_000
/**
 * Sends at once: in all, to one host, and to a host whose last answer did not come in time. So it takes more than a
 * hundred merchants who hang to hold up the others.
 */
const SENDS_MAX = 256
const SENDS_PER_HOST_MAX = 8
const SENDS_PER_SLOW_HOST_MAX = 2
/** Slow hosts that are remembered; the one that was found first is forgotten first. */
const SLOW_HOSTS_MAX = 1_000

export type CourierObserver = Readonly<{
  attempted(outcome: AttemptOutcome, seconds: number): void
  delivered(lagS: number): void
  died(): void
}>

export type CourierDeps = Readonly<{
  outbox: Outbox
  /** No secret: notices are not signed. */
  signing: Readonly<{ secret: string | null; type: SignType }>
  /** The hosts that may be told; empty: any. */
  allowHosts: readonly string[]
  log: Log
  observer: CourierObserver
  monotonicMs: () => number
  /** The system's clock, in milliseconds. */
  now: () => number
}>

/** One moment by both clocks. */
type Moment = Readonly<{ monotonicMs: number; wallMs: number }>

/** Delivers the outbox: claim, sign, POST, record, and on failure again by the schedule. */
export function createCourier(deps: CourierDeps) {
  const agentOptions = {
    keepAlive: true,
    maxFreeSockets: SENDS_PER_HOST_MAX,
    timeout: IDLE_MS_MAX,
    lookup: createLookup(),
  }
  const agents = { httpAgent: new http.Agent(agentOptions), httpsAgent: new https.Agent(agentOptions) }
  const client = axios.create({
    ...agents,
    adapter: 'http',
    method: 'POST',
    responseType: 'stream',
    transformRequest: [],
    validateStatus: () => true,
    maxRedirects: 0,
    decompress: false,
    proxy: false,
  })
  const places = createPlaces(SENDS_MAX, SENDS_PER_HOST_MAX / 2)
  const sendsByHost = new Map<string, number>()
  const slowHosts = new Set<string>()

  /** One round: claims what there is room for, starts sending it, and waits for room. True where there may be more. */
  async function runOnce(): Promise<boolean> {
    // Before the claim is asked for: it cannot be older than this says.
    const askedAt = { monotonicMs: deps.monotonicMs(), wallMs: deps.now() }
    const claimed = await deps.outbox.claim(places.left(), SENDS_PER_HOST_MAX, placesLeftByHost())
    for (const notice of claimed) places.occupy(deliverAtHost(notice, askedAt))
    if (claimed.length === 0) return false
    await places.room()
    return true
  }

  /** For the hosts that have not all of their places free. */
  function placesLeftByHost(): ReadonlyMap<string, number> {
    const left = new Map<string, number>()
    for (const host of slowHosts) left.set(host, SENDS_PER_SLOW_HOST_MAX)
    for (const [host, sends] of sendsByHost) {
      left.set(host, Math.max(0, (left.get(host) ?? SENDS_PER_HOST_MAX) - sends))
    }
    return left
  }

  async function deliverAtHost(notice: ClaimedNotice, askedAt: Moment): Promise<void> {
    const { host } = notice
    sendsByHost.set(host, (sendsByHost.get(host) ?? 0) + 1)
    try {
      await deliver(notice, askedAt)
    } catch (error) {
      // The database went away: the claim ends by itself and the notice is due again.
      deps.log.error({
        event: 'notice_not_recorded',
        traceId: notice.traceId,
        noticeId: notice.id.toString(),
        err: error,
      })
    } finally {
      const left = (sendsByHost.get(host) ?? 1) - 1
      if (left === 0) sendsByHost.delete(host)
      else sendsByHost.set(host, left)
    }
  }

  function rememberPace(host: string, outcome: AttemptOutcome): void {
    if (outcome !== 'timeout') {
      slowHosts.delete(host)
      return
    }
    slowHosts.add(host)
    const [first] = slowHosts
    if (slowHosts.size > SLOW_HOSTS_MAX && first !== undefined) slowHosts.delete(first)
  }

  /** The longer of both: a machine that is suspended stops the one clock, and people set the other one back. */
  function msSince(moment: Moment): number {
    return Math.max(deps.monotonicMs() - moment.monotonicMs, deps.now() - moment.wallMs)
  }

  async function deliver(notice: ClaimedNotice, askedAt: Moment): Promise<void> {
    if (msSince(askedAt) > SEND_BEGINS_MS_MAX) {
      // This process was stopped meanwhile, and something newer may have been told. The claim ends by itself, and what is
      // not superseded is due again.
      deps.log.warn({ event: 'notice_not_sent', traceId: notice.traceId, noticeId: notice.id.toString() })
      return
    }
    const startedMs = deps.monotonicMs()
    const refusal = whyNotAllowed(notice.url, deps.allowHosts)
    const answer =
      refusal === null ? await send(notice) : { outcome: 'not_allowed' as const, httpStatus: null, excerpt: refusal }
    rememberPace(notice.host, answer.outcome)
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

  async function send(notice: ClaimedNotice): Promise<Answer> {
    const signal = AbortSignal.timeout(SEND_MS_MAX)
    try {
      const { status, data: stream } = await client.request<Readable>({
        url: notice.url,
        data: signedNotice(notice.payload, deps.signing.secret, deps.signing.type),
        headers: {
          accept: '*/*',
          'accept-encoding': 'identity',
          'content-type': 'application/json',
          'user-agent': 'unipay-sync',
          ...(notice.traceparent === null ? {} : { traceparent: notice.traceparent }),
        },
        signal,
      })
      return await readAnswer(status, stream, signal)
    } catch (error) {
      return failureOf(error, signal)
    }
  }

  return {
    runOnce,
    /** Resolves when a send that was started is over. */
    freed: places.freed,
    /** Resolves once every send that was started is recorded. */
    drain: places.empty,
    /** Drops the idle connections to merchants. */
    close(): void {
      agents.httpAgent.destroy()
      agents.httpsAgent.destroy()
    },
  }
}

export type Courier = ReturnType<typeof createCourier>

type Answer = Pick<NoticeAttempt, 'outcome' | 'httpStatus' | 'excerpt'>

/**
 * Delivered is what answers, trimmed, `SUCCESS`, whatever its status: the contract names none, and the server that merchants
 * come from looks at none. What came before the answer was cut short is recorded too.
 */
async function readAnswer(status: number, stream: Readable, signal: AbortSignal): Promise<Answer> {
  const chunks: Buffer[] = []
  let bytes = 0
  const answer = (outcome: AttemptOutcome) => ({ outcome, httpStatus: status, excerpt: textOf(chunks).slice(0, 200) })
  const onAbort = () => stream.destroy(new Error('the answer took too long'))
  signal.addEventListener('abort', onAbort)
  try {
    for await (const chunk of stream) {
      chunks.push(chunk as Buffer)
      bytes += (chunk as Buffer).length
      // Leaving the loop ends the connection: nothing more is read.
      if (bytes > ANSWER_BYTES_MAX) return answer('refused')
    }
    return answer(textOf(chunks).trim() === 'SUCCESS' ? 'delivered' : 'refused')
  } catch {
    // Cut short by our deadline or by the merchant: an answer without its end is none.
    return answer(signal.aborted ? 'timeout' : 'refused')
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function textOf(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString('utf8')
}

/** Null where the URL may be told: http or https, and on the list where there is one. */
function whyNotAllowed(url: string, allowHosts: readonly string[]): string | null {
  if (!URL.canParse(url)) return 'not a URL'
  const { protocol, host, hostname } = new URL(url)
  if (protocol !== 'http:' && protocol !== 'https:') return 'neither http nor https'
  const isListed = allowHosts.length === 0 || allowHosts.includes(host) || allowHosts.includes(hostname)
  return isListed ? null : 'host not in NOTICE_ALLOW_HOSTS'
}

/** No answer at all. */
function failureOf(error: unknown, signal: AbortSignal): Answer {
  if (signal.aborted) return { outcome: 'timeout', httpStatus: null, excerpt: `no answer within ${SEND_MS_MAX} ms` }
  const { code, message } = error as AxiosError
  return { outcome: 'unreachable', httpStatus: null, excerpt: code === undefined ? message : `${code}: ${message}` }
}
