import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

/** An upload that is read as it arrives may take longer than a usual request, but no pause in it may. Milliseconds. */
const UPLOAD_PAUSE_MS_MAX = 30_000

const uploads = new WeakSet<Socket>()

/** Exempts this request from the time in which requests must be here in full. */
export function allowLongUpload(request: IncomingMessage): void {
  const { socket } = request
  uploads.add(socket)
  const giveUp = (): void => {
    socket.destroy()
  }
  // The reader's own pauses count too; one statement's wait is far shorter.
  socket.setTimeout(UPLOAD_PAUSE_MS_MAX, giveUp)
  request.once('close', () => {
    uploads.delete(socket)
    socket.off('timeout', giveUp)
  })
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
