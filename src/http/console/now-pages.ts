import type { FastifyInstance, FastifyRequest } from 'fastify'

import type { GatewayAvailability } from '../../gateways/gateway.js'
import { AGE_SPANS, type Lag, type OpenFindings, type Overview, type Unsettled } from '../../store/overview.js'
import type { Tone } from './codes.js'
import { createCurves } from './curves.js'
import { createFigure } from './figure.js'
import { moneyFor, waitFor } from './format.js'
import type { Render } from './render.js'
import { type Visit, visitOf } from './visit.js'
import { wordOf } from './words.js'

export type NowDeps = Readonly<{
  overview: Overview
  /** The channels served here, each with its breaker's state in this process. */
  channels: readonly Readonly<{ channel: string; availability: () => GatewayAvailability }>[]
  now: () => number
}>

/** Work is begun within a second of being due, and a restart takes less than a minute: past this, something is wrong. */
const LAG_S_MAX = 300

type ChannelLine = Readonly<{ channel: string; breaker: GatewayAvailability; lagS: number | null }>
type Alarm = Readonly<{ tone: Tone; name: string; value: string; href: string | null }>

/** What is wrong now, and how much money it touches. The curves come in a request of their own, so that this one is quick. */
export function registerNowPages(scope: FastifyInstance, render: Render, deps: NowDeps): void {
  const curves = createCurves(deps.overview, deps.now)
  const unsettledFigure = createFigure(deps.overview.unsettled, deps.now)
  const openWorkFigure = createFigure(deps.overview.openWork, deps.now)

  async function liveView(request: FastifyRequest) {
    const [unsettled, openWork, findings, lag] = await Promise.all([
      unsettledFigure(),
      openWorkFigure(),
      deps.overview.openFindings(),
      deps.overview.lag(),
    ])
    const channels = deps.channels.map(({ channel, availability }) => ({
      channel,
      breaker: availability(),
      lagS: lag.channels.find((row) => row.channel === channel)?.lagS ?? null,
    }))
    return {
      alarms: alarmsOf(visitOf(request), findings, channels, lag),
      unsettled: unsettled === null ? null : { ...tableOf(unsettled.value), at: new Date(unsettled.atMs) },
      findings,
      channels,
      noticeLagS: lag.noticeS,
      openWork: openWork?.value ?? null,
      isLate: (lagS: number | null) => lagS !== null && lagS > LAG_S_MAX,
    }
  }

  scope.get('/', async (request, reply) => await render.page(request, reply, 'now', await liveView(request)))
  scope.get('/live', async (request, reply) => await render.page(request, reply, 'live', await liveView(request)))
  scope.get('/curves', async (request, reply) => {
    return await reply.send(await curves(visitOf(request).language))
  })
}

/** What somebody who was just woken should look at first; nothing where all is well. */
function alarmsOf(
  { words, language }: Visit,
  findings: readonly OpenFindings[],
  channels: readonly ChannelLine[],
  lag: Lag,
): readonly Alarm[] {
  const word = (code: string) => wordOf(language, code)
  const atRiskFen = findings.reduce((sum, finding) => sum + finding.atRiskFen, 0n)
  const open = findings.reduce((sum, { count }) => sum + count, 0)
  const late = (name: string, lagS: number | null, href: string | null): Alarm[] =>
    lagS === null || lagS <= LAG_S_MAX ? [] : [{ tone: 'warn', name, value: waitFor(language, lagS), href }]
  return [
    ...(open === 0
      ? []
      : [
          {
            tone: 'bad' as const,
            name: words.openExceptions,
            value: `${open} · ${moneyFor(language, atRiskFen)}`,
            href: '/console/exceptions',
          },
        ]),
    ...channels.flatMap(({ channel, breaker, lagS }): Alarm[] => [
      ...(breaker === 'closed'
        ? []
        : [
            {
              tone: breaker === 'open' ? ('bad' as const) : ('warn' as const),
              name: `${word(channel)} · ${words.breaker}`,
              value: word(`breaker_${breaker}`),
              href: null,
            },
          ]),
      ...late(`${word(channel)} · ${words.sweeperLag}`, lagS, null),
    ]),
    ...late(words.noticeLag, lag.noticeS, '/console/notices?state=pending'),
  ]
}

type Cell = Readonly<{ orders: number; fen: bigint }>

/** Ages downward, channels across, and their totals. */
function tableOf(rows: readonly Unsettled[]) {
  const sum = (cells: readonly Unsettled[]): Cell => ({
    orders: cells.reduce((total, { orders }) => total + orders, 0),
    fen: cells.reduce((total, { amountFen }) => total + amountFen, 0n),
  })
  const channels = [...new Set(rows.map(({ channel }) => channel))].toSorted((a, b) => (b ?? '').localeCompare(a ?? ''))
  const cellsOf = (those: readonly Unsettled[]) =>
    channels.map((channel) => sum(those.filter((row) => row.channel === channel)))
  return {
    channels,
    ages: AGE_SPANS.map((age) => ({ age, cells: cellsOf(rows.filter((row) => row.age === age)) })).filter(({ cells }) =>
      cells.some(({ orders }) => orders > 0),
    ),
    totals: cellsOf(rows),
    total: sum(rows),
  }
}
