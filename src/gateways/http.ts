import http, { type IncomingHttpHeaders, type RequestOptions } from 'node:http'
import https from 'node:https'

import { Axios, AxiosHeaders } from 'axios'

import type { Deadline } from './deadline.js'
import type { Exchange } from './gateway.js'
import { exchangeOf } from './transcript.js'

/** An answer larger than this is not read to its end: real ones have a few KiB. */
const ANSWER_BYTES_MAX = 1024 * 1024
/** The gateways drop idle connections after 8 s; ours go a second before, so that a request rarely meets a closing one. */
const IDLE_MS_MAX = 7_000
/** A host that does not take a connection within this part of the deadline leaves time for the next one. */
const CONNECT_PART = 4

export type HttpRequest = Readonly<{
  method: 'GET' | 'POST'
  /** One of the configured ones. */
  baseUrl: string
  /** Path and query behind it, encoded, exactly as they were signed. Empty where the base URL is the whole one. */
  path: string
  headers: Readonly<Record<string, string>>
  body: string | null
}>

type Sent =
  | Readonly<{ kind: 'answered'; status: number; headers: Readonly<IncomingHttpHeaders>; body: Buffer }>
  | Readonly<{ kind: 'not_sent'; reason: 'unreachable' | 'connect_timeout' }>
  | Readonly<{
      kind: 'lost'
      reason: 'timeout' | 'connection_lost' | 'idle_connection_lost' | 'too_large' | 'bad_http'
    }>

/**
 * What became of one request. `not_sent`: no byte of it reached anybody, it may be repeated. `lost`: it may have arrived
 * and been acted on, and its answer, if any, cannot be used.
 */
export type HttpOutcome = Readonly<{ exchange: Exchange }> & Sent

export type HttpOptions = Readonly<{
  timeoutMs: number
  connectionsMax: number
  /** Mutual TLS, where the gateway asks for it: PEM. */
  tls?: Readonly<{ cert: string; key: string }>
  /** A further certificate authority, for simulated gateways. */
  ca?: string
}>

type Address = Readonly<{ host: string; protocol: string; hostname: string; port: number | null; path: string }>

/** Headers go past axios, both ways: it would copy each of them twice, for twice what it costs otherwise. */
const UNREAD_HEADERS = new AxiosHeaders()

/** One gateway's HTTP: one instance, its agents, and single requests that always end, as one of three kinds. */
export function createHttp(options: HttpOptions) {
  const agentOptions = {
    keepAlive: true,
    maxSockets: options.connectionsMax,
    maxFreeSockets: options.connectionsMax,
    timeout: IDLE_MS_MAX,
  }
  const httpAgent = new http.Agent(agentOptions)
  const httpsAgent = new https.Agent({
    ...agentOptions,
    ...(options.tls === undefined ? {} : { cert: options.tls.cert, key: options.tls.key }),
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  })
  const connectMs = Math.max(50, Math.floor(options.timeoutMs / CONNECT_PART))
  // None of axios' defaults: no transforms, no proxy of the environment, no headers of its own, every status an answer.
  const client = new Axios({ transformRequest: [], transformResponse: [], validateStatus: null })

  /** Each base URL that was ever given: those of the settings. */
  const addresses = new Map<string, Address>()

  function addressOf(baseUrl: string): Address {
    let address = addresses.get(baseUrl)
    if (address === undefined) {
      const { host, protocol, hostname, port, pathname, search } = new URL(baseUrl)
      address = {
        host,
        protocol,
        // An IPv6 address stands in brackets in a URL only.
        hostname: hostname.replace(/^\[|\]$/g, ''),
        port: port === '' ? null : Number(port),
        path: `${pathname}${search}`,
      }
      addresses.set(baseUrl, address)
    }
    return address
  }

  /** As it goes onto the wire: behind the base URL's own path, if it has one. */
  function pathOf({ baseUrl, path }: Pick<HttpRequest, 'baseUrl' | 'path'>): string {
    const { path: basePath } = addressOf(baseUrl)
    return path === '' ? basePath : `${basePath.replace(/\/$/, '')}${path}`
  }

  /** How a request that was not sent is recorded, and why it was not. */
  function unsent(request: Pick<HttpRequest, 'method' | 'baseUrl' | 'path'>, why: string): Exchange {
    const { host } = addressOf(request.baseUrl)
    const shown = { method: request.method, host, path: pathOf(request) }
    return exchangeOf(shown, { status: null, durationMs: 0, body: `not sent: ${why}` })
  }

  /** Sends one request, bounded by `deadline`. Never throws, whatever the network or the gateway does. */
  async function send(request: HttpRequest, deadline: Deadline): Promise<HttpOutcome> {
    const { method, body } = request
    const { host, protocol, hostname, port } = addressOf(request.baseUrl)
    const path = pathOf(request)
    const startedMs = performance.now()
    const { data: sent } = await client.request<Sent>({
      method,
      // For axios alone, which asks for one: the adapter has the address that is asked.
      url: request.baseUrl,
      adapter: async (config) => {
        const agent = protocol === 'https:' ? httpsAgent : httpAgent
        const target = { protocol, hostname, port, path, method, headers: request.headers, agent }
        const data = await transmit(target, body, { connectMs, deadline })
        return { data, status: 0, statusText: '', headers: UNREAD_HEADERS, config }
      },
    })
    const told =
      sent.kind === 'answered'
        ? { status: sent.status, body: sent.body.toString('utf8') }
        : { status: null, body: sent.reason }
    return {
      exchange: exchangeOf({ method, host, path }, { durationMs: performance.now() - startedMs, ...told }),
      ...sent,
    }
  }

  return {
    send,
    unsent,
    close(): void {
      httpAgent.destroy()
      httpsAgent.destroy()
    },
  }
}

export type Http = ReturnType<typeof createHttp>

type TransmitBounds = Readonly<{ connectMs: number; deadline: Deadline }>

/**
 * axios' own adapter, which also follows redirects, asks proxies, unpacks and streams, costs twice the request itself and
 * does not tell whether the connection was there. That is what tells "not sent" from "lost". Rejects only what nobody
 * could send: a path that is not encoded.
 */
async function transmit(options: RequestOptions, body: string | null, bounds: TransmitBounds): Promise<Sent> {
  const { connectMs, deadline } = bounds
  if (deadline.isOver()) return { kind: 'not_sent', reason: 'connect_timeout' }
  return await new Promise((resolve) => {
    const isTls = options.protocol === 'https:'
    const request = (isTls ? https : http).request(options)
    let isConnected = false
    let isAnswered = false
    let isOver = false

    /** The first to tell counts. */
    function end(sent: Sent): void {
      if (isOver) return
      isOver = true
      deadline.off(giveUp)
      if (sent.kind !== 'answered') request.destroy()
      resolve(sent)
    }
    function fail(reason: Extract<Sent, { kind: 'lost' }>['reason']): void {
      end(isConnected ? { kind: 'lost', reason } : { kind: 'not_sent', reason: 'unreachable' })
    }
    function giveUp(): void {
      end(isConnected ? { kind: 'lost', reason: 'timeout' } : { kind: 'not_sent', reason: 'connect_timeout' })
    }

    deadline.onOver(giveUp)
    request.once('socket', (socket) => {
      isConnected = !socket.connecting
      if (isConnected) return
      const timer = setTimeout(giveUp, connectMs)
      socket.once(isTls ? 'secureConnect' : 'connect', () => {
        isConnected = true
        clearTimeout(timer)
      })
      socket.once('close', () => clearTimeout(timer))
    })
    request.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code?.startsWith('HPE_') === true) return fail('bad_http')
      const isIdleReset = request.reusedSocket && !isAnswered && (code === 'ECONNRESET' || code === 'EPIPE')
      return fail(isIdleReset ? 'idle_connection_lost' : 'connection_lost')
    })
    request.once('close', () => {
      // An answer that ends with its connection is still being read.
      if (!isAnswered) fail('connection_lost')
    })
    request.once('response', (response) => {
      isAnswered = true
      const chunks: Buffer[] = []
      let length = 0
      response.on('data', (chunk: Buffer) => {
        length += chunk.length
        if (length > ANSWER_BYTES_MAX) fail('too_large')
        else chunks.push(chunk)
      })
      response.once('end', () => {
        const { statusCode: status = 0, headers } = response
        end({ kind: 'answered', status, headers, body: Buffer.concat(chunks) })
      })
      response.on('error', () => fail('connection_lost'))
      response.once('close', () => fail('connection_lost'))
    })
    request.end(body ?? undefined)
  })
}
