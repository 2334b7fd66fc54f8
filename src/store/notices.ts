import type { PrismaClient } from '../generated/prisma/client.js'

/** `superseded`: not delivered before a newer notice of its order was written, so never sent again. */
export const NOTICE_STATES = ['pending', 'delivered', 'dead', 'superseded'] as const
export type NoticeState = (typeof NOTICE_STATES)[number]

/** One page, newest first: rows below `beforeId`, at most `limit`. */
export type NoticeQuery = Readonly<{ state: NoticeState | null; beforeId: bigint | null; limit: number }>

/** The newest sends that one notice shows: its whole schedule, and some more of an earlier one. */
const SENDS_SHOWN_MAX = 32

/** The outbox as operators see it. Sending is the courier's work alone. */
export function createNotices(prisma: PrismaClient) {
  const include = { history: { orderBy: { id: 'desc' }, take: SENDS_SHOWN_MAX } } as const

  function list({ state, beforeId, limit }: NoticeQuery) {
    return prisma.notice.findMany({
      where: { ...(state === null ? {} : { state }), ...(beforeId === null ? {} : { id: { lt: beforeId } }) },
      orderBy: { id: 'desc' },
      take: limit,
      include,
    })
  }

  /**
   * Makes an order's newest notice due now, by the database's clock, in whatever state it is; its schedule starts anew. An
   * older one is `outdated`: sent again, it would tell the merchant a state that is over. One that is being sent keeps its
   * claim, so that something newer waits for the end of that send, which is the first of the new schedule. One that was not
   * sent yet goes on waiting for the end of an older one's send.
   */
  async function redeliver(id: bigint) {
    const [, count] = await prisma.$transaction([
      // A commit that writes a newer one locks this row too: whoever comes second sees what the first one did.
      prisma.$queryRaw`SELECT id FROM notices WHERE id = ${id} FOR UPDATE`,
      prisma.$executeRaw`
        UPDATE notices AS n SET state = 'pending', attempts = 0, delivered_at = NULL, next_attempt_at = CASE
          WHEN state = 'pending' AND (claim_token IS NOT NULL OR attempts = 0 AND EXISTS (
            SELECT 1 FROM notices older WHERE older.order_id = n.order_id AND older.id < n.id AND older.claim_token IS NOT NULL))
          THEN next_attempt_at ELSE clock_timestamp() END
        WHERE id = ${id} AND NOT EXISTS (SELECT 1 FROM notices newer WHERE newer.order_id = n.order_id AND newer.id > n.id)`,
    ])
    const notice = await prisma.notice.findUnique({ where: { id }, include })
    if (notice === null) return { kind: 'not_found' } as const
    return count === 0 ? ({ kind: 'outdated', notice } as const) : ({ kind: 'redelivered', notice } as const)
  }

  function find(id: bigint) {
    return prisma.notice.findUnique({ where: { id } })
  }

  return { list, find, redeliver }
}

export type Notices = ReturnType<typeof createNotices>
