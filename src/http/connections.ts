import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http'
import type { Socket } from 'node:net'

/**
 * Connections kept at a time: far above what balancers open, and far below the open files a process may have, so that
 * the database and the gateways are still reached under a flood.
 */
const CONNECTIONS_MAX = 8_192
/** Requests on one connection that were sent without waiting for answers. No client in use sends more than a few. */
const PIPELINED_MAX = 32

/** Who sends nothing of a begun request, or takes nothing of an answer, for so long does not want it. Milliseconds. */
const STALLED_MS_MAX = 30_000

/**
 * An HTTP server that keeps the number of its connections, and of the requests on each, within bounds. Over the limit the
 * connection that has been quiet longest makes room: who only holds connections open, sends bodies byte by byte or never
 * reads an answer loses them to whoever asks something. A connection whose request is here in full and is being worked on
 * is left alone.
 */
export function createBoundServer(
  options: ServerOptions,
  answer: RequestListener,
  {
    connectionsMax = CONNECTIONS_MAX,
    stalledMs = STALLED_MS_MAX,
  }: Readonly<{ connectionsMax?: number; stalledMs?: number }> = {},
): Server {
  const server = createServer(options)
  /** Answers that each connection still waits for; the connection that was quiet longest comes first. */
  const open = new Map<Socket, Set<ServerResponse>>()

  function isWorkedOn(waiting: ReadonlySet<ServerResponse>): boolean {
    return [...waiting].some((response) => response.req.complete && !response.writableEnded)
  }

  function quietest(): Socket | undefined {
    for (const [socket, waiting] of open) {
      if (!isWorkedOn(waiting)) return socket
    }
    return undefined
  }

  server.on('connection', (socket: Socket) => {
    if (open.size >= connectionsMax) {
      const victim = quietest() ?? socket
      open.delete(victim)
      victim.destroy()
      if (victim === socket) return
    }
    open.set(socket, new Set())
    socket.once('close', () => open.delete(socket))
  })

  // Node tells of a connection on which no byte went either way for so long, also while its request is worked on.
  server.setTimeout(stalledMs, (socket: Socket) => {
    if (isWorkedOn(open.get(socket) ?? new Set())) socket.setTimeout(stalledMs)
    else socket.destroy()
  })

  server.on('request', admit)
  // An expectation that nobody knows changes nothing about the request. Node would refuse it with a status of its own.
  server.on('checkExpectation', admit)

  // Node goes on with what it has read of a connection that was cut, which may be a thousand requests more: nobody
  // waits for their answers.
  function admit(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const waiting = open.get(socket)
    if (waiting === undefined || socket.destroyed) return
    if (waiting.size >= PIPELINED_MAX) {
      socket.destroy()
      return
    }
    waiting.add(response)
    touch(socket, waiting)
    response.once('close', () => {
      waiting.delete(response)
      if (open.has(socket)) touch(socket, waiting)
    })
    answer(request, response)
  }

  function touch(socket: Socket, waiting: Set<ServerResponse>): void {
    open.delete(socket)
    open.set(socket, waiting)
  }

  return server
}
