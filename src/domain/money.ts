/** An amount in fen (1/100 yuan). Never a float: money is counted, not measured. */
export type Fen = bigint & { readonly __brand: 'Fen' }

/** The largest amount an order may carry: 10^12 fen (10 thousand million yuan), far above any gateway's own limit. */
const FEN_MAX = 1_000_000_000_000n

/** Whole fen to money; undefined where it is negative or beyond every gateway's limit. */
export function fenFrom(value: bigint | number): Fen | undefined {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return undefined
  const fen = BigInt(value)
  return fen >= 0n && fen <= FEN_MAX ? (fen as Fen) : undefined
}

/**
 * Yuan text to fen, digit by digit (`0.1 + 0.2` has no place here). Undefined for anything but plain decimal with at
 * most two decimals, as Alipay writes `total_amount` (Alipay, alipay.trade.query).
 */
export function fenFromYuan(text: string): Fen | undefined {
  const match = /^(\d{1,12})(?:\.(\d{1,2}))?$/.exec(text)
  if (match === null) return undefined
  const [, yuan = '', decimals = ''] = match
  return fenFrom(BigInt(yuan) * 100n + BigInt(decimals.padEnd(2, '0')))
}

/** Fen to yuan text with two decimals, for people. */
export function yuanText(fen: Fen | bigint): string {
  const digits = fen.toString().padStart(3, '0')
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`
}
