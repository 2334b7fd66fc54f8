/**
 * The page's own script: it draws the curves and asks for them again every 15 s. Everything else is htmx's work or plain
 * HTML. It is served as a file, since the page's policy allows no inline code.
 */
export const CLIENT_SCRIPT = String.raw`(() => {
  'use strict'
  const REFRESH_MS = 15000
  const HEIGHT_PX = 190
  const plots = new Map()

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
  const clock = (seconds) => new Date((seconds + 8 * 3600) * 1000).toISOString().slice(11, 16)

  // A minute between two of which nothing is known is no line: it is drawn as a point.
  const alone = (plot, index) => {
    const values = plot.data[index]
    return values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []))
  }

  function options(figure, curve, width) {
    const axis = { stroke: token('--muted'), grid: { stroke: token('--line'), width: 1 }, ticks: { stroke: token('--line') } }
    return {
      width, height: HEIGHT_PX, legend: { live: true }, cursor: { y: false }, padding: [8, 12, 0, 0],
      scales: { y: { range: (_, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map(clock), space: 60 }, { ...axis, size: 56 }],
      series: [
        { label: figure.dataset.timeLabel, value: (_, at) => (at == null ? '' : clock(at)) },
        ...curve.series.map((series) => ({
          label: series.label, stroke: token('--curve-' + (series.hue % 6)), width: 2, dash: series.isDashed ? [6, 3] : undefined,
          spanGaps: false, points: { show: true, size: 4, filter: alone },
        })),
      ],
    }
  }

  // What the curve says at its end and at its height, in words: for those who do not see it, or not well.
  function tell(figure, curve) {
    const parts = curve.series.map(({ label, values }) => {
      const known = values.filter((value) => value !== null)
      return known.length === 0 ? '' : label + ' ' + (values.at(-1) ?? '–') + ' (' + figure.dataset.peakLabel + ' ' + Math.max(...known) + ')'
    })
    figure.querySelector('[data-peaks]').textContent = parts.filter((part) => part !== '').join(', ')
  }

  function draw(figure, curve, minutes) {
    const host = figure.querySelector('.plot')
    tell(figure, curve)
    const known = plots.get(host)
    const rows = [minutes, ...curve.series.map((series) => series.values)]
    if (known !== undefined && known.series.length === rows.length) { known.setData(rows); return }
    known?.destroy()
    plots.set(host, new uPlot(options(figure, curve, host.clientWidth), rows, host))
    host.querySelector('canvas').setAttribute('aria-hidden', 'true')
    figure.dataset.drawn = 'yes'
  }

  async function refresh() {
    const figures = [...document.querySelectorAll('figure[data-curve]')]
    if (figures.length === 0) return
    try {
      const answer = await fetch('/console/curves', { credentials: 'same-origin', headers: { accept: 'application/json' } })
      if (answer.status === 401) { location.assign('/console/sign-in'); return }
      if (!answer.ok) return
      const { minutes, curves } = await answer.json()
      for (const figure of figures) draw(figure, curves[figure.dataset.curve], minutes)
    } catch { /* The service is away for a moment: the next round asks again. */ }
  }

  function redraw() {
    for (const plot of plots.values()) plot.destroy()
    plots.clear()
    void refresh()
  }

  let resizing
  addEventListener('resize', () => { clearTimeout(resizing); resizing = setTimeout(redraw, 200) })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw)
  setInterval(() => { if (!document.hidden) void refresh() }, REFRESH_MS)
  void refresh()
})()
`
