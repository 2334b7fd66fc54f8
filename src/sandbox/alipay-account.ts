import type { KeyPair } from './keys.js'
import type { TradeBook } from './trades.js'

export const ALIPAY_STATES = [
  'NOT_SCANNED',
  'NOT_EXIST',
  'WAIT_BUYER_PAY',
  'TRADE_SUCCESS',
  'TRADE_FINISHED',
  'TRADE_CLOSED',
] as const

export const ALIPAY_PAID_STATES: readonly string[] = ['TRADE_SUCCESS', 'TRADE_FINISHED']

// Alipay's trade exists only once the buyer has scanned the code.
export const ALIPAY_ABSENT_STATES: readonly string[] = ['NOT_SCANNED', 'NOT_EXIST']

/** Certificate mode: what the merchant downloads (PEM), and the numbers by which each side names them. */
export type AlipayCertificates = Readonly<{
  app: string
  /** Alipay's own, followed by that of the authority which issued it. */
  alipay: string
  /** Several roots, not all of them RSA. */
  root: string
  numbers: Readonly<{ app: string; root: string; alipay: string }>
}>

export type AlipayContext = {
  readonly appId: string
  /** The app's pair; its public half is what Alipay verifies requests with. */
  readonly app: KeyPair
  /** Alipay's pair, one per app: another app's answers are signed with another key. */
  alipay: KeyPair
  readonly stranger: () => Promise<KeyPair>
  /** Null in key mode. */
  certificates: AlipayCertificates | null
  /** Whether `sign` comes first in answers, unless the trade says so itself. */
  readonly signFirst: boolean
  readonly book: TradeBook
  readonly now: () => number
}
