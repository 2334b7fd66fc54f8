import type { Server as HttpServer } from 'node:http'
import { Server as TcpServer } from 'node:net'

/** How often connections that have fallen quiet are looked for. Milliseconds. */
const LOOK_MS = 100

/**
 * Takes no new connection and resolves once the last one is gone. Node's own `close` cuts every connection that is idle
 * at this moment, and with it the request that its client is just sending; so they are given `quietMs` more. Answers on
 * them have to say `Connection: close` meanwhile.
 */
export async function drainConnections(server: HttpServer, quietMs: number): Promise<void> {
  if (!server.listening) return
  const isQuietOver = performance.now() + quietMs
  const timer = setInterval(() => {
    if (performance.now() >= isQuietOver) server.closeIdleConnections()
  }, LOOK_MS)
  await new Promise<void>((resolve) => {
    TcpServer.prototype.close.call(server, () => resolve())
    if (quietMs === 0) server.closeIdleConnections()
  })
  clearInterval(timer)
}
