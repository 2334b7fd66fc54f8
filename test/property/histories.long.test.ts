import { it } from 'vitest'

import { liveHistories } from '../support/histories.js'

it('2,000 random histories: every invariant holds after each step', async () => {
  await liveHistories(2000, 50)
})
