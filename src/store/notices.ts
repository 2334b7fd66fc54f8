import type { PrismaClient } from '../generated/prisma/client.js'

export const NOTICE_STATES = ['pending', 'delivered', 'dead'] as const
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
   * Makes a notice due now, by the database's clock, in whatever state it is; its schedule starts anew. Null where there is none. A send that is
   * under way loses its claim and may arrive beside the new one: notices are delivered at least once.
   */
  async function redeliver(id: bigint) {
    const count = await prisma.$executeRaw`
      UPDATE notices SET state = 'pending', attempts = 0, next_attempt_at = clock_timestamp(), claim_token = NULL,
        delivered_at = NULL WHERE id = ${id}`
    return count === 0 ? null : await prisma.notice.findUnique({ where: { id }, include })
  }

  function find(id: bigint) {
    return prisma.notice.findUnique({ where: { id } })
  }

  return { list, find, redeliver }
}

export type Notices = ReturnType<typeof createNotices>
