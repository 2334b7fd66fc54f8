/** One request that reached the gateway, and what the gateway thought of it. */
export type RequestRecord = Readonly<{
  /** RFC 3339, by the sandbox's clock. */
  at: string
  method: string
  target: string
  operation: string
  outTradeNo: string | null
  /** `valid`, or in which way the request was not what the gateway accepts. */
  verdict: string
  signature: 'valid' | 'invalid'
  fault: string | null
  status: number
  body: string
}>

// Tests and people look at the latest; a load test sends many more than anybody reads.
const RECORDS_MAX = 20_000
const BODY_CHARS_MAX = 4096

export function createRequestLog(now: () => number) {
  let records: RequestRecord[] = []
  return {
    add(record: Omit<RequestRecord, 'at' | 'signature' | 'body'> & { body: Buffer }): void {
      if (records.length >= RECORDS_MAX) {
        records = records.slice(RECORDS_MAX / 2)
      }
      records.push({
        ...record,
        at: new Date(now()).toISOString(),
        signature: record.verdict === 'valid' ? 'valid' : 'invalid',
        body: record.body.toString('utf8').slice(0, BODY_CHARS_MAX),
      })
    },
    all: (): readonly RequestRecord[] => [...records],
    clear(): void {
      records = []
    },
  }
}
export type RequestLog = ReturnType<typeof createRequestLog>
