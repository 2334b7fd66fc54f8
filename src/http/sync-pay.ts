import type { FastifyInstance, FastifyRequest } from 'fastify'

import { orderIdFrom } from '../domain/order.js'
import type { OrderKey } from '../store/leases.js'
import type { SyncOrder, SyncOutcome } from '../sync/sync-order.js'
import { readBody, type SyncPayBody } from './body.js'
import { errorReply, gatewayUnknownReply, successReply } from './reply.js'
import { SYNC_PAY_DOCUMENT } from './sync-pay-document.js'
import { traceparentOf } from './traceparent.js'
import { isVerified, type MerchantSigning } from './verify-sign.js'

/** CONTRACT: body limit 64 KiB. */
export const BODY_BYTES_MAX = 64 * 1024

export type SyncPayDeps = Readonly<{
  syncOrder: SyncOrder
  signing: MerchantSigning
  /** How far reqTime may be from now, in seconds; 0: any. */
  reqTimeWindowS: number
  now: () => number
}>

/** `POST /unipay/syncPay`: the wire of DaxPay 2.0.0 to 2.0.5. Codes are checked in the contract's order. */
export function registerSyncPay(app: FastifyInstance, deps: SyncPayDeps): void {
  app.removeAllContentTypeParsers()
  // The bytes stay as they came: the signature is over what the merchant sent, not over what a parser made of it.
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer', bodyLimit: BODY_BYTES_MAX },
    (_request, bytes, done) => done(null, bytes),
  )
  app.post(
    '/syncPay',
    { bodyLimit: BODY_BYTES_MAX, config: { documentation: SYNC_PAY_DOCUMENT } },
    async (request, reply) => {
      void reply.type('application/json; charset=utf-8')
      const read = readBody(Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0))
      if (read.kind !== 'read') return errorReply(read.kind, request, read.detail)
      const { body } = read
      if (!isVerified(body, deps.signing)) return errorReply('unsigned', request)
      if (!isInWindow(body, deps)) return errorReply('outOfWindow', request)
      const key = keyOf(body)
      if (key === undefined) return errorReply('orderNotNamed', request)
      const outcome = await deps.syncOrder({
        key,
        traceId: request.id,
        traceparent: traceparentOf(request.headers['traceparent']),
        source: 'merchant',
        actor: null,
        clientIp: body.clientIp,
        dryRun: false,
      })
      return replyTo(outcome, deps.signing, request)
    },
  )
}

/** Both ids given: paymentId counts, alone. */
function keyOf({ paymentId, businessNo }: SyncPayBody): OrderKey | undefined {
  if (paymentId !== null) {
    const id = orderIdFrom(paymentId)
    return id === undefined ? undefined : { id }
  }
  return businessNo === null ? undefined : { businessNo }
}

function isInWindow({ reqTime }: SyncPayBody, { reqTimeWindowS, now }: SyncPayDeps): boolean {
  if (reqTimeWindowS === 0) return true
  return Math.abs(Math.floor(now() / 1000) - Number(reqTime)) <= reqTimeWindowS
}

function replyTo(outcome: SyncOutcome, signing: MerchantSigning, request: FastifyRequest): string {
  switch (outcome.kind) {
    case 'synced':
      return successReply(outcome, signing, request)
    case 'busy':
      return errorReply('busy', request)
    case 'not_found':
      return errorReply('orderNotFound', request)
    case 'no_channel':
      return errorReply('noChannel', request)
    case 'channel_not_configured':
      return errorReply('channelNotConfigured', request, outcome.order.channel ?? '')
    case 'mismatch': {
      const { field, expected, actual } = outcome.mismatch
      const name = outcome.mismatch.kind === 'amount_mismatch' ? 'amountMismatch' : 'identityMismatch'
      return errorReply(name, request, `${field} 订单为 ${expected}，网关为 ${actual}`)
    }
    case 'gateway_unknown':
      return gatewayUnknownReply(outcome.message, request)
  }
}
