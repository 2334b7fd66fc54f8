import { describe, expect, it } from 'vitest'

import { createFigure } from '../../src/http/console/figure.js'

type Begun = Readonly<{ end: (value: number) => void; fail: (error: Error) => void }>

/** A count that ends when the test says so, and every time that it was begun. */
function slowCount() {
  const begun: Begun[] = []
  const count = async () => await new Promise<number>((end, fail) => begun.push({ end, fail }))
  return { begun, count }
}

describe('a figure', () => {
  it('is counted once for all who ask, and again once it is no longer fresh', async () => {
    let nowMs = 1_000
    let counted = 0
    const figure = createFigure(
      async () => {
        counted += 1
        return await Promise.resolve(counted)
      },
      () => nowMs,
    )
    const once = { value: 1, atMs: 1_000 }
    expect(await Promise.all([figure(), figure(), figure()])).toEqual([once, once, once])
    nowMs = 2_999
    expect(await figure()).toEqual(once)
    nowMs = 3_000
    expect(await figure()).toEqual({ value: 2, atMs: 3_000 })
    // Nor is it fresh for ever where the clock was set back.
    nowMs = 2_500
    expect(await figure()).toEqual({ value: 3, atMs: 2_500 })
  })

  it('keeps nobody waiting: not known yet, or as it was before, while the count goes on', async () => {
    let nowMs = 0
    const { begun, count } = slowCount()
    const figure = createFigure(count, () => nowMs)
    const startedMs = performance.now()
    expect(await figure()).toBeNull()
    expect(await figure()).toBeNull()
    expect(performance.now() - startedMs).toBeLessThan(1_000)
    expect(begun).toHaveLength(1)
    begun[0]?.end(7)
    expect(await figure()).toEqual({ value: 7, atMs: 0 })
    nowMs = 5_000
    expect(await figure()).toEqual({ value: 7, atMs: 0 })
    expect(begun).toHaveLength(2)
  })

  it('that cannot be counted says so to who waits, and the next one counts anew', async () => {
    const { begun, count } = slowCount()
    const figure = createFigure(count, () => 0)
    const asked = figure()
    begun[0]?.fail(new Error('the database is away'))
    await expect(asked).rejects.toThrow('away')
    const again = figure()
    begun[1]?.end(3)
    expect(await again).toEqual({ value: 3, atMs: 0 })
  })

  it('that fails when nobody waits any more harms nobody', async () => {
    const { begun, count } = slowCount()
    const figure = createFigure(count, () => 0)
    expect(await figure()).toBeNull()
    begun[0]?.fail(new Error('too late'))
    await new Promise((done) => setImmediate(done))
    const again = figure()
    begun[1]?.end(1)
    await expect(again).resolves.toEqual({ value: 1, atMs: 0 })
  })
})
