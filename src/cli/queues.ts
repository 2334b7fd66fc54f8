import { EXCEPTION_KINDS } from '../domain/decide.js'
import { PAGE_MAX, pageOf } from '../http/ops/page.js'
import { exceptionView, NOTE_LENGTH_MAX, noteSchema, noticeView } from '../http/ops/record-schema.js'
import { EXCEPTION_STATES } from '../store/exceptions.js'
import { NOTICE_STATES, type Notices } from '../store/notices.js'
import { type Acting, actorName, CommandFailed, Misused, type Output, show, table, yuan } from './output.js'
import { createProgress } from './progress.js'
import { withService } from './run.js'

export type PageOptions = Readonly<{ before?: string; limit?: string }>

/** Rows that one command shows unless it is told otherwise. */
const ROWS_DEFAULT = 50
/** What can be sent again all at once. Delivered ones only by name: merchants have them. Superseded ones not at all. */
const UNDELIVERED = ['pending', 'dead'] as const

function oneOf<T extends string>(values: readonly T[], given: string | undefined, name: string): T | null {
  const found = values.find((value) => value === given)
  if (given !== undefined && found === undefined) throw new Misused(`--${name} is one of ${values.join(', ')}.`)
  return found ?? null
}

function idOf(text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new Misused(`${text} is not a number.`)
  return BigInt(text)
}

/** Which page is asked for: the newest rows, or those before one. */
export function pageAsked({ before, limit = String(ROWS_DEFAULT) }: PageOptions) {
  if (!/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > PAGE_MAX)
    throw new Misused(`--limit is a whole number from 1 to ${PAGE_MAX}.`)
  return { beforeId: before === undefined ? null : idOf(before), limit: Number(limit) }
}

/** A page for people, and how to see the next one. */
export function withMore({ nextCursor }: Readonly<{ nextCursor: string | null }>, text: string): string {
  return nextCursor === null ? text : `${text}\nThere are more: --before ${nextCursor}`
}

export async function listExceptions(
  options: Output & PageOptions & Readonly<{ state?: string; kind?: string }>,
): Promise<void> {
  const state = oneOf(EXCEPTION_STATES, options.state ?? 'open', 'state')
  const kind = oneOf(EXCEPTION_KINDS, options.kind, 'kind')
  const { beforeId, limit } = pageAsked(options)
  await withService(async ({ operations }) => {
    const rows = await operations.exceptions.list({ state, kind, beforeId, limit: limit + 1 })
    const page = pageOf(rows, limit, exceptionView)
    show(options, page, () =>
      withMore(
        page,
        table(
          ['id', 'order', 'kind', 'state', 'at risk, yuan', 'seen', 'opened', 'resolved by', 'note'],
          page.items.map((item) => [
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
      ),
    )
  })
}

export async function resolveException(id: string, note: string, options: Output & Acting): Promise<void> {
  const row = idOf(id)
  const actor = actorName(options)
  const reason = noteSchema.safeParse(note)
  if (!reason.success) throw new Misused(`The note says why, in at most ${NOTE_LENGTH_MAX} characters.`)
  await withService(async ({ operations }) => {
    const outcome = await operations.exceptions.resolve(row, actor, reason.data, new Date())
    if (outcome.kind === 'not_found') throw new CommandFailed(`There is no exception ${id}.`)
    if (outcome.kind === 'already_resolved')
      throw new CommandFailed(`Exception ${id} was resolved by ${outcome.row.resolvedBy ?? 'somebody'} already.`)
    show(options, exceptionView(outcome.row), () => `Exception ${id} is resolved.`)
  })
}

export async function listNotices(options: Output & PageOptions & Readonly<{ state?: string }>): Promise<void> {
  const state = oneOf(NOTICE_STATES, options.state, 'state')
  const { beforeId, limit } = pageAsked(options)
  await withService(async ({ operations }) => {
    const page = pageOf(await operations.notices.list({ state, beforeId, limit: limit + 1 }), limit, noticeView)
    show(options, page, () =>
      withMore(
        page,
        table(
          ['id', 'order', 'state', 'sends', 'last answer', 'next', 'url'],
          page.items.map((item) => [
            item.id,
            item.paymentId,
            item.state,
            item.attempts,
            item.history[0]?.outcome,
            item.nextAttemptTime,
            item.url,
          ]),
        ),
      ),
    )
  })
}

/**
 * Makes notices due now: the named ones, or every one of a state as it is when the command begins. One that cannot be sent
 * stops none of the others.
 */
export async function redeliver(ids: readonly string[], options: Output & Readonly<{ state?: string }>): Promise<void> {
  const state = oneOf(UNDELIVERED, options.state, 'state')
  const named = ids.map(idOf)
  if (named.length > 0 === (state !== null)) throw new Misused('Name notices by their ids, or all of one --state.')
  await withService(async ({ operations: { notices } }) => {
    const redelivered: string[] = []
    const problems: string[] = []
    for (const id of named) {
      const { kind } = await notices.redeliver(id)
      if (kind === 'redelivered') redelivered.push(id.toString())
      else problems.push(NOT_SENT[kind](id))
    }
    if (state !== null) redelivered.push(...(await redeliverAll(notices, state, options)))
    show(options, { redelivered }, () => redeliveredText(redelivered))
    if (problems.length > 0) throw new CommandFailed(problems.join('\n'))
  })
}

const NOT_SENT = {
  not_found: (id: bigint) => `There is no notice ${id}.`,
  outdated: (id: bigint) => `Notice ${id} tells a state that is over: a newer notice of the same order exists.`,
} as const

async function redeliverAll(notices: Notices, state: (typeof UNDELIVERED)[number], output: Output): Promise<string[]> {
  const progress = createProgress(output, 'redeliver', null)
  const redelivered: string[] = []
  let beforeId: bigint | null = null
  try {
    for (;;) {
      const rows: readonly { id: bigint }[] = await notices.list({ state, beforeId, limit: PAGE_MAX })
      for (const { id } of rows) {
        // One that was superseded since the list was read is passed over.
        if ((await notices.redeliver(id)).kind === 'redelivered') redelivered.push(id.toString())
        progress.at(redelivered.length, `${redelivered.length} due`)
      }
      if (rows.length < PAGE_MAX) return redelivered
      beforeId = rows.at(-1)?.id ?? null
    }
  } finally {
    progress.end()
  }
}

function redeliveredText(redelivered: readonly string[]): string {
  if (redelivered.length === 0) return 'No notice was made due.'
  return redelivered.length === 1
    ? `Notice ${redelivered[0]} is due now; a running courier sends it.`
    : `${redelivered.length} notices are due now; a running courier sends them.`
}
