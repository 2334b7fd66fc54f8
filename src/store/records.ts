import type { PrismaClient } from '../generated/prisma/client.js'

/** The newest records of each kind that one history shows. */
const HISTORY_MAX = 100

/** An order with all that happened to it, newest first. */
export function createRecords(prisma: PrismaClient) {
  function findHistory(key: Readonly<{ id: bigint } | { businessNo: string }>) {
    const newest = { orderBy: { id: 'desc' }, take: HISTORY_MAX } as const
    return prisma.order.findUnique({
      where: key,
      include: {
        syncs: newest,
        repairs: { orderBy: { repairNo: 'desc' }, take: HISTORY_MAX },
        exceptions: newest,
        notices: { ...newest, include: { history: newest } },
      },
    })
  }
  return { findHistory }
}

export type Records = ReturnType<typeof createRecords>
export type OrderHistory = NonNullable<Awaited<ReturnType<Records['findHistory']>>>
