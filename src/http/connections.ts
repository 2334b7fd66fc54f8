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

/**
 * An HTTP server that keeps the number of its connections, and of the requests on each, within bounds. Over the limit the
 * connection that has been quiet longest makes room: who only holds connections open, or sends bodies byte by byte, loses
 * them to whoever asks something. A connection whose request is here in full and is being worked on is left alone.
 */
export function createBoundServer(
  options: ServerOptions,
  answer: RequestListener,
  connectionsMax = CONNECTIONS_MAX,
): Server {
  const server = createServer(options)
  /** Unanswered requests of each connection; the connection that was quiet longest comes first. */
  const open = new Map<Socket, Set<IncomingMessage>>()

  function quietest(): Socket | undefined {
    for (const [socket, unanswered] of open) {
      if (![...unanswered].some((request) => request.complete)) return socket
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

  // Node goes on with what it has read of a connection that was cut, which may be a thousand requests more: nobody
  // waits for their answers.
  server.on('request', admit)
  // An expectation that nobody knows changes nothing about the request. Node would refuse it with a status of its own.
  server.on('checkExpectation', admit)

  function admit(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const unanswered = open.get(socket)
    if (unanswered === undefined || socket.destroyed) return
    if (unanswered.size >= PIPELINED_MAX) {
      socket.destroy()
      return
    }
    unanswered.add(request)
    touch(socket, unanswered)
    response.once('close', () => {
      unanswered.delete(request)
      if (open.has(socket)) touch(socket, unanswered)
    })
    answer(request, response)
  }

  function touch(socket: Socket, unanswered: Set<IncomingMessage>): void {
    open.delete(socket)
    open.set(socket, unanswered)
  }

  return server
}
