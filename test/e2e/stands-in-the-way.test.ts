import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { CLI, commandSettings, unipay } from '../support/cli.js'
import { startService, type TestService } from '../support/service.js'
import { MAIN } from '../support/service-process.js'

const MANY_STARTS_MS_MAX = 120_000
/** A start that is neither refused nor over by then hangs. */
const START_MS_MAX = 60_000

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

const urlWith = (change: (url: URL) => void) => {
  const url = new URL(service.database.url)
  change(url)
  return url.href
}

async function start(settings: Readonly<Record<string, string>>) {
  const env = { PATH: process.env['PATH'] ?? '', HOST: '127.0.0.1', PORT: '0', SIGN_SECRETS: 's', ...settings }
  const child = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'ignore', 'pipe'], timeout: START_MS_MAX })
  const [stderr, [status]] = await Promise.all([text(child.stderr), once(child, 'exit')])
  return { status: status as number, stderr }
}

describe('what stands in the way of a start is told in one line, and who knows more', () => {
  it.each([
    [
      'a database that is not there',
      () => ({ DATABASE_URL: urlWith((url) => (url.pathname = '/none')) }),
      /"none" does not exist/,
    ],
    [
      'a role that is not there',
      () => ({ DATABASE_URL: urlWith((url) => (url.username = 'nobody')) }),
      /role "nobody" does not/,
    ],
    [
      'a database that is away',
      () => ({ DATABASE_URL: 'postgresql://me@127.0.0.1:9/none' }),
      /ECONNREFUSED 127\.0\.0\.1:9/,
    ],
    ['a host without an address', () => ({ DATABASE_URL: 'postgresql://me@nowhere.invalid/none' }), /nowhere\.invalid/],
    [
      'an authority’s file that is not there',
      () => ({ DATABASE_URL: 'postgresql://me@127.0.0.1/none?sslmode=verify-full&sslrootcert=/nope.pem' }),
      /ENOENT.*\/nope\.pem/,
    ],
  ] as const)(
    '%s',
    async (_title, settings, words) => {
      const { status, stderr } = await start(settings())
      expect(stderr).toMatch(words)
      expect(stderr).toMatch(/^.*\. What to do about it: unipay doctor\n$/)
      expect(status).toBe(1)
    },
    MANY_STARTS_MS_MAX,
  )
})

it.each([
  ['a folder that cannot be made', { DATA_DIR: '/dev/null/nowhere' }, /^DATA_DIR: .*\/dev\/null\/nowhere'\n$/],
  ['an address that is not ours', { HOST: 'nowhere.invalid' }, /^HOST or PORT: .* nowhere\.invalid\n$/],
])(
  '%s is told with its setting alone: doctor does not look there',
  async (_title, settings, words) => {
    const url = 'HOST' in settings ? { DATABASE_URL: service.database.url } : {}
    const { status, stderr } = await start({ ...url, ...settings })
    expect(stderr).toMatch(words)
    expect(status).toBe(1)
  },
  MANY_STARTS_MS_MAX,
)

describe('a command', () => {
  it(
    'that the database refuses says what it was refused, without a place in the code',
    async () => {
      const pool = service.database.pool()
      const role = `half_of_${service.database.name}`
      const id = await service.register()
      const settings = { ...commandSettings(service), DATABASE_URL: urlWith((url) => (url.username = role)) }
      try {
        await pool.query(`CREATE ROLE ${role} LOGIN; GRANT SELECT ON _prisma_migrations, orders TO ${role}`)
        for (const args of [['show', id], ['exceptions'], ['batches']]) {
          const { status, stderr } = await unipay(settings, args)
          expect(stderr).toMatch(
            /^The database: permission denied for table \w+\. What to do about it: unipay doctor\n$/,
          )
          expect(status).toBe(1)
        }
      } finally {
        await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
      }
    },
    MANY_STARTS_MS_MAX,
  )

  it('whose output finds no room says so', async () => {
    const words = [process.execPath, CLI, 'show', await service.register()]
    const child = spawn('sh', ['-c', 'exec "$@" >/dev/full', 'sh', ...words], {
      env: { PATH: process.env['PATH'] ?? '', ...commandSettings(service) },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const [stderr, [status]] = await Promise.all([text(child.stderr), once(child, 'exit')])
    expect(stderr).toMatch(/^Standard output: ENOSPC: .*\n$/)
    expect(status).toBe(1)
  })

  it('doctor finds an authority’s file that is not there', async () => {
    const DATABASE_URL = 'postgresql://me@127.0.0.1/none?sslmode=verify-full&sslrootcert=/nope.pem'
    const { status, stdout } = await unipay({ ...commandSettings(service), DATABASE_URL }, ['doctor', '--json'])
    expect(JSON.parse(stdout)).toMatchObject({
      checks: expect.arrayContaining([
        expect.objectContaining({ check: 'database', result: 'failed', found: expect.stringContaining('/nope.pem') }),
      ]),
    })
    expect(status).toBe(1)
  })
})
