import { expect, it } from 'vitest'

import type { Order, OrderId } from '../../src/domain/order.js'
import { createUnderWay } from '../../src/sync/under-way.js'

const ORDER = { id: 7n as OrderId, businessNo: '7' } as Order
const KEYS = [{ id: ORDER.id }, { businessNo: ORDER.businessNo }]

let nowMs = 1000
const underWay = createUnderWay(() => nowMs)
const known = () => KEYS.map((key) => underWay.find(key))

it('knows a sync by the id of its order and by its number, until it ends', () => {
  expect(known()).toEqual([null, null])
  const end = underWay.begin(ORDER, 2000)
  expect(known()).toEqual([ORDER, ORDER])
  expect(underWay.find({ id: 8n as OrderId })).toBeNull()
  // A merchant's number may read as another order's id.
  expect(underWay.find({ businessNo: '8' })).toBeNull()
  end()
  expect(known()).toEqual([null, null])
})

it('leaves it to the database once the lease is over, and one that ends late takes nothing from the next', () => {
  nowMs = 1000
  const endLate = underWay.begin(ORDER, 2000)
  nowMs = 2000
  expect(known()).toEqual([null, null])
  const end = underWay.begin(ORDER, 3000)
  endLate()
  expect(known()).toEqual([ORDER, ORDER])
  end()
  expect(known()).toEqual([null, null])
})
