import { z } from 'zod'

import { ACTIONS, EXCEPTION_KINDS } from '../../domain/decide.js'
import { ORDER_STATUSES } from '../../domain/order.js'
import { TRADE_STATES } from '../../domain/trade.js'
import { EXCEPTION_STATES } from '../../store/exceptions.js'
import { NOTICE_STATES } from '../../store/notices.js'
import type { OrderHistory } from '../../store/records.js'
import { orderSchema, orderView } from './order-schema.js'
import { fen, moment, storable, word } from './view-schema.js'

const json = z.unknown()

const syncSchema = z
  .object({
    id: z.string(),
    traceId: z.string().describe('on the answer, the log lines and the records of one request'),
    source: word(['merchant', 'sweeper', 'operator', 'batch']),
    actor: z.string().nullable().describe("the operator's name"),
    clientIp: z.string().nullable(),
    outcome: word(['synced', 'mismatch', 'unknown', 'failed']),
    gatewayStatus: z.string(),
    tradeState: word(TRADE_STATES).nullable(),
    decision: word(ACTIONS),
    repairOrderNo: z.string().nullable(),
    errorCode: z.int().nullable(),
    errorMsg: z.string().nullable(),
    exchanges: json.describe('what went over the wire, masked'),
    durationMs: z.int(),
    createTime: moment,
  })
  .meta({ id: 'Sync' })

const repairSchema = z
  .object({
    repairOrderNo: z.string(),
    syncId: z.string(),
    way: z.string(),
    gatewayStatus: z.string(),
    statusBefore: word(ORDER_STATUSES),
    statusAfter: word(ORDER_STATUSES),
    amount: fen,
    actor: z.string().nullable(),
    createTime: moment,
  })
  .meta({ id: 'Repair' })

export const noticeSchema = z
  .object({
    id: z.string(),
    paymentId: z.string(),
    repairOrderNo: z.string(),
    traceId: z.string(),
    url: z.string(),
    payload: json,
    state: word(NOTICE_STATES),
    attempts: z.int().describe('sends since the schedule began'),
    nextAttemptTime: moment.nullable(),
    createTime: moment,
    deliveredTime: moment.nullable(),
    history: z.array(
      z.object({
        attempt: z.int(),
        outcome: z.string(),
        httpStatus: z.int().nullable(),
        excerpt: z.string(),
        durationMs: z.int(),
        createTime: moment,
      }),
    ),
  })
  .meta({ id: 'Notice' })

/** In characters, as JavaScript counts them. */
export const NOTE_LENGTH_MAX = 1000
/** Why a finding is closed, in a human's words; the same for the routes, the console and the commands. */
export const noteSchema = storable(z.string().trim().min(1).max(NOTE_LENGTH_MAX))

export const exceptionSchema = z
  .object({
    id: z.string(),
    paymentId: z.string(),
    syncId: z.string(),
    kind: word(EXCEPTION_KINDS),
    state: word(EXCEPTION_STATES),
    atRisk: fen,
    evidence: json,
    seenCount: z.int(),
    openTime: moment,
    lastSeenTime: moment,
    resolvedTime: moment.nullable(),
    resolvedBy: z.string().nullable(),
    note: z.string().nullable(),
  })
  .meta({ id: 'Exception' })

export const historySchema = z
  .object({
    order: orderSchema,
    syncs: z.array(syncSchema),
    repairs: z.array(repairSchema),
    notices: z.array(noticeSchema),
    exceptions: z.array(exceptionSchema),
  })
  .meta({ id: 'History' })

/** The order and its whole story, newest first. */
export function historyView(history: OrderHistory): z.input<typeof historySchema> {
  return {
    order: orderView(history),
    syncs: history.syncs.map((sync) => ({
      id: sync.id.toString(),
      traceId: sync.traceId,
      source: sync.source,
      actor: sync.actor,
      clientIp: sync.clientIp,
      outcome: sync.outcome,
      gatewayStatus: sync.gatewayStatus,
      tradeState: sync.tradeState,
      decision: sync.decision,
      repairOrderNo: sync.repairNo?.toString() ?? null,
      errorCode: sync.errorCode,
      errorMsg: sync.errorMsg,
      exchanges: sync.exchanges,
      durationMs: sync.durationMs,
      createTime: sync.createdAt.toISOString(),
    })),
    repairs: history.repairs.map((repair) => ({
      repairOrderNo: repair.repairNo.toString(),
      syncId: repair.syncId.toString(),
      way: repair.way,
      gatewayStatus: repair.gatewayStatus,
      statusBefore: repair.statusBefore,
      statusAfter: repair.statusAfter,
      amount: Number(repair.amountFen),
      actor: repair.actor,
      createTime: repair.createdAt.toISOString(),
    })),
    notices: history.notices.map(noticeView),
    exceptions: history.exceptions.map(exceptionView),
  }
}

export function noticeView(notice: OrderHistory['notices'][number]): z.input<typeof noticeSchema> {
  return {
    id: notice.id.toString(),
    paymentId: notice.orderId.toString(),
    repairOrderNo: notice.repairNo.toString(),
    traceId: notice.traceId,
    url: notice.url,
    payload: notice.payload,
    state: notice.state,
    attempts: notice.attempts,
    nextAttemptTime: notice.nextAttemptAt?.toISOString() ?? null,
    createTime: notice.createdAt.toISOString(),
    deliveredTime: notice.deliveredAt?.toISOString() ?? null,
    history: notice.history.map((attempt) => ({
      attempt: attempt.attempt,
      outcome: attempt.outcome,
      httpStatus: attempt.httpStatus,
      excerpt: attempt.excerpt,
      durationMs: attempt.durationMs,
      createTime: attempt.createdAt.toISOString(),
    })),
  }
}

export function exceptionView(exception: OrderHistory['exceptions'][number]): z.input<typeof exceptionSchema> {
  return {
    id: exception.id.toString(),
    paymentId: exception.orderId.toString(),
    syncId: exception.syncId.toString(),
    kind: exception.kind,
    state: exception.state,
    atRisk: Number(exception.atRiskFen),
    evidence: exception.evidence,
    seenCount: exception.seenCount,
    openTime: exception.openedAt.toISOString(),
    lastSeenTime: exception.lastSeenAt.toISOString(),
    resolvedTime: exception.resolvedAt?.toISOString() ?? null,
    resolvedBy: exception.resolvedBy,
    note: exception.note,
  }
}
