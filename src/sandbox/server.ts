import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { TLSSocket } from 'node:tls'

/** A request as it arrived: nothing decoded, since signatures are over what was sent. */
export type Received = Readonly<{
  method: string
  /** Path and query exactly as sent. */
  target: string
  path: string
  query: URLSearchParams
  headers: IncomingMessage['headers']
  body: Buffer
  /** Whether the caller showed a certificate of ours; null where the connection is not TLS. */
  clientCertified: boolean | null
}>

export type Answer = Readonly<{ status: number; headers: Readonly<Record<string, string>>; body: Buffer }>

/** An answer, and how it goes over the wire. */
export type Delivery = Readonly<{
  answer: Answer
  damage?: 'hang' | 'reset' | 'cut' | 'wrong_length' | undefined
  waitMs?: number | undefined
  /** The answer waits for this, too. */
  held?: Promise<void> | undefined
  /** Called once the caller can know the outcome: just before the last byte leaves, or when the connection is gone. */
  settled?: (() => void) | undefined
}>

export type TlsMaterial = Readonly<{ key: string; cert: string; ca: string }>

export type ServerOptions = Readonly<{
  onRequest: (received: Received) => Promise<Delivery>
  /** How long an idle connection is kept, ms. The real WeChat gateway drops it after 8 s. */
  keepAliveTimeoutMs: number
  /** Whether the answers announce that time, so that clients can avoid the race. */
  keepAliveAnnounced: boolean
  tls?: TlsMaterial | undefined
  /** The clock that the answers' Date tells, milliseconds since 1970. */
  now: () => number
}>

// Real requests to either gateway are far below this.
const BODY_BYTES_MAX = 1024 * 1024
const LOOPBACK = '127.0.0.1'

/** Throws where production is declared: a sandbox there would be a gateway that anybody can make say "paid". */
export function refuseProduction(): void {
  if (process.env['NODE_ENV'] === 'production') {
    throw new Error('the sandbox does not run where NODE_ENV is production')
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    const part = chunk as Buffer
    bytes += part.length
    if (bytes > BODY_BYTES_MAX) {
      return null
    }
    chunks.push(part)
  }
  return Buffer.concat(chunks)
}

async function receive(request: IncomingMessage): Promise<Received | null> {
  const body = await readBody(request)
  if (body === null) {
    return null
  }
  const target = request.url ?? '/'
  const queryStart = target.indexOf('?')
  return {
    method: request.method ?? 'GET',
    target,
    path: queryStart === -1 ? target : target.slice(0, queryStart),
    query: new URLSearchParams(queryStart === -1 ? '' : target.slice(queryStart + 1)),
    headers: request.headers,
    body,
    clientCertified: request.socket instanceof TLSSocket ? request.socket.authorized : null,
  }
}

/** Waits for that (ms or a promise; null: for ever), but no longer than the connection lives. */
async function waitWhileConnected(response: ServerResponse, until: number | Promise<void> | null): Promise<void> {
  if (response.destroyed || response.socket === null) {
    return
  }
  const gone = new AbortController()
  const closed = new Promise<void>((resolve) => {
    response.once('close', () => {
      gone.abort()
      resolve()
    })
  })
  const over =
    typeof until === 'number' ? wait(until, undefined, { signal: gone.signal }).catch(() => undefined) : until
  await (over === null ? closed : Promise.race([closed, over]))
}

function writeAnswer(response: ServerResponse, delivery: Delivery): void {
  const { answer, damage } = delivery
  const headers: Record<string, string | number> = { ...answer.headers }
  if (answer.status !== 204) {
    const claimed = damage === 'wrong_length' ? Math.max(0, answer.body.length - 20) : answer.body.length
    headers['Content-Length'] = claimed
  }
  response.writeHead(answer.status, headers)
  if (damage === 'cut') {
    // Half of what was announced, then a closed connection: the reader must notice by the length.
    response.write(answer.body.subarray(0, Math.floor(answer.body.length / 2)), () => response.socket?.destroy())
    return
  }
  response.end(answer.body)
}

async function deliver(response: ServerResponse, delivery: Delivery): Promise<void> {
  if (response.destroyed || response.socket === null) {
    delivery.settled?.()
    return
  }
  response.once('close', () => delivery.settled?.())
  if (delivery.held !== undefined) {
    await waitWhileConnected(response, delivery.held)
  }
  if (delivery.damage === 'hang') {
    await waitWhileConnected(response, delivery.waitMs ?? null)
    response.socket?.destroy()
    return
  }
  if (delivery.waitMs !== undefined) {
    await waitWhileConnected(response, delivery.waitMs)
  }
  delivery.settled?.()
  if (delivery.damage === 'reset') {
    response.socket?.resetAndDestroy()
    return
  }
  if (response.socket !== null && !response.destroyed) {
    writeAnswer(response, delivery)
  }
}

const TOO_LARGE: Delivery = { answer: { status: 413, headers: { Connection: 'close' }, body: Buffer.alloc(0) } }

function failure(cause: unknown): Delivery {
  // A fault of the sandbox itself must look like nothing a gateway says.
  const text = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)
  return { answer: { status: 599, headers: { 'Content-Type': 'text/plain' }, body: Buffer.from(text) } }
}

/** One listening socket on the loopback; may be closed and opened again, on the same port if told. */
export function createListener(options: ServerOptions) {
  let server: Server | undefined

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('Date', new Date(options.now()).toUTCString())
    if (!options.keepAliveAnnounced) {
      response.setHeader('Connection', 'keep-alive')
    }
    try {
      const received = await receive(request)
      await deliver(response, received === null ? TOO_LARGE : await options.onRequest(received))
    } catch (cause) {
      // A caller that hung up in mid-request is its own affair; anything else is told.
      if (!request.destroyed || request.complete) {
        await deliver(response, failure(cause))
      }
    }
  }

  function build(): Server {
    const listener = (request: IncomingMessage, response: ServerResponse) => {
      void respond(request, response)
    }
    const built =
      options.tls === undefined
        ? createServer(listener)
        : createTlsServer({ ...options.tls, requestCert: true, rejectUnauthorized: false }, listener)
    built.keepAliveTimeout = options.keepAliveTimeoutMs
    return built
  }

  return {
    /** Resolves with the base URL, without a slash at its end. Port 0: any free one. */
    async listen(port = 0, host = LOOPBACK): Promise<string> {
      if (server !== undefined) {
        throw new Error('already listening')
      }
      const opened = build()
      await new Promise<void>((resolve, reject) => {
        opened.once('error', reject)
        opened.listen(port, host, resolve)
      })
      server = opened
      const address = opened.address() as AddressInfo
      const shownHost = address.family === 'IPv6' ? `[${address.address}]` : address.address
      return `${options.tls === undefined ? 'http' : 'https'}://${shownHost}:${address.port}`
    },
    /** Stops accepting and cuts every connection at once. */
    async close(): Promise<void> {
      const closing = server
      server = undefined
      if (closing === undefined) {
        return
      }
      await new Promise<void>((resolve) => {
        closing.close(() => resolve())
        closing.closeAllConnections()
      })
    },
    /** Drops the idle connections, as the real gateway does after its 8 s, without waiting for them. */
    dropIdleConnections: () => server?.closeIdleConnections(),
  }
}
export type Listener = ReturnType<typeof createListener>
