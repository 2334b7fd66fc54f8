import type { FastifyInstance } from 'fastify'

import type { GatewayAvailability } from '../../gateways/gateway.js'
import { AGE_SPANS, type Overview } from '../../store/overview.js'
import { createCurves } from './curves.js'
import type { Render } from './render.js'
import { visitOf } from './visit.js'

export type NowDeps = Readonly<{
  overview: Overview
  /** The channels served here, each with its breaker's state in this process. */
  channels: readonly Readonly<{ channel: string; availability: () => GatewayAvailability }>[]
  now: () => number
}>

/** What is wrong now, and how much money it touches. The curves come in a request of their own, so that this one is quick. */
export function registerNowPages(scope: FastifyInstance, render: Render, deps: NowDeps): void {
  const curves = createCurves(deps.overview, deps.now)

  async function liveView() {
    const [unsettled, findings, lag] = await Promise.all([
      deps.overview.unsettled(),
      deps.overview.openFindings(),
      deps.overview.lag(),
    ])
    return {
      unsettled: unsettled.toSorted(
        (a, b) =>
          (a.channel ?? '').localeCompare(b.channel ?? '') || AGE_SPANS.indexOf(a.age) - AGE_SPANS.indexOf(b.age),
      ),
      totalFen: unsettled.reduce((sum, { amountFen }) => sum + amountFen, 0n),
      findings,
      noticeLagS: lag.noticeS,
      channels: deps.channels.map(({ channel, availability }) => ({
        channel,
        breaker: availability(),
        lagS: lag.channels.find((row) => row.channel === channel)?.lagS ?? null,
      })),
    }
  }

  scope.get('/', async (request, reply) => await render.page(request, reply, 'now', await liveView()))
  scope.get('/live', async (request, reply) => await render.page(request, reply, 'live', await liveView()))
  scope.get('/curves', async (request, reply) => {
    return await reply.send(await curves(visitOf(request).language))
  })
}
