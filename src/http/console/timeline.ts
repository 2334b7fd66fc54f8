import type { OrderHistory } from '../../store/records.js'
import { jsonText, moneyText } from './format.js'

/** One thing that happened to an order. `words` are codes that the page puts into its language; `lines` stay as they are. */
export type StoryEvent = Readonly<{
  kind: 'created' | 'synced' | 'repaired' | 'notice' | 'exception'
  at: Date
  words: readonly string[]
  lines: readonly string[]
  evidence: readonly Readonly<{ id: string; summary: string; text: string }>[]
}>

/** Everything that happened, newest first. What happened in one commit stands in the order of its causes. */
export function storyOf(history: OrderHistory): readonly StoryEvent[] {
  const events: StoryEvent[] = [
    ...history.notices.flatMap(noticeEvents),
    ...history.exceptions.flatMap(exceptionEvents),
    ...history.repairs.map(repairEvent),
    ...history.syncs.map(syncEvent),
    {
      kind: 'created',
      at: history.createdAt,
      words: [],
      lines: [moneyText(history.amountFen, history.currency), history.businessNo],
      evidence: [],
    },
  ]
  return events.sort((a, b) => b.at.getTime() - a.at.getTime())
}

function syncEvent(sync: OrderHistory['syncs'][number]): StoryEvent {
  const exchanges: readonly unknown[] = Array.isArray(sync.exchanges) ? sync.exchanges : []
  return {
    kind: 'synced',
    at: sync.createdAt,
    words: [`by_${sync.source}`, sync.outcome, sync.gatewayStatus, sync.decision],
    lines: [
      ...(sync.actor === null ? [] : [sync.actor]),
      `traceId ${sync.traceId}`,
      `${sync.durationMs} ms`,
      ...(sync.errorMsg === null ? [] : [sync.errorMsg]),
    ],
    evidence: exchanges.map((exchange, index) => ({
      id: `sync-${sync.id}-${index}`,
      summary: exchangeSummary(exchange),
      text: exchangeText(exchange),
    })),
  }
}

function exchangeSummary(exchange: unknown): string {
  const { method, host, status, durationMs } = exchange as Record<string, unknown>
  return `${String(method)} ${String(host)} → ${typeof status === 'number' ? status : '–'}, ${String(durationMs)} ms`
}

/** The exchange with its answer's body as it came (masked), below the rest. */
function exchangeText(exchange: unknown): string {
  const { body, ...rest } = exchange as Record<string, unknown>
  return `${jsonText(rest)}\n\n${typeof body === 'string' ? body : jsonText(body)}`
}

function repairEvent(repair: OrderHistory['repairs'][number]): StoryEvent {
  return {
    kind: 'repaired',
    at: repair.createdAt,
    words: [repair.statusBefore, repair.statusAfter, repair.way],
    lines: [moneyText(repair.amountFen), `#${repair.repairNo}`, ...(repair.actor === null ? [] : [repair.actor])],
    evidence: [],
  }
}

function exceptionEvents(exception: OrderHistory['exceptions'][number]): StoryEvent[] {
  const opened: StoryEvent = {
    kind: 'exception',
    at: exception.openedAt,
    words: [exception.kind, 'open'],
    lines: [moneyText(exception.atRiskFen)],
    evidence: [{ id: `exception-${exception.id}`, summary: exception.kind, text: jsonText(exception.evidence) }],
  }
  if (exception.resolvedAt === null) return [opened]
  const lines = [exception.resolvedBy ?? '', exception.note ?? '']
  return [
    { kind: 'exception', at: exception.resolvedAt, words: [exception.kind, 'resolved'], lines, evidence: [] },
    opened,
  ]
}

function noticeEvents(notice: OrderHistory['notices'][number]): StoryEvent[] {
  const sends = notice.history.map(
    (attempt): StoryEvent => ({
      kind: 'notice',
      at: attempt.createdAt,
      words: [attempt.outcome],
      lines: [`${attempt.httpStatus ?? '–'}`, attempt.excerpt, `${attempt.durationMs} ms`],
      evidence: [],
    }),
  )
  const payload = { id: `notice-${notice.id}`, summary: notice.url, text: jsonText(notice.payload) }
  return [...sends, { kind: 'notice', at: notice.createdAt, words: ['written'], lines: [], evidence: [payload] }]
}
