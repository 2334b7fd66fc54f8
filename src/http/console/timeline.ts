import type { OrderHistory } from '../../store/records.js'
import { jsonText, moneyFor } from './format.js'
import type { Language, Words } from './words.js'

/** One thing that happened to an order. `codes` are put into the page's language; `lines` stay as they are. */
export type StoryEvent = Readonly<{
  kind: 'created' | 'synced' | 'repaired' | 'notice' | 'exception'
  at: Date
  codes: readonly string[]
  lines: readonly string[]
  evidence: readonly Readonly<{ id: string; summary: string | null; text: string }>[]
  /** What an operator may do about it. */
  action: Readonly<{ word: keyof Words; href: string }> | null
}>

const PLAIN = { evidence: [], action: null } as const

/** Everything that happened, newest first. What happened in one commit stands in the order of its causes. */
export function storyOf(history: OrderHistory, language: Language): readonly StoryEvent[] {
  const events: StoryEvent[] = [
    ...history.notices.flatMap((notice, index) => noticeEvents(notice, index === 0)),
    ...history.exceptions.flatMap((exception) => exceptionEvents(exception, language)),
    ...history.repairs.map((repair) => repairEvent(repair, history.currency, language)),
    ...history.syncs.map(syncEvent),
    {
      ...PLAIN,
      kind: 'created',
      at: history.createdAt,
      codes: [],
      lines: [moneyFor(language, history.amountFen, history.currency), history.businessNo],
    },
  ]
  return events.sort((a, b) => b.at.getTime() - a.at.getTime())
}

function syncEvent(sync: OrderHistory['syncs'][number]): StoryEvent {
  const exchanges: readonly unknown[] = Array.isArray(sync.exchanges) ? sync.exchanges : []
  return {
    ...PLAIN,
    kind: 'synced',
    at: sync.createdAt,
    codes: [
      `by_${sync.source}`,
      sync.outcome,
      sync.gatewayStatus,
      ...(sync.outcome === 'synced' ? [sync.decision] : []),
    ],
    lines: [
      ...(sync.errorMsg === null ? [] : [sync.errorMsg]),
      ...(sync.actor === null ? [] : [sync.actor]),
      `traceId ${sync.traceId}`,
      `${sync.durationMs} ms`,
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

function repairEvent(repair: OrderHistory['repairs'][number], currency: string, language: Language): StoryEvent {
  return {
    ...PLAIN,
    kind: 'repaired',
    at: repair.createdAt,
    codes: [repair.statusBefore, repair.statusAfter, repair.way],
    lines: [
      moneyFor(language, repair.amountFen, currency),
      `#${repair.repairNo}`,
      ...(repair.actor === null ? [] : [repair.actor]),
    ],
  }
}

function exceptionEvents(exception: OrderHistory['exceptions'][number], language: Language): StoryEvent[] {
  const opened: StoryEvent = {
    kind: 'exception',
    at: exception.openedAt,
    codes: [exception.kind, ...(exception.state === 'open' ? ['open'] : [])],
    lines: [moneyFor(language, exception.atRiskFen)],
    evidence: [{ id: `exception-${exception.id}`, summary: null, text: jsonText(exception.evidence) }],
    action:
      exception.state === 'open' ? { word: 'resolve', href: `/console/exceptions/${exception.id}/resolve` } : null,
  }
  if (exception.resolvedAt === null) return [opened]
  const lines = [exception.resolvedBy ?? '', exception.note ?? '']
  const resolved: StoryEvent = {
    ...PLAIN,
    kind: 'exception',
    at: exception.resolvedAt,
    codes: [exception.kind, 'resolved'],
    lines,
  }
  return [resolved, opened]
}

/** Only an order's newest notice can be sent again: an older one tells a state that is over. */
function noticeEvents(notice: OrderHistory['notices'][number], isNewest: boolean): StoryEvent[] {
  const sends = notice.history.map(
    (attempt): StoryEvent => ({
      ...PLAIN,
      kind: 'notice',
      at: attempt.createdAt,
      codes: [attempt.outcome],
      lines: [
        ...(attempt.httpStatus === null ? [] : [`HTTP ${attempt.httpStatus}`]),
        attempt.excerpt,
        `${attempt.durationMs} ms`,
      ],
    }),
  )
  const payload = { id: `notice-${notice.id}`, summary: notice.url, text: jsonText(notice.payload) }
  const written: StoryEvent = {
    kind: 'notice',
    at: notice.createdAt,
    codes: ['written', ...(notice.state === 'dead' || notice.state === 'superseded' ? [notice.state] : [])],
    lines: [],
    evidence: [payload],
    action: isNewest ? { word: 'redeliver', href: `/console/notices/${notice.id}/redeliver` } : null,
  }
  return [...sends, written]
}
