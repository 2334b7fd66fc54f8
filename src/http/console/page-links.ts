/** Rows that one page of a list shows. */
export const ROWS_MAX = 50

/** A row's id from an address; null for anything that PostgreSQL's BIGINT does not hold. */
export function rowIdFrom(text: string): bigint | null {
  if (!/^\d{1,19}$/.test(text)) return null
  const id = BigInt(text)
  return id < 2n ** 63n ? id : null
}

/** The address of the next, older page; null on the last one. `rows` were read with one more than a page shows. */
export function olderLink(
  path: string,
  filters: Readonly<Record<string, string>>,
  rows: readonly Readonly<{ id: bigint }>[],
): string | null {
  const last = rows[ROWS_MAX - 1]
  if (rows.length <= ROWS_MAX || last === undefined) return null
  return `${path}?${new URLSearchParams({ ...filters, before: last.id.toString() }).toString()}`
}
