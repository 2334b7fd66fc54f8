import type { ExceptionKind } from '../domain/decide.js'
import type { PrismaClient, SyncException } from '../generated/prisma/client.js'

export const EXCEPTION_STATES = ['open', 'resolved'] as const
export type ExceptionState = (typeof EXCEPTION_STATES)[number]

/** One page, newest first: rows below `beforeId`, at most `limit`. */
export type ExceptionQuery = Readonly<{
  state: ExceptionState | null
  kind: ExceptionKind | null
  beforeId: bigint | null
  limit: number
}>

export type Resolution =
  | Readonly<{ kind: 'resolved' | 'already_resolved'; row: SyncException }>
  | Readonly<{ kind: 'not_found' }>

/** The findings that a human must look at. Opened by a sync's commit only; resolved here, by someone, with a reason. */
export function createExceptions(prisma: PrismaClient) {
  async function list({ state, kind, beforeId, limit }: ExceptionQuery): Promise<readonly SyncException[]> {
    return await prisma.syncException.findMany({
      where: {
        ...(state === null ? {} : { state }),
        ...(kind === null ? {} : { kind }),
        ...(beforeId === null ? {} : { id: { lt: beforeId } }),
      },
      orderBy: { id: 'desc' },
      take: limit,
    })
  }

  /** Closes an open finding. One that is resolved already keeps its first resolution. */
  async function resolve(id: bigint, resolvedBy: string, note: string, now: Date): Promise<Resolution> {
    const [changed] = await prisma.syncException.updateManyAndReturn({
      where: { id, state: 'open' },
      data: { state: 'resolved', resolvedAt: now, resolvedBy, note },
    })
    if (changed !== undefined) return { kind: 'resolved', row: changed }
    const row = await prisma.syncException.findUnique({ where: { id } })
    return row === null ? { kind: 'not_found' } : { kind: 'already_resolved', row }
  }

  async function find(id: bigint): Promise<SyncException | null> {
    return await prisma.syncException.findUnique({ where: { id } })
  }

  return { list, find, resolve }
}

export type Exceptions = ReturnType<typeof createExceptions>
