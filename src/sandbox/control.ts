import { z } from 'zod'
import { type Fault, type FaultInput, faultsSchema } from './faults.js'
import type { RequestRecord } from './request-log.js'
import type { Answer, Delivery, Received } from './server.js'
import type { TradeCalls, TradeInput, TradeView } from './trades.js'

/** What `/_sandbox/*` can do; the same calls are there for code in the same process. */
export type SandboxControl = Readonly<{
  putTrade: (outTradeNo: string, trade: TradeInput) => TradeView
  getTrade: (outTradeNo: string) => TradeView | null
  calls: (outTradeNo: string) => Readonly<TradeCalls>
  addFaults: (faults: readonly FaultInput[]) => void
  pendingFaults: () => readonly Fault[]
  requests: () => readonly RequestRecord[]
  reset: () => void
  rotateKeys?: (answersWith?: 'new' | 'old') => Promise<string>
}>

const PREFIX = '/_sandbox'
const TRADE_PATH = /^\/_sandbox\/trades\/([^/]+)$/
const rotateSchema = z.strictObject({ answersWith: z.enum(['new', 'old']).default('new') })

export function isControl(received: Received): boolean {
  return received.path === PREFIX || received.path.startsWith(`${PREFIX}/`)
}

function json(status: number, value: unknown): Answer {
  return {
    status,
    headers: { 'Content-Type': 'application/json; charset=utf-8' },
    body: Buffer.from(JSON.stringify(value)),
  }
}

function parseBody(received: Received): unknown {
  return received.body.length === 0 ? {} : JSON.parse(received.body.toString('utf8'))
}

function answerTrade(control: SandboxControl, received: Received, outTradeNo: string): Answer | null {
  if (received.method === 'PUT') {
    return json(200, control.putTrade(outTradeNo, parseBody(received) as TradeInput))
  }
  if (received.method === 'GET') {
    const trade = control.getTrade(outTradeNo)
    return trade === null ? json(404, { error: 'no such trade', calls: control.calls(outTradeNo) }) : json(200, trade)
  }
  return null
}

async function route(control: SandboxControl, received: Received): Promise<Answer | null> {
  const outTradeNo = TRADE_PATH.exec(received.path)?.[1]
  if (outTradeNo !== undefined) {
    return answerTrade(control, received, decodeURIComponent(outTradeNo))
  }
  switch (`${received.method} ${received.path}`) {
    case `POST ${PREFIX}/faults`:
      control.addFaults(faultsSchema.parse(parseBody(received)))
      return json(200, control.pendingFaults())
    case `GET ${PREFIX}/faults`:
      return json(200, control.pendingFaults())
    case `GET ${PREFIX}/requests`:
      return json(200, control.requests())
    case `POST ${PREFIX}/rotate`:
      return control.rotateKeys === undefined
        ? null
        : json(200, { serial: await control.rotateKeys(rotateSchema.parse(parseBody(received)).answersWith) })
    case `DELETE ${PREFIX}`:
      control.reset()
      return { status: 204, headers: {}, body: Buffer.alloc(0) }
    default:
      return null
  }
}

/** Serves the control routes. A wrong body is a 400 that says what is wrong with it. */
export async function answerControl(control: SandboxControl, received: Received): Promise<Delivery> {
  try {
    return { answer: (await route(control, received)) ?? json(404, { error: 'no such control route' }) }
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause)
    return { answer: json(400, { error: reason }) }
  }
}
