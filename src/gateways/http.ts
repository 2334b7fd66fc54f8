import type { ClientRequest, RequestOptions } from 'node:http'
import http from 'node:http'
import https from 'node:https'

import axios, { type AxiosError, type AxiosResponse } from 'axios'

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
  url: string
  headers: Readonly<Record<string, string>>
  body: string | null
}>

/**
 * What became of one request. `not_sent`: no byte of it reached anybody, it may be repeated. `lost`: it may have arrived
 * and been acted on, and its answer, if any, cannot be used.
 */
export type HttpOutcome = Readonly<{ exchange: Exchange }> &
  (
    | Readonly<{ kind: 'answered'; status: number; headers: Readonly<Record<string, string>>; body: Buffer }>
    | Readonly<{ kind: 'not_sent'; reason: 'unreachable' | 'connect_timeout' }>
    | Readonly<{
        kind: 'lost'
        reason: 'timeout' | 'connection_lost' | 'idle_connection_lost' | 'too_large' | 'bad_http'
      }>
  )

export type HttpOptions = Readonly<{
  timeoutMs: number
  connectionsMax: number
  /** Mutual TLS, where the gateway asks for it: PEM. */
  tls?: Readonly<{ cert: string; key: string }>
  /** A further certificate authority, for simulated gateways. */
  ca?: string
}>

type Sending = { isConnected: boolean; connectTimedOut: boolean; request: ClientRequest | null }

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
  const client = axios.create({
    adapter: 'http',
    httpAgent,
    httpsAgent,
    responseType: 'arraybuffer',
    transformRequest: [],
    transformResponse: [],
    validateStatus: () => true,
    maxRedirects: 0,
    maxContentLength: ANSWER_BYTES_MAX,
    decompress: false,
    proxy: false,
  })

  /** axios' own transport, watched: whether the connection was there tells "not sent" from "lost". */
  function transportFor(sending: Sending) {
    return {
      request(requestOptions: RequestOptions, onResponse: (response: http.IncomingMessage) => void): ClientRequest {
        const request = (requestOptions.protocol === 'https:' ? https : http).request(requestOptions, onResponse)
        sending.request = request
        request.once('socket', (socket) => {
          if (!socket.connecting) {
            sending.isConnected = true
            return
          }
          const timer = setTimeout(() => {
            sending.connectTimedOut = true
            request.destroy()
          }, connectMs)
          socket.once(requestOptions.protocol === 'https:' ? 'secureConnect' : 'connect', () => {
            sending.isConnected = true
            clearTimeout(timer)
          })
          socket.once('close', () => clearTimeout(timer))
        })
        return request
      },
    }
  }

  /** Sends one request, bounded by `signal`. Never throws. */
  async function send(request: HttpRequest, signal: AbortSignal): Promise<HttpOutcome> {
    const startedMs = performance.now()
    const sending: Sending = { isConnected: false, connectTimedOut: false, request: null }
    const record = (status: number | null, body: string) =>
      exchangeOf(request.method, request.url, { status, durationMs: performance.now() - startedMs, body })
    try {
      const response: AxiosResponse<Buffer> = await client.request({
        method: request.method,
        url: request.url,
        headers: request.headers,
        data: request.body ?? undefined,
        signal,
        transport: transportFor(sending),
      })
      const headers: Record<string, string> = {}
      for (const [name, value] of Object.entries(response.headers))
        if (typeof value === 'string') headers[name.toLowerCase()] = value
      const exchange = record(response.status, response.data.toString('utf8'))
      return { kind: 'answered', status: response.status, headers, body: response.data, exchange }
    } catch (error) {
      const failed = failureOf(error as AxiosError, sending)
      return { ...failed, exchange: record(null, failed.reason) }
    }
  }

  return {
    send,
    close(): void {
      httpAgent.destroy()
      httpsAgent.destroy()
    },
  }
}

export type Http = ReturnType<typeof createHttp>

type Failure =
  | Readonly<{ kind: 'not_sent'; reason: 'unreachable' | 'connect_timeout' }>
  | Readonly<{
      kind: 'lost'
      reason: 'timeout' | 'connection_lost' | 'idle_connection_lost' | 'too_large' | 'bad_http'
    }>

function failureOf({ code, message }: AxiosError, sending: Sending): Failure {
  if (sending.connectTimedOut) return { kind: 'not_sent', reason: 'connect_timeout' }
  if (!sending.isConnected)
    return { kind: 'not_sent', reason: code === 'ERR_CANCELED' ? 'connect_timeout' : 'unreachable' }
  if (code === 'ERR_CANCELED') return { kind: 'lost', reason: 'timeout' }
  if (code === 'ERR_BAD_RESPONSE' && message.includes('maxContentLength')) return { kind: 'lost', reason: 'too_large' }
  if (code?.startsWith('HPE_') === true) return { kind: 'lost', reason: 'bad_http' }
  const isIdleReset = sending.request?.reusedSocket === true && (code === 'ECONNRESET' || code === 'EPIPE')
  return { kind: 'lost', reason: isIdleReset ? 'idle_connection_lost' : 'connection_lost' }
}
