import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

const uploads = new WeakSet<Socket>()

/** Exempts this request from the time in which requests must be here in full; a pause in it is bounded all the same. */
export function allowLongUpload(request: IncomingMessage): void {
  const { socket } = request
  uploads.add(socket)
  request.once('close', () => uploads.delete(socket))
}

const ANSWERS: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
}

/** What never became a request: too slow, too large, or not HTTP. Node tells of a slow one once, so letting it be is final. */
export function onClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && uploads.has(socket)) return
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  // It ended in the middle of a request: nobody reads an answer. Thousands may do so at once, when an attack stops.
  if (error.code === 'HPE_INVALID_EOF_STATE') {
    socket.destroy()
    return
  }
  const answer = ANSWERS[error.code ?? ''] ?? '400 Bad Request'
  if (socket.writable) socket.write(`HTTP/1.1 ${answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
  socket.destroy()
}
