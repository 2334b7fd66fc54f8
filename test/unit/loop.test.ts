import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { createPlaces } from '../../src/loop.js'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** Four places, of which two are a few, with as much work under way. */
function places(busy: number) {
  const all = createPlaces(4, 2)
  const ends = Array.from({ length: busy }, () => {
    let end = (): void => undefined
    all.occupy(
      new Promise((resolve) => {
        end = resolve
      }),
    )
    return end
  })
  let hasRoom = false
  void all.room().then(() => {
    hasRoom = true
  })
  const passes = async (ms: number) => await vi.advanceTimersByTimeAsync(ms)
  return { all, ends, passes, hasRoom: () => hasRoom }
}

describe('room for more work', () => {
  it('is there at once where nothing is under way', async () => {
    const { passes, hasRoom } = places(0)
    await passes(0)
    expect(hasRoom()).toBe(true)
  })

  it('comes with the few places that were freed, not with each', async () => {
    const { ends, passes, hasRoom } = places(4)
    ends[0]?.()
    await passes(99)
    expect(hasRoom()).toBe(false)
    ends[1]?.()
    await passes(0)
    expect(hasRoom()).toBe(true)
  })

  it('comes a moment later with what is free, be it one place that was freed or those that nobody took', async () => {
    for (const { busy, ending } of [
      { busy: 4, ending: 1 },
      { busy: 2, ending: 0 },
    ]) {
      const { ends, passes, hasRoom } = places(busy)
      for (const end of ends.slice(0, ending)) end()
      await passes(99)
      expect(hasRoom()).toBe(false)
      await passes(1)
      expect(hasRoom()).toBe(true)
    }
  })

  it('comes with the first place that is free where that takes longer', async () => {
    const { all, ends, passes, hasRoom } = places(4)
    await passes(10_000)
    expect(hasRoom()).toBe(false)
    ends[2]?.()
    await passes(0)
    expect(hasRoom()).toBe(true)
    expect(all.left()).toBe(1)
  })

  it('comes with the last work that ends, though fewer than a few were freed', async () => {
    const { ends, passes, hasRoom } = places(1)
    ends[0]?.()
    await passes(0)
    expect(hasRoom()).toBe(true)
  })

  it('comes to all who wait for it', async () => {
    const { all, ends, passes, hasRoom } = places(4)
    let isThereToo = false
    void all.room().then(() => {
      isThereToo = true
    })
    for (const end of ends.slice(0, 2)) end()
    await passes(0)
    expect([hasRoom(), isThereToo]).toEqual([true, true])
  })

  it('is asked for anew each time', async () => {
    const { all, ends, passes } = places(4)
    for (const end of ends.slice(0, 2)) end()
    await passes(0)
    let again = false
    void all.room().then(() => {
      again = true
    })
    await passes(99)
    expect(again).toBe(false)
    await passes(1)
    expect(again).toBe(true)
  })
})
