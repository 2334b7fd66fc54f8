import { z } from 'zod'
import type { CallKind } from './faults.js'

/** An instant: RFC 3339 text, or milliseconds since 1970. */
const instant = z.union([
  z.int(),
  z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
  z.date().transform((date) => date.getTime()),
])

// Members it does not know are left out: so what GET gives can be put back, with `calls` and all.
const tradeSchema = z.object({
  /** The gateway's own state names. */
  state: z.string(),
  /** Fen. Kept from before where the trade is already known. */
  amount: z.int().min(1).nullish(),
  currency: z.string().nullish(),
  /** Fen that came from the payer; the rest was a discount. Default: all of it. */
  payerAmount: z.int().min(0).nullish(),
  /** Fen given back so far. */
  refunded: z.int().min(0).nullish(),
  transactionId: z.string().nullish(),
  createdAt: instant.nullish(),
  paidAt: instant.nullish(),
  /** WeChat's trade_type: JSAPI, NATIVE, APP, MICROPAY, MWEB. */
  tradeType: z.string().nullish(),
  attach: z.string().nullish(),
  subject: z.string().nullish(),
  outRefundNo: z.string().nullish(),
  /** `close`: it turns just before the next close or reverse. `query`: right after the next query was answered. */
  payOn: z.enum(['close', 'query']).nullish(),
  /** What it turns into then. Default: paid. */
  becomes: z.string().nullish(),
  /** How many times a reverse answers "call again" first. */
  recalls: z.int().min(0).nullish(),
  /** Alipay: `sign` comes before the response node in answers about this trade. */
  signFirst: z.boolean().nullish(),
})
export type TradeInput = z.input<typeof tradeSchema>

/** A trade as the simulated gateway keeps it. Times in milliseconds since 1970, money in fen. */
export type SandboxTrade = {
  readonly outTradeNo: string
  state: string
  readonly amount: number
  readonly currency: string
  readonly payerAmount: number
  refunded: number
  readonly transactionId: string
  readonly createdAt: number
  paidAt: number | null
  readonly tradeType: string
  readonly attach: string | null
  readonly subject: string | null
  readonly outRefundNo: string
  payOn: 'close' | 'query' | null
  readonly becomes: string
  recalls: number
  readonly signFirst: boolean | null
}

/** What was asked about one order number so far, whether or not such a trade exists. */
export type TradeCalls = Record<CallKind, number> & {
  /** Queries not yet answered, and the most there ever were at once. */
  queriesInFlight: number
  queriesInFlightMax: number
}

export type TradeView = Omit<SandboxTrade, 'createdAt' | 'paidAt'> &
  Readonly<{ createdAt: string; paidAt: string | null; calls: Readonly<TradeCalls> }>

export type TradeBookOptions = Readonly<{
  states: readonly string[]
  /** The states of a trade the buyer has paid at some time. */
  paidStates: readonly string[]
  tradeType: string
  now: () => number
  newTransactionId: (createdAt: number, serial: number) => string
}>

// Old enough that WeChat lets it be closed (5 minutes), young enough that it still does (7 days).
const DEFAULT_AGE_MS = 3600 * 1000

/** One gateway's trades, and the count of what was asked about each. */
export function createTradeBook(options: TradeBookOptions) {
  const trades = new Map<string, SandboxTrade>()
  const numbers = new Map<string, string>()
  const calls = new Map<string, TradeCalls>()
  // Every trade gets a number of its own, also one that was forgotten and put again.
  let serial = 0
  const isPaid = (state: string) => options.paidStates.includes(state)

  function callsOf(outTradeNo: string): TradeCalls {
    const known = calls.get(outTradeNo)
    if (known !== undefined) {
      return known
    }
    const none: TradeCalls = {
      query: 0,
      close: 0,
      reverse: 0,
      refund_query: 0,
      certificates: 0,
      queriesInFlight: 0,
      queriesInFlightMax: 0,
    }
    calls.set(outTradeNo, none)
    return none
  }

  function requireState(state: string): string {
    if (!options.states.includes(state)) {
      throw new TypeError(`state ${state} is none of ${options.states.join(', ')}`)
    }
    return state
  }

  function paidAtOf(input: z.output<typeof tradeSchema>, before: SandboxTrade | undefined): number | null {
    if (input.paidAt !== undefined && input.paidAt !== null) {
      return input.paidAt
    }
    if (!isPaid(input.state) && (input.refunded ?? 0) === 0) {
      return null
    }
    return before?.paidAt ?? options.now()
  }

  /** Throws on an unknown state or member, or a first put without an amount. What it does not say starts anew. */
  function put(outTradeNo: string, raw: TradeInput): TradeView {
    const input = tradeSchema.parse(raw)
    const before = trades.get(outTradeNo)
    const amount = input.amount ?? before?.amount
    if (amount === undefined) {
      throw new TypeError('amount (fen) is missing')
    }
    serial += 1
    const createdAt = input.createdAt ?? before?.createdAt ?? options.now() - DEFAULT_AGE_MS
    const transactionId = input.transactionId ?? before?.transactionId ?? options.newTransactionId(createdAt, serial)
    numbers.set(transactionId, outTradeNo)
    trades.set(outTradeNo, {
      outTradeNo,
      state: requireState(input.state),
      amount,
      currency: input.currency ?? 'CNY',
      payerAmount: input.payerAmount ?? amount,
      refunded: input.refunded ?? 0,
      transactionId,
      createdAt,
      paidAt: paidAtOf(input, before),
      tradeType: input.tradeType ?? before?.tradeType ?? options.tradeType,
      attach: input.attach ?? null,
      subject: input.subject ?? null,
      outRefundNo: input.outRefundNo ?? `${outTradeNo}R`,
      payOn: input.payOn ?? null,
      becomes: requireState(input.becomes ?? options.paidStates[0] ?? input.state),
      recalls: input.recalls ?? 0,
      signFirst: input.signFirst ?? null,
    })
    return view(outTradeNo) as TradeView
  }

  function view(outTradeNo: string): TradeView | null {
    const trade = trades.get(outTradeNo)
    if (trade === undefined) {
      return null
    }
    return {
      ...trade,
      createdAt: new Date(trade.createdAt).toISOString(),
      paidAt: trade.paidAt === null ? null : new Date(trade.paidAt).toISOString(),
      calls: { ...callsOf(outTradeNo) },
    }
  }

  return {
    put,
    view,
    find: (outTradeNo: string): SandboxTrade | undefined => trades.get(outTradeNo),
    findByTransactionId(id: string): SandboxTrade | undefined {
      const trade = trades.get(numbers.get(id) ?? '')
      return trade?.transactionId === id ? trade : undefined
    },
    findByRefundNo: (no: string) =>
      [...trades.values()].find((trade) => trade.outRefundNo === no && trade.refunded > 0),
    /** The scripted turn of the trade, where it was scripted for this moment. */
    turn(trade: SandboxTrade | undefined, moment: 'close' | 'query'): void {
      if (trade?.payOn === moment) {
        trade.payOn = null
        trade.state = trade.becomes
        trade.paidAt = isPaid(trade.becomes) ? options.now() : trade.paidAt
      }
    },
    callsOf: (outTradeNo: string): Readonly<TradeCalls> => ({ ...callsOf(outTradeNo) }),
    /** Counts a call; the function returned tells that it was answered (telling twice is harmless). */
    enter(outTradeNo: string, kind: CallKind): () => void {
      const count = callsOf(outTradeNo)
      count[kind] += 1
      if (kind !== 'query') {
        return () => undefined
      }
      count.queriesInFlight += 1
      count.queriesInFlightMax = Math.max(count.queriesInFlightMax, count.queriesInFlight)
      let left = false
      return () => {
        count.queriesInFlight -= left ? 0 : 1
        left = true
      }
    },
    clear(): void {
      trades.clear()
      numbers.clear()
      calls.clear()
    },
  }
}
export type TradeBook = ReturnType<typeof createTradeBook>
