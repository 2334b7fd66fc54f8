import { type CallKind, type Fault, type FaultScript, isPerformed } from './faults.js'
import type { RequestLog } from './request-log.js'
import type { Answer, Delivery, Received } from './server.js'
import type { TradeBook } from './trades.js'

/** A request as one of the gateway's protocols reads it. */
export type GatewayCall = Readonly<{
  /** Null: the gateway has no such operation. */
  kind: CallKind | null
  operation: string
  outTradeNo: string | null
  /** `valid`, or why the gateway refuses the request before looking at any trade. */
  verdict: string
  /** Carries the call out, or refuses it, and signs the answer, as the fault wants it. */
  answer: (fault: Fault | undefined) => Promise<Answer>
}>

/** Holds the next matching call back until released: for tests about what happens meanwhile. */
export type Hold = Readonly<{
  /** Resolves when the call has been carried out and its answer waits to be sent. */
  arrived: Promise<void>
  release: () => void
}>

type PendingHold = Readonly<{
  on: CallKind
  outTradeNo: string | undefined
  arrive: () => void
  released: Promise<void>
}>

function signal(): Readonly<{ given: Promise<void>; give: () => void }> {
  let give = (): void => undefined
  const given = new Promise<void>((resolve) => {
    give = resolve
  })
  return { given, give }
}

const HTML_502 = [
  '<html>',
  '<head><title>502 Bad Gateway</title></head>',
  '<body>',
  '<center><h1>502 Bad Gateway</h1></center>',
  '<hr><center>nginx</center>',
  '</body>',
  '</html>',
  '',
].join('\r\n')

/** The answers that come from in front of the gateway, whatever was asked. */
function frontAnswer(fault: Fault | undefined, received: Received): Answer | null {
  if (fault?.fault === 'html502') {
    return { status: 502, headers: { 'Content-Type': 'text/html' }, body: Buffer.from(HTML_502) }
  }
  if (fault?.fault === 'redirect') {
    // Back to the same place: whoever follows repeats the nonce, and the record of requests shows it.
    return { status: 302, headers: { Location: received.target }, body: Buffer.alloc(0) }
  }
  return null
}

const DAMAGES = ['hang', 'reset', 'cut', 'wrong_length'] as const

function damageOf(fault: Fault | undefined): Delivery['damage'] {
  return DAMAGES.find((damage) => damage === fault?.fault)
}

// Longer than a quick retry, shorter than the deadline of a call (8 s).
const DELAY_MS_DEFAULT = 3000

function waitOf(fault: Fault | undefined): number | undefined {
  return fault?.ms ?? (fault?.fault === 'delay' ? DELAY_MS_DEFAULT : undefined)
}

/** Plays one call: verdict, fault, effect, answer, record. The same for every protocol. */
export function createExchange(book: TradeBook, faults: FaultScript, log: RequestLog) {
  let holds: PendingHold[] = []

  function takeHold(call: GatewayCall): Promise<void> | undefined {
    const hold = holds.find(
      ({ on, outTradeNo }) => on === call.kind && (outTradeNo === undefined || outTradeNo === call.outTradeNo),
    )
    holds = holds.filter((other) => other !== hold)
    hold?.arrive()
    return hold?.released
  }

  async function play(call: GatewayCall, received: Received): Promise<Delivery> {
    const accepted = call.verdict === 'valid' && call.kind !== null
    const settled =
      accepted && call.kind !== null && call.outTradeNo !== null ? book.enter(call.outTradeNo, call.kind) : undefined
    const fault = accepted && call.kind !== null ? faults.take(call.kind, call.outTradeNo) : undefined
    try {
      return { ...(await answered(call, received, fault)), settled }
    } catch (cause) {
      settled?.()
      throw cause
    }
  }

  async function answered(call: GatewayCall, received: Received, fault: Fault | undefined): Promise<Delivery> {
    const front = frontAnswer(fault, received)
    // What stands in front of the gateway may answer although the gateway did its work.
    const answer = front === null || isPerformed(fault) ? await call.answer(fault) : front
    log.add({
      method: received.method,
      target: received.target,
      operation: call.operation,
      outTradeNo: call.outTradeNo,
      verdict: call.verdict,
      fault: fault?.fault ?? null,
      status: (front ?? answer).status,
      body: received.body,
    })
    const held = call.verdict === 'valid' ? takeHold(call) : undefined
    return { answer: front ?? answer, damage: damageOf(fault), waitMs: waitOf(fault), held }
  }

  return {
    play,
    holdNext(on: CallKind, outTradeNo?: string): Hold {
      const arrival = signal()
      const released = signal()
      holds.push({ on, outTradeNo, arrive: arrival.give, released: released.given })
      return { arrived: arrival.given, release: released.give }
    },
  }
}
export type Exchange = ReturnType<typeof createExchange>
