import { z } from 'zod'

import { ACTIONS, type Decision, EXCEPTION_KINDS, REPAIR_OF_ACTION } from '../../domain/decide.js'
import { ORDER_STATUSES } from '../../domain/order.js'
import { TRADE_STATES } from '../../domain/trade.js'
import type { SyncOutcome } from '../../sync/sync-order.js'
import { fen, moment, word } from './view-schema.js'

/** The outcomes in which the gateway was asked and understood. */
type Answered = Extract<SyncOutcome, { kind: 'synced' | 'mismatch' }>

/** What one sync found, did (or, as a dry run, would do) and why. */
export const syncedSchema = z
  .object({
    traceId: z.string(),
    dryRun: z.boolean(),
    outcome: z.enum(['synced', 'mismatch']),
    gatewayStatus: z.string(),
    repair: z.boolean().describe('whether anything changed; of a dry run, whether it would'),
    repairOrderNo: z.string().nullable(),
    here: z.object({
      paymentId: z.string(),
      businessNo: z.string(),
      channel: z.string().nullable(),
      status: word(ORDER_STATUSES).describe('before this sync'),
      statusAfter: word(ORDER_STATUSES),
      amount: fen,
      currency: z.string(),
      outTradeNo: z.string(),
      gatewayOrderNo: z.string().nullable(),
      expiredTime: moment,
    }),
    evidence: z
      .object({
        state: word(TRADE_STATES),
        gatewayState: z.string().describe("the gateway's own word"),
        outTradeNo: z.string().nullable(),
        merchantId: z.string().nullable(),
        appId: z.string().nullable(),
        gatewayOrderNo: z.string().nullable(),
        amount: fen.nullable(),
        currency: z.string().nullable(),
        payTime: moment.nullable(),
      })
      .describe('what the gateway said, its signature verified; null is what it did not say'),
    decision: z.object({
      action: word(ACTIONS),
      exception: word(EXCEPTION_KINDS).nullable(),
      byExpiry: z.boolean(),
      why: z.string(),
    }),
  })
  .meta({ id: 'Synced' })

export function syncedView(
  outcome: Answered,
  request: Readonly<{ traceId: string; dryRun: boolean }>,
): z.input<typeof syncedSchema> {
  const { order, trade } = outcome
  const decision: Decision =
    outcome.kind === 'synced' ? outcome.decision : { action: 'none', exception: outcome.mismatch.kind, byExpiry: false }
  const change = REPAIR_OF_ACTION[decision.action]
  return {
    traceId: request.traceId,
    dryRun: request.dryRun,
    outcome: outcome.kind,
    gatewayStatus: outcome.gatewayStatus,
    repair: change !== null,
    repairOrderNo: outcome.kind === 'synced' ? outcome.repairNo : null,
    here: {
      paymentId: order.id.toString(),
      businessNo: order.businessNo,
      channel: order.channel,
      status: order.status,
      statusAfter: change?.status ?? order.status,
      amount: Number(order.amountFen),
      currency: order.currency,
      outTradeNo: order.outTradeNo,
      gatewayOrderNo: order.gatewayOrderNo,
      expiredTime: order.expiresAt.toISOString(),
    },
    evidence: {
      state: trade.state,
      gatewayState: trade.gatewayState,
      outTradeNo: trade.outTradeNo,
      merchantId: trade.merchantId,
      appId: trade.appId,
      gatewayOrderNo: trade.gatewayOrderNo,
      amount: trade.amountFen === null ? null : Number(trade.amountFen),
      currency: trade.currency,
      payTime: trade.paidAt?.toISOString() ?? null,
    },
    decision: { ...decision, why: whyOf(outcome, decision) },
  }
}

const CLOSE_ASKED = 'The gateway was asked to close or reverse the trade and may have done so; the next sync tells.'

/** Of a sync that learned nothing: what it leaves as it was, and what it may have done at the gateway. */
export function nothingChanged(outcome: Exclude<SyncOutcome, Answered>): string {
  const isAsked = outcome.kind === 'gateway_unknown' && outcome.isCloseAsked
  return `Nothing changed here.${isAsked ? ` ${CLOSE_ASKED}` : ''}`
}

const WHY = {
  settle: 'The gateway has the money and the order here is not settled.',
  close_local: 'Nobody can pay this trade any more; the order here is still open.',
  close_gateway: 'It is not paid and must not be: it is closed at the gateway, asked about again, then closed here.',
  reopen: 'The trade can still be paid and its time is not over.',
  wait: 'It is not paid yet and its time is not over, or it is too young to tell; it is asked about again later.',
  none: 'The order here and the trade there agree, or only a human may change this.',
} as const satisfies Record<Decision['action'], string>

function whyOf(outcome: Answered, decision: Decision): string {
  if (outcome.kind === 'mismatch') {
    const { field, expected, actual } = outcome.mismatch
    const asked = outcome.isCloseAsked ? ` ${CLOSE_ASKED}` : ''
    return `The answer is about something else: ${field} is ${expected} here and ${actual} there. Nothing changes here.${asked}`
  }
  const parts = [
    `${outcome.order.status} here, ${outcome.trade.state} (${outcome.trade.gatewayState}) there.`,
    WHY[decision.action],
    ...(decision.exception === null ? [] : [`A human must look at it: ${decision.exception}.`]),
    ...(outcome.note === null ? [] : [`(${outcome.note})`]),
  ]
  return parts.join(' ')
}
