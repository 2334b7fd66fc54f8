import type { Action } from '../domain/decide.js'
import type { Log } from '../log.js'
import type { BatchClaim, Batches, BatchItem, BatchResult, CommittedItem } from '../store/batches.js'
import type { SyncOrder, SyncOutcome } from './sync-order.js'

/**
 * A busy order is asked for again after this, until its other lease has run out for sure (12 × 5 s); so is one whose sync
 * threw. By then no statement of that sync runs any more (5 s), so that what it committed is found. Seconds.
 */
export const AGAIN_DELAY_S = 5
const TRIES_MAX = 12

const RESULT_OF_ACTION = {
  settle: 'settled',
  close_local: 'closed_local',
  close_gateway: 'closed_gateway',
  reopen: 'reopened',
  wait: 'waiting',
  none: 'unchanged',
} as const satisfies Record<Action, BatchResult>

type Batch = BatchClaim['batch']

type BatchItemDeps = Readonly<{ batches: Pick<Batches, 'findCommitted'>; syncOrder: SyncOrder; log: Log }>

/** One order of a batch: its sync, or what an earlier one of this batch had committed. Null where it is to be asked for again. */
export function createBatchItem({ batches, syncOrder, log }: BatchItemDeps) {
  async function syncItem(batch: Batch, item: BatchItem): Promise<BatchResult | null> {
    try {
      if (item.tries > 1 && !batch.dryRun) {
        const committed = await batches.findCommitted(item)
        if (committed !== null) return resultOfRecord(committed)
      }
      // The last sync threw as well, and committed nothing but that.
      if (item.tries > TRIES_MAX) return 'failed'
      const outcome = await syncOrder({
        key: { id: item.orderId },
        traceId: item.traceId,
        traceparent: batch.traceparent,
        source: 'batch',
        actor: batch.actor,
        clientIp: null,
        dryRun: batch.dryRun,
      })
      return outcome.kind === 'busy' && item.tries < TRIES_MAX ? null : resultOfOutcome(outcome)
    } catch (error) {
      log.error({ event: 'batch_item_failed', traceId: item.traceId, orderId: item.orderId.toString(), err: error })
      // The commit's answer may be what was lost: the next try looks for it first. A dry run commits nothing.
      return batch.dryRun || item.tries > TRIES_MAX ? 'failed' : null
    }
  }

  return syncItem
}

function resultOfOutcome(outcome: SyncOutcome): BatchResult {
  switch (outcome.kind) {
    case 'synced':
      return RESULT_OF_ACTION[outcome.decision.action]
    case 'mismatch':
    case 'busy':
      return outcome.kind
    case 'gateway_unknown':
      return 'unknown'
    case 'no_channel':
    case 'channel_not_configured':
    case 'not_found':
      return 'gone'
  }
}

function resultOfRecord({ outcome, decision }: CommittedItem): BatchResult {
  return outcome === 'synced' ? RESULT_OF_ACTION[decision as Action] : outcome
}
