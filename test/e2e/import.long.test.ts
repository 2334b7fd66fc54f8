import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { CLI, commandSettings } from '../support/cli.js'
import { OPS_TOKEN, startService, type TestService } from '../support/service.js'
import { startServiceProcess } from '../support/service-process.js'

const ORDERS = 200_000
const BAD_EVERY = 1_000
const BAD = ORDERS / BAD_EVERY
const FIRST_ID = 1_800_000_000_000_000_000n
/** By the command; far from the others. */
const FIRST_COMMAND_ID = 1_900_000_000_000_000_000n
const GROWTH_BYTES_MAX = 50 * 1024 * 1024
const SAMPLE_MS = 50

let service: TestService
let folder: string
beforeAll(async () => {
  service = await startService()
  folder = await mkdtemp(path.join(tmpdir(), 'unipay-import-'))
})
afterAll(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

function* file(lines: number, firstId: bigint, badEvery = BAD_EVERY): Generator<string> {
  for (let index = 0; index < lines; index++) {
    const paymentId = (firstId + BigInt(index)).toString()
    yield index % badEvery === 0
      ? `{"paymentId":"${paymentId}"}\n`
      : `${JSON.stringify({ paymentId, businessNo: `L${paymentId}`, channel: 'wechat_pay', amount: index + 1, payWay: 'qr_code' })}\n`
  }
}

async function send(
  url: string,
  lines: number,
  firstId: bigint,
  badEvery = BAD_EVERY,
): Promise<Record<string, unknown>> {
  const response = await fetch(`${url}/ops/orders/import`, {
    method: 'POST',
    headers: { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': 'application/x-ndjson' },
    body: Readable.toWeb(Readable.from(file(lines, firstId, badEvery))) as ReadableStream,
    duplex: 'half',
  })
  return (await response.json()) as Record<string, unknown>
}

/** Orders from this id on, and the sum of their amounts. */
async function registered(firstId: bigint, lines: number) {
  const { rows } = await service.pool.query<{ count: number; fen: string }>(
    `SELECT count(*)::int AS count, sum(amount_fen)::text AS fen FROM orders WHERE id >= $1 AND id < $2`,
    [firstId.toString(), (firstId + BigInt(lines)).toString()],
  )
  return rows[0]
}

/** Line n is of n+1 fen, and every thousandth line is bad. */
const GOOD = {
  count: ORDERS - BAD,
  fen: String((ORDERS * (ORDERS + 1)) / 2 - (BAD_EVERY * BAD * (BAD - 1)) / 2 - BAD),
}

function tellGrowth(what: string, before: number, peak: number): void {
  const [from, to] = [before, peak].map((bytes) => (bytes / 1024 / 1024).toFixed(1))
  process.stdout.write(`import of ${ORDERS} ${what}: RSS grew from ${from} to ${to} MiB\n`)
}

/** V8 first collects when the heap reaches a size that depends on how busy the machine is. Here it is no small one. */
const LATE_FIRST_COLLECTION = '--initial-heap-size=256'

/** Whether this machine can give a command a terminal: `script`, of util-linux. */
const HAS_SCRIPT = spawnSync('script', ['--version']).error === undefined

/** The command, in a terminal where there is one to be had. What it shows comes back, and the process that is it. */
function importInTerminal(name: string): { child: ChildProcess; pid: () => number | undefined } {
  const terminal = { TERM: 'xterm', COLUMNS: '120' }
  const env = { PATH: process.env['PATH'] ?? '', ...terminal, ...commandSettings(service) }
  if (!HAS_SCRIPT) {
    const child = spawn(process.execPath, [LATE_FIRST_COLLECTION, CLI, 'import', name], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    return { child, pid: () => child.pid }
  }
  const command = `exec '${process.execPath}' ${LATE_FIRST_COLLECTION} '${CLI}' import '${name}'`
  const child = spawn('script', ['-qec', command, '/dev/null'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const pid = () => {
    try {
      return Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').split(' ')[0]) || undefined
    } catch {
      // It has ended.
      return undefined
    }
  }
  return { child, pid }
}

/** Resident bytes of a process; null where it has ended. */
function residentBytes(pid: number | undefined): number | null {
  try {
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return kib === undefined ? null : Number(kib) * 1024
  } catch {
    return null
  }
}

describe('importing 200,000 orders', () => {
  it('by the route, twice, and only bad ones: constant memory, every good one registered once, the bad ones listed', async () => {
    // A process of its own, so that neither the sender's memory nor the gateways' is counted; from its start on.
    const { pid, url, stop } = await startServiceProcess({
      ...commandSettings(service),
      OPS_TOKENS: `tester:${OPS_TOKEN}`,
      PORT: '0',
      ROLES: 'api',
    })
    const before = residentBytes(pid) ?? 0
    let peak = before
    const watch = setInterval(() => {
      peak = Math.max(peak, residentBytes(pid) ?? 0)
    }, SAMPLE_MS)
    const report = await send(url, ORDERS, FIRST_ID)
    expect(report).toMatchObject({ total: ORDERS, created: ORDERS - BAD, same: 0, conflict: 0, invalid: BAD })
    const again = await send(url, ORDERS, FIRST_ID)
    expect(again).toMatchObject({ total: ORDERS, created: 0, same: ORDERS - BAD, conflict: 0, invalid: BAD })
    expect(await send(url, ORDERS, FIRST_ID, 1)).toMatchObject({ total: ORDERS, created: 0, invalid: ORDERS })
    clearInterval(watch)
    await stop()
    expect(report['errors']).toHaveLength(BAD)
    expect(await registered(FIRST_ID, ORDERS)).toEqual(GOOD)
    tellGrowth('by the route, twice, and only bad ones', before, peak)
    expect(before).toBeGreaterThan(0)
    expect(peak - before).toBeLessThan(GROWTH_BYTES_MAX)
  })

  it('by the command: constant memory, progress all the way, the bad lines listed, the good ones in', async () => {
    const name = path.join(folder, 'orders.ndjson')
    await pipeline(Readable.from(file(ORDERS, FIRST_COMMAND_ID)), createWriteStream(name))
    const { child, pid } = importInTerminal(name)
    let before: number | null = null
    let peak = 0
    let shown = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      shown += chunk.toString('utf8')
    })
    const watch = setInterval(() => {
      const bytes = residentBytes(pid())
      // From its first progress on: before that it loads its own code.
      if (bytes === null || !shown.includes(' orders, ')) return
      before ??= bytes
      peak = Math.max(peak, bytes)
    }, SAMPLE_MS)
    const [stderr, [status]] = await Promise.all([
      child.stderr === null ? '' : text(child.stderr),
      once(child, 'close'),
    ])
    clearInterval(watch)
    shown += stderr
    expect(status).toBe(1)
    expect(shown).toContain(`${BAD} lines did not go in; the others did.`)
    expect(shown).toMatch(/line 1: businessNo: /)
    expect(shown).toContain(`… and ${BAD - 20} more`)
    expect(await registered(FIRST_COMMAND_ID, ORDERS)).toEqual(GOOD)
    const percents = [...shown.matchAll(/(\d+)% \| \d+ orders/g)].map(([, percent]) => Number(percent))
    expect(percents).toEqual(percents.toSorted((one, other) => one - other))
    // A terminal is redrawn ten times in a second; a pipe gets a line in five.
    expect(new Set(percents).size).toBeGreaterThan(HAS_SCRIPT ? 20 : 1)
    expect(percents.at(-1)).toBe(100)
    if (before === null) throw new Error('nobody saw how much memory it took')
    tellGrowth(`by the command${HAS_SCRIPT ? ' in a terminal' : ''}`, before, peak)
    expect(peak - before).toBeLessThan(GROWTH_BYTES_MAX)
  })
})
