import { EXCEPTION_KINDS } from '../domain/decide.js'
import { exceptionView, noticeView } from '../http/ops/record-schema.js'
import { EXCEPTION_STATES } from '../store/exceptions.js'
import { NOTICE_STATES } from '../store/notices.js'
import { actorName, CommandFailed, Misused, type Output, show, table, withService, yuan } from './run.js'

/** Rows that one command shows: the newest ones. The routes have pages. */
const ROWS_MAX = 200

function oneOf<T extends string>(values: readonly T[], given: string | undefined, name: string): T | null {
  const found = values.find((value) => value === given)
  if (given !== undefined && found === undefined) throw new Misused(`--${name} is one of ${values.join(', ')}.`)
  return found ?? null
}

function idOf(text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new Misused(`${text} is not a number.`)
  return BigInt(text)
}

export async function listExceptions(options: Output & Readonly<{ state?: string; kind?: string }>): Promise<void> {
  const state = oneOf(EXCEPTION_STATES, options.state ?? 'open', 'state')
  const kind = oneOf(EXCEPTION_KINDS, options.kind, 'kind')
  await withService(async ({ operations }) => {
    const rows = await operations.exceptions.list({ state, kind, beforeId: null, limit: ROWS_MAX })
    const items = rows.map(exceptionView)
    show(options, { items }, () =>
      table(
        ['id', 'order', 'kind', 'state', 'at risk, yuan', 'seen', 'opened', 'resolved by', 'note'],
        items.map((item) => [
          item.id,
          item.paymentId,
          item.kind,
          item.state,
          yuan(item.atRisk),
          item.seenCount,
          item.openTime,
          item.resolvedBy,
          item.note,
        ]),
      ),
    )
  })
}

export async function resolveException(id: string, note: string, output: Output): Promise<void> {
  const row = idOf(id)
  await withService(async ({ operations }) => {
    const outcome = await operations.exceptions.resolve(row, actorName(), note.slice(0, 1000), new Date())
    if (outcome.kind !== 'resolved') throw new CommandFailed(`Exception ${id}: ${outcome.kind}.`)
    show(output, exceptionView(outcome.row), () => `Exception ${id} is resolved.`)
  })
}

export async function listNotices(options: Output & Readonly<{ state?: string }>): Promise<void> {
  const state = oneOf(NOTICE_STATES, options.state, 'state')
  await withService(async ({ operations }) => {
    const items = (await operations.notices.list({ state, beforeId: null, limit: ROWS_MAX })).map(noticeView)
    show(options, { items }, () =>
      table(
        ['id', 'order', 'state', 'sends', 'last answer', 'next', 'url'],
        items.map((item) => [
          item.id,
          item.paymentId,
          item.state,
          item.attempts,
          item.history[0]?.outcome,
          item.nextAttemptTime,
          item.url,
        ]),
      ),
    )
  })
}

export async function redeliver(id: string, output: Output): Promise<void> {
  const row = idOf(id)
  await withService(async ({ operations, log }) => {
    const notice = await operations.notices.redeliver(row, new Date())
    if (notice === null) throw new CommandFailed(`There is no notice ${id}.`)
    log.info({ event: 'notice_redelivered', operator: actorName(), noticeId: id, orderId: notice.orderId.toString() })
    show(output, noticeView(notice), () => `Notice ${id} is due now; a running courier sends it.`)
  })
}
