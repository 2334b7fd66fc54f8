import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net'

/**
 * What the network does. `open`: it carries everything. `silent`: connections stay and are taken, and not a byte gets
 * through in either direction, as on a half-open connection. `closed`: nothing is taken, what was there is cut.
 */
export type NetworkMode = 'open' | 'silent' | 'closed'

/** Where to cut: before the server gets the bytes, or once its answer has come, which is then lost. */
export type CutMoment = 'before' | 'after'

type Pair = Readonly<{ client: Socket; server: Socket }>
type Trap = { readonly text: string; readonly moment: CutMoment; readonly spring: () => void }

/** A TCP proxy on a free loopback port, in front of anything: delays, drops, cuts and falls silent on command. */
export async function startTcpProxy(upstream: NetConnectOpts) {
  const pairs = new Set<Pair>()
  let mode: NetworkMode = 'open'
  let delayMs = 0
  let traps: Trap[] = []
  let attempts = 0

  const listener = createServer((client) => {
    attempts += 1
    if (mode === 'closed') {
      client.resetAndDestroy()
      return
    }
    join({ client, server: connect(upstream) })
  })

  function join(pair: Pair): void {
    pairs.add(pair)
    const { client, server } = pair
    let isAnswerLost = false
    client.on('data', (bytes) => {
      const trap = takeTrap(bytes)
      if (trap?.moment === 'before') {
        cut(pair)
        trap.spring()
        return
      }
      if (trap !== undefined) {
        isAnswerLost = true
        server.once('data', () => {
          cut(pair)
          trap.spring()
        })
      }
      carry(bytes, server)
    })
    server.on('data', (bytes) => {
      if (!isAnswerLost) carry(bytes, client)
    })
    for (const socket of [client, server]) {
      // A side that goes away takes the other one with it; while silent, nobody hears of it.
      socket.on('error', () => undefined)
      socket.on('close', () => {
        if (mode !== 'silent') cut(pair)
      })
    }
  }

  function takeTrap(bytes: Buffer): Trap | undefined {
    const trap = traps.find(({ text }) => bytes.includes(text))
    traps = traps.filter((other) => other !== trap)
    return trap
  }

  function carry(bytes: Buffer, to: Socket): void {
    if (mode !== 'open') return
    if (delayMs === 0) to.write(bytes)
    else setTimeout(() => to.write(bytes), delayMs)
  }

  function cut(pair: Pair): void {
    pairs.delete(pair)
    pair.client.resetAndDestroy()
    pair.server.destroy()
  }

  const cutAll = () => {
    for (const pair of pairs) cut(pair)
  }

  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo

  return {
    port,
    /** Leaving `silent` cuts what was silent: bytes were lost on it. */
    setMode(next: NetworkMode): void {
      if (next === 'closed' || mode === 'silent') cutAll()
      mode = next
    },
    /** Each chunk is carried this much later, in both directions. Chunks of one connection keep their order. */
    setDelay(ms: number): void {
      delayMs = ms
    },
    cutAll,
    /** Cuts the next connection on which a client sends a chunk that holds the text. Resolves when it did. */
    async cutOn(text: string, moment: CutMoment): Promise<void> {
      await new Promise<void>((spring) => traps.push({ text, moment, spring }))
    },
    connections: () => pairs.size,
    /** Connections that were asked for so far, refused ones included. */
    attempts: () => attempts,
    async close(): Promise<void> {
      cutAll()
      listener.close()
      await once(listener, 'close')
    },
  }
}

export type TcpProxy = Awaited<ReturnType<typeof startTcpProxy>>

/** A proxy before the database that a URL names (a unix socket, as the tests' PostgreSQL has), and the URL through it. */
export async function proxyDatabase(url: string): Promise<{ proxy: TcpProxy; url: string }> {
  const address = new URL(url)
  const directory = address.searchParams.get('host')
  const proxy = await startTcpProxy(
    directory === null
      ? { host: address.hostname, port: Number(address.port) }
      : { path: `${directory}/.s.PGSQL.${address.port === '' ? '5432' : address.port}` },
  )
  return { proxy, url: `postgresql://${address.username}@127.0.0.1:${proxy.port}${address.pathname}` }
}

/** A proxy before an HTTP server, and the server's URL through it. */
export async function proxyHttp(url: string): Promise<{ proxy: TcpProxy; url: string }> {
  const address = new URL(url)
  const proxy = await startTcpProxy({ host: address.hostname, port: Number(address.port) })
  address.port = String(proxy.port)
  return { proxy, url: address.href }
}
