import { z } from 'zod'

/** What can be made to go wrong with one call. */
export const FAULT_NAMES = [
  // The connection: the call is carried out, its answer is late, lost or damaged.
  'delay',
  'hang',
  'reset',
  'cut',
  'wrong_length',
  // Something in front of the gateway answers; the call is not carried out.
  'html502',
  'redirect',
  'primary_down',
  // The gateway refuses; the call is not carried out.
  'rate_limit',
  'rate_limit_unsigned',
  'system_error',
  'system_error_unsigned',
  'not_exist',
  'not_exist_unsigned',
  'recall',
  'error',
  // The signature.
  'unsigned',
  'empty_sign',
  'tampered',
  'stale',
  'unknown_serial',
  'signtest',
  // The content, correctly signed.
  'wrong_amount',
  'wrong_currency',
  'wrong_merchant',
  'wrong_app',
  'wrong_order',
  'unknown_state',
  'missing_fields',
  'duplicate_key',
  // The shape of the body, correctly signed where the gateway signs whole bodies.
  'empty',
  'bad_json',
  'deep',
  'huge',
  'doctype',
] as const
export type FaultName = (typeof FAULT_NAMES)[number]

/** The calls a fault can be laid on. `any` means any call about a trade, so not `certificates`. */
export const CALL_KINDS = ['query', 'close', 'reverse', 'refund_query', 'certificates'] as const
export type CallKind = (typeof CALL_KINDS)[number]

const faultSchema = z.strictObject({
  fault: z.enum(FAULT_NAMES),
  on: z.enum([...CALL_KINDS, 'any']).default('any'),
  /** How many calls it strikes before it is used up. */
  times: z.int().min(1).default(1),
  /** Waits this long before answering; of `hang`, drops the connection after it; of `primary_down`, how long. */
  ms: z.int().min(0).max(600_000).optional(),
  /** Strikes only calls about this order. */
  outTradeNo: z.string().optional(),
  /** Whether the gateway still does what it was asked (close, reverse) although the answer goes wrong. */
  performed: z.boolean().optional(),
  /** Strikes each matching call with this probability, drawn from the sandbox's seed. */
  rate: z.number().gt(0).lte(1).default(1),
  /** Of `error`: any other refusal, in the gateway's own codes. Of WeChat Pay's `recall`: SUCCESS, or a refusal. */
  status: z.int().min(200).max(599).optional(),
  code: z.string().optional(),
  subCode: z.string().optional(),
  message: z.string().optional(),
  signed: z.boolean().optional(),
})
export const faultsSchema = z.array(faultSchema).max(10_000)

export type FaultInput = z.input<typeof faultSchema>
export type Fault = z.output<typeof faultSchema>

const REFUSALS: ReadonlySet<FaultName> = new Set([
  'html502',
  'redirect',
  'rate_limit',
  'rate_limit_unsigned',
  'system_error',
  'system_error_unsigned',
  'not_exist',
  'not_exist_unsigned',
  'recall',
  'error',
])

/** Whether the call is carried out under this fault; as scripted, else as such a failure would usually have it. */
export function isPerformed(fault: Fault | undefined): boolean {
  return fault?.performed ?? !(fault !== undefined && REFUSALS.has(fault.fault))
}

/** mulberry32: small, fast, and the same sequence for the same seed on every machine. */
function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The faults still to be played, first come first served; one per call. */
export function createFaultScript(seed: number) {
  const random = seededRandom(seed)
  let pending: { fault: Fault; left: number }[] = []
  return {
    /** Throws (ZodError) on a fault that does not exist. */
    add(inputs: readonly FaultInput[]): readonly Fault[] {
      const faults = faultsSchema.parse(inputs)
      pending.push(...faults.map((fault) => ({ fault, left: fault.times })))
      return faults
    },
    take(kind: CallKind, outTradeNo: string | null): Fault | undefined {
      const index = pending.findIndex(({ fault }) => {
        const onThisCall = fault.on === kind || (fault.on === 'any' && kind !== 'certificates')
        const onThisOrder = fault.outTradeNo === undefined || fault.outTradeNo === outTradeNo
        return onThisCall && onThisOrder && (fault.rate === 1 || random() < fault.rate)
      })
      const entry = pending[index]
      if (entry === undefined) {
        return undefined
      }
      entry.left -= 1
      if (entry.left === 0) {
        pending.splice(index, 1)
      }
      return entry.fault
    },
    pending: (): readonly Fault[] => pending.map(({ fault, left }) => ({ ...fault, times: left })),
    clear(): void {
      pending = []
    },
  }
}
export type FaultScript = ReturnType<typeof createFaultScript>
