import { z } from 'zod'

import type { OrderHistory } from '../../store/records.js'
import { orderSchema, orderView } from './order-schema.js'

const json = z.unknown()

const syncSchema = z.object({
  id: z.string(),
  traceId: z.string().describe('on the answer, the log lines and the records of one request'),
  source: z.string(),
  actor: z.string().nullable().describe("the operator's name"),
  clientIp: z.string().nullable(),
  outcome: z.string(),
  gatewayStatus: z.string(),
  tradeState: z.string().nullable(),
  decision: z.string(),
  repairOrderNo: z.string().nullable(),
  errorCode: z.int().nullable(),
  errorMsg: z.string().nullable(),
  exchanges: json.describe('what went over the wire, masked'),
  durationMs: z.int(),
  createTime: z.string(),
})

const repairSchema = z.object({
  repairOrderNo: z.string(),
  syncId: z.string(),
  way: z.string(),
  gatewayStatus: z.string(),
  statusBefore: z.string(),
  statusAfter: z.string(),
  amount: z.int(),
  actor: z.string().nullable(),
  createTime: z.string(),
})

export const noticeSchema = z.object({
  id: z.string(),
  paymentId: z.string(),
  repairOrderNo: z.string(),
  traceId: z.string(),
  url: z.string(),
  payload: json,
  state: z.string(),
  attempts: z.int().describe('sends since the schedule began'),
  nextAttemptTime: z.string().nullable(),
  createTime: z.string(),
  deliveredTime: z.string().nullable(),
  history: z.array(
    z.object({
      attempt: z.int(),
      outcome: z.string(),
      httpStatus: z.int().nullable(),
      excerpt: z.string(),
      durationMs: z.int(),
      createTime: z.string(),
    }),
  ),
})

export const exceptionSchema = z.object({
  id: z.string(),
  paymentId: z.string(),
  syncId: z.string(),
  kind: z.string(),
  state: z.string(),
  atRisk: z.int().describe('fen'),
  evidence: json,
  seenCount: z.int(),
  openTime: z.string(),
  lastSeenTime: z.string(),
  resolvedTime: z.string().nullable(),
  resolvedBy: z.string().nullable(),
  note: z.string().nullable(),
})

export const historySchema = z.object({
  order: orderSchema,
  syncs: z.array(syncSchema),
  repairs: z.array(repairSchema),
  notices: z.array(noticeSchema),
  exceptions: z.array(exceptionSchema),
})

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
