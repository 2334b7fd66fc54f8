import { connect, type Socket } from 'node:net'

import { createHistogram, type Histogram } from './histogram.js'

/** One request as it goes onto the wire, and what it is about. */
export type Shot = Readonly<{ bytes: Buffer; outTradeNo: string }>

export type LoadPlan = Readonly<{
  port: number
  /** Requests under way at once, each on a connection of its own. */
  connections: number
  /** Arrivals per second, whatever the answers do; null: as fast as the connections carry them (saturation). */
  ratePerS: number | null
  durationMs: number
  /** The next request; null where there is none left: the load then ends early. */
  next: () => Shot | null
  /** Told of every answer, with the time from when it was due to be sent. */
  onAnswer?: (shot: Shot, totalUs: number) => void
}>

export type LoadResult = Readonly<{
  answered: number
  /** Answers by the envelope's code; `repaired` of those with code 0. */
  codes: Readonly<Record<string, number>>
  repaired: number
  failed: number
  elapsedMs: number
  totalUs: Histogram
  /** How late the generator itself was; a large value says that the machine, not the target, was the limit. */
  lateUs: Histogram
}>

/** A wait for the last answers is bounded. Milliseconds. */
const DRAIN_MS_MAX = 15_000
const QUEUED_MAX = 200_000

type Due = Readonly<{ shot: Shot; dueMs: number }>
type Lane = { socket: Socket; current: Due | null; received: Buffer[]; length: number }

/**
 * Sends requests when they are due, not when the target is ready for them: a slow answer delays no later arrival, and
 * each latency counts from when its request was due (no coordinated omission).
 */
export async function runLoad(plan: LoadPlan): Promise<LoadResult> {
  const totalUs = createHistogram()
  const lateUs = createHistogram()
  const codes: Record<string, number> = {}
  const idle: Lane[] = []
  const waiting: Due[] = []
  let taken = 0
  let answered = 0
  let repaired = 0
  let failed = 0
  let underWay = 0
  let isOver = false

  const lanes = await Promise.all(Array.from({ length: plan.connections }, async () => await openLane(plan.port)))
  for (const lane of lanes) {
    idle.push(lane)
    lane.socket.on('data', (chunk) => receive(lane, chunk))
    lane.socket.on('close', () => lose(lane))
    lane.socket.on('error', () => undefined)
  }
  const startedMs = performance.now()
  let lastAnswerMs = startedMs

  function send(lane: Lane, due: Due): void {
    lane.current = due
    underWay += 1
    lane.socket.write(due.shot.bytes)
  }

  function finish(lane: Lane, body: string): void {
    const { current } = lane
    if (current === null) return
    lane.current = null
    underWay -= 1
    lastAnswerMs = performance.now()
    const us = (lastAnswerMs - current.dueMs) * 1000
    totalUs.record(us)
    answered += 1
    const code = /"code":(\d+)/.exec(body)?.[1] ?? 'none'
    codes[code] = (codes[code] ?? 0) + 1
    if (body.includes('"repair":true')) repaired += 1
    plan.onAnswer?.(current.shot, us)
    advance(lane)
  }

  function advance(lane: Lane): void {
    const due = waiting.length > taken ? waiting[taken++] : plan.ratePerS === null && !isOver ? dueNow() : undefined
    if (due === undefined) idle.push(lane)
    else send(lane, due)
  }

  function dueNow(): Due | undefined {
    const shot = plan.next()
    if (shot === null) isOver = true
    return shot === null ? undefined : { shot, dueMs: performance.now() }
  }

  function receive(lane: Lane, chunk: Buffer): void {
    lane.received.push(chunk)
    lane.length += chunk.length
    const answer = lane.received.length === 1 ? chunk : Buffer.concat(lane.received)
    const headEnd = answer.indexOf('\r\n\r\n')
    if (headEnd < 0) return
    const head = answer.toString('latin1', 0, headEnd)
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 'NaN')
    if (Number.isNaN(length)) throw new Error(`an answer without a length: ${head}`)
    if (lane.length < headEnd + 4 + length) return
    lane.received = []
    lane.length = 0
    finish(lane, answer.toString('utf8', headEnd + 4))
  }

  function lose(lane: Lane): void {
    if (lane.current === null) return
    lane.current = null
    underWay -= 1
    failed += 1
  }

  async function arrivals(ratePerS: number): Promise<void> {
    const gapMs = 1000 / ratePerS
    for (let number = 0; !isOver; ) {
      const nowMs = performance.now()
      if (nowMs - startedMs >= plan.durationMs || waiting.length - taken > QUEUED_MAX) return
      for (; startedMs + number * gapMs <= nowMs && !isOver; number++) {
        const shot = plan.next()
        if (shot === null) return
        const due = { shot, dueMs: startedMs + number * gapMs }
        lateUs.record((nowMs - due.dueMs) * 1000)
        // The one that has been idle for longest: one that never got its turn would be closed as idle.
        const lane = idle.shift()
        if (lane === undefined) waiting.push(due)
        else send(lane, due)
      }
      await pause(1)
    }
  }

  if (plan.ratePerS === null) {
    for (const lane of idle.splice(0)) advance(lane)
    while (!isOver && performance.now() - startedMs < plan.durationMs) await pause(20)
  } else await arrivals(plan.ratePerS)
  isOver = true
  const drainUntilMs = performance.now() + DRAIN_MS_MAX
  while ((underWay > 0 || waiting.length > taken) && performance.now() < drainUntilMs) await pause(5)
  failed += underWay + waiting.length - taken
  const elapsedMs = (plan.ratePerS === null ? lastAnswerMs : Math.max(lastAnswerMs, performance.now())) - startedMs
  for (const { socket } of lanes) socket.destroy()
  return { answered, codes, repaired, failed, elapsedMs, totalUs, lateUs }
}

/** The bytes of one syncPay call. */
export function syncPayBytes(port: number, body: string): Buffer {
  return Buffer.from(
    `POST /unipay/syncPay HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

async function openLane(port: number): Promise<Lane> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  return { socket, current: null, received: [], length: 0 }
}

export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
