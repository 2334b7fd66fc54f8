import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'

import { PrismaClient } from '../src/generated/prisma/client.js'
import { type Spread, spreadOf } from './compare.js'

/** How long a piece of work took, and the plans of its statements as the server ran them the last time. */
export type Explained = Readonly<{ ms: Spread; plan: string; shape: string }>

const AUTO_EXPLAIN = [
  'session_preload_libraries=auto_explain',
  'auto_explain.log_min_duration=0',
  'auto_explain.log_analyze=on',
  'auto_explain.log_timing=off',
  'client_min_messages=log',
]
const PLAN = /^duration: .*? plan:\n/

/** One connection whose server tells the plan of each statement, whoever makes it: the service's own code, or Prisma. */
export function explainingPool(url: string) {
  const plans: string[] = []
  const options = AUTO_EXPLAIN.map((setting) => `-c ${setting}`).join(' ')
  const pool = new pg.Pool({ connectionString: url, max: 1, options })
  pool.on('connect', (client) => {
    client.on('notice', ({ message = '' }) => {
      if (PLAN.test(message)) plans.push(message.replace(PLAN, ''))
    })
  })
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool) })

  async function explain(times: number, work: () => Promise<unknown>): Promise<Explained> {
    const took: number[] = []
    for (let time = 0; time < times; time++) {
      plans.length = 0
      const startedMs = performance.now()
      await work()
      took.push(performance.now() - startedMs)
    }
    const plan = plans.map(withoutText).join('\n')
    return { ms: spreadOf(took), plan, shape: shapeOf(plan) }
  }

  return {
    pool,
    prisma,
    explain,
    async close(): Promise<void> {
      await prisma.$disconnect()
      if (!pool.ended) await pool.end()
    },
  }
}

/** The statement itself stands in the source; its plan begins with a line that names costs. */
function withoutText(told: string): string {
  const lines = told.split('\n')
  return lines
    .slice(
      Math.max(
        0,
        lines.findIndex((line) => line.includes('(cost=')),
      ),
    )
    .join('\n')
}

/** What is done and by which index; how much it cost and how many rows there were is left out. */
function shapeOf(plan: string): string {
  return plan
    .replaceAll(/\s*\(.*?\)(?=\n|$)/g, '')
    .replaceAll(/\n.*(?:Memory|Buffers|Batches|Heap Fetches|Removed|Searches|Cache|Storage|Workers).*(?=\n|$)/g, '')
}
