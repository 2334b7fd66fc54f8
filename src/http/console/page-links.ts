import { pageOf, rowIdSchema } from '../ops/page.js'

/** Rows that one page of a list shows. */
export const ROWS_MAX = 50

/** A row's id from an address; null for anything that PostgreSQL's BIGINT does not hold. */
export function rowIdFrom(text: string): bigint | null {
  return rowIdSchema.safeParse(text).success ? BigInt(text) : null
}

/** The address of the next, older page; null on the last one. `rows` were read with one more than a page shows. */
export function olderLink(
  path: string,
  filters: Readonly<Record<string, string>>,
  rows: readonly Readonly<{ id: bigint }>[],
): string | null {
  const { nextCursor } = pageOf(rows, ROWS_MAX, (row) => row)
  if (nextCursor === null) return null
  return `${path}?${new URLSearchParams({ ...filters, before: nextCursor }).toString()}`
}
