import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/**
 * Connections kept at a time: far above what balancers open, and far below the open files a process may have, so that
 * the database and the gateways are still reached under a flood.
 */
const CONNECTIONS_MAX = 8_192
/** Requests on one connection that were sent without waiting for answers. No client in use sends more than a few. */
const PIPELINED_MAX = 32

/**
 * Keeps the number of connections within bounds. Over the limit the one that has been quiet longest makes room: who only
 * holds connections open, or sends bodies byte by byte, loses them to whoever asks something. A connection whose request
 * is here in full and is being worked on is left alone.
 */
export function boundConnections(server: Server, connectionsMax = CONNECTIONS_MAX): void {
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

  server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request
    const unanswered = open.get(socket)
    if (unanswered === undefined) return
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
  })

  function touch(socket: Socket, unanswered: Set<IncomingMessage>): void {
    open.delete(socket)
    open.set(socket, unanswered)
  }
}
