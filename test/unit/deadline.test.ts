import { afterEach, beforeEach, expect, it, vi } from 'vitest'

import { createDeadline } from '../../src/gateways/deadline.js'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

it('tells who listens once, in the order of asking, when its time has passed', () => {
  const deadline = createDeadline(1_000)
  const told: string[] = []
  deadline.onOver(() => told.push('first'))
  deadline.onOver(() => told.push('second'))
  vi.advanceTimersByTime(999)
  expect(deadline.isOver()).toBe(false)
  expect(told).toEqual([])
  vi.advanceTimersByTime(1)
  expect(deadline.isOver()).toBe(true)
  deadline.end()
  expect(told).toEqual(['first', 'second'])
})

it('tells nobody who took it back, even while it tells, nor who asks afterwards', () => {
  const deadline = createDeadline(1_000)
  const told: string[] = []
  const second = () => told.push('second')
  const third = () => told.push('third')
  deadline.onOver(() => deadline.off(second))
  deadline.onOver(second)
  deadline.onOver(third)
  deadline.off(third)
  deadline.end()
  deadline.onOver(third)
  vi.advanceTimersByTime(2_000)
  expect(told).toEqual([])
})

it('is over at once where it is ended, and keeps no timer', () => {
  const deadline = createDeadline(1_000)
  deadline.end()
  expect(deadline.isOver()).toBe(true)
  expect(vi.getTimerCount()).toBe(0)
})

it('cleared, it is never over and keeps no timer', () => {
  const deadline = createDeadline(1_000)
  deadline.clear()
  expect(vi.getTimerCount()).toBe(0)
  vi.advanceTimersByTime(2_000)
  expect(deadline.isOver()).toBe(false)
})
