import { z } from 'zod'

import { ORDER_ID_MAX } from '../../domain/order.js'
import { onlyFields } from './known-fields.js'

/** A page holds at most this many; a reader of more follows `nextCursor`. */
export const PAGE_MAX = 200

/** An id that PostgreSQL's BIGINT holds, as a string. */
export const rowIdSchema = z
  .string()
  .regex(/^\d{1,19}$/, { error: 'must be a string of up to 19 digits', abort: true })
  .refine((text) => BigInt(text) <= ORDER_ID_MAX, 'must be at most 2^63-1')

export const idParams = z.object({ id: rowIdSchema })

const pageQuery = {
  cursor: rowIdSchema.optional().describe('nextCursor of the page before'),
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(50),
}

/** What a list is asked with: its filters and the page. One of these that is there but empty is as good as none. */
export function listQuery<Filters extends z.ZodRawShape>(owner: string, filters: Filters) {
  const query = onlyFields({ ...filters, ...pageQuery }, 'parameter', owner)
  const isGiven = ([name, value]: [string, unknown]) => value !== '' || !Object.hasOwn(query.shape, name)
  return z.preprocess((asked) => Object.fromEntries(Object.entries(asked ?? {}).filter(isGiven)), query)
}

/** One page, newest first; `nextCursor` null on the last one. */
export function pageSchema<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), nextCursor: z.string().nullable() })
}

/** Cuts a page off rows that were read with one more than the page holds. */
export function pageOf<Row extends { id: bigint }, View>(
  rows: readonly Row[],
  limit: number,
  view: (row: Row) => View,
): { items: View[]; nextCursor: string | null } {
  const shown = rows.slice(0, limit)
  const isLast = rows.length <= limit
  return { items: shown.map(view), nextCursor: isLast ? null : (shown.at(-1)?.id.toString() ?? null) }
}
