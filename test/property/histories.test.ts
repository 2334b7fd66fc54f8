import { it } from 'vitest'

import { liveHistories } from '../support/histories.js'

it('60 random histories: every invariant holds after each step', async () => {
  await liveHistories(60, 12)
}, 120_000)
