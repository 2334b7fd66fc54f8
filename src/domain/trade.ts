import type { Fen } from './money.js'

/**
 * What became of a trade, as the gateway tells it. A failed query is not a trade state: it is another kind of outcome
 * (`gateways/gateway.ts`) and cannot reach the decision table.
 */
export const TRADE_STATES = ['paid', 'paying', 'closed', 'refunded', 'not_found', 'not_found_yet'] as const
export type TradeState = (typeof TRADE_STATES)[number]

/**
 * One verified answer about one trade. Whatever the answer did not contain is null; whatever it named is compared with
 * the order (`checkTrade`), never assumed.
 */
export type Trade = Readonly<{
  state: TradeState
  /** The gateway's own word for the state (`NOTPAY`, `TRADE_SUCCESS`, `ORDER_NOT_EXIST` …), for records and people. */
  gatewayState: string
  outTradeNo: string | null
  merchantId: string | null
  appId: string | null
  gatewayOrderNo: string | null
  /** The order's amount at the gateway, before any discount. */
  amountFen: Fen | null
  currency: string | null
  paidAt: Date | null
}>

/** A gateway's transaction number as an order can keep it; theirs have 28 and 32 characters. */
export const GATEWAY_ORDER_NO_FORM = /^[!-~]{1,64}$/

/** Whom our credentials speak for. Null where the channel's answers do not name it (Alipay names no merchant). */
export type GatewayAccount = Readonly<{ merchantId: string | null; appId: string | null }>
