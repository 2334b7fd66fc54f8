import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { issueCertificate } from '../../src/sandbox/certificates.js'
import { newKeyPair, privatePem, publicPem } from '../../src/sandbox/keys.js'
import { createWechatSandbox } from '../../src/sandbox/wechat.js'
import { commandSettings, type Ran, unipay } from '../support/cli.js'
import { createDatabase } from '../support/database.js'
import { startService, type TestService } from '../support/service.js'

type Check = { check: string; result: 'ok' | 'warning' | 'failed'; found: string; todo: string }

const DAY_MS = 86_400_000

let service: TestService
let stranger: Awaited<ReturnType<typeof newKeyPair>>
beforeAll(async () => {
  service = await startService()
  stranger = await newKeyPair()
})
afterAll(async () => {
  await service.stop()
})

async function doctor(more: Record<string, string> = {}): Promise<Ran & { checks: Check[]; failed: Check[] }> {
  const ran = await unipay({ ...commandSettings(service), ...more }, ['doctor', '--json'])
  const { checks } = JSON.parse(ran.stdout) as { checks: Check[] }
  const failed = checks.filter(({ result }) => result === 'failed')
  // Whatever is wrong: the exit status says so, and each finding says what to do.
  expect(ran.status).toBe(failed.length > 0 ? 1 : 0)
  for (const check of checks) if (check.result !== 'ok') expect(check.todo).not.toBe('')
  return { ...ran, checks, failed }
}

async function certificateEnding(days: number, { isAuthority = false } = {}): Promise<string> {
  const notAfter = Date.now() + days * DAY_MS
  const name = [['CN', 'merchant']] as const
  return await issueCertificate({
    subject: name,
    issuer: name,
    serial: '0A',
    publicKey: stranger.publicKey,
    issuerKey: stranger.privateKey,
    notBefore: notAfter - 365 * DAY_MS,
    notAfter,
    isAuthority,
  })
}

describe('unipay doctor', () => {
  it('finds nothing wrong where nothing is', async () => {
    const { checks } = await doctor()
    expect(checks.filter(({ result }) => result !== 'ok')).toEqual([])
    expect(checks.map(({ check }) => check)).toEqual(
      expect.arrayContaining(['settings', 'database', 'wechat_pay keys', 'ali_pay keys']),
    )
    const shown = await unipay(commandSettings(service), ['doctor'])
    expect(shown).toMatchObject({ status: 0, stdout: expect.stringContaining('both signatures verify') })
  })

  it.each([
    ['WECHAT_PUBLIC_KEY', 'wechat_pay keys', 'current public key'],
    ['ALIPAY_PUBLIC_KEY', 'ali_pay keys', 'current public key'],
  ])('finds a key of the gateway’s that is not its key: %s', async (setting, check, todo) => {
    const { failed } = await doctor({ [setting]: publicPem(stranger) })
    expect(failed).toMatchObject([{ check, todo: expect.stringContaining(todo) }])
  })

  it.each([
    ['WECHAT_PRIVATE_KEY', 'wechat_pay keys'],
    ['ALIPAY_PRIVATE_KEY', 'ali_pay keys'],
  ])('finds an own key that the gateway does not know: %s', async (setting, check) => {
    const { failed } = await doctor({ [setting]: privatePem(stranger) })
    expect(failed).toMatchObject([{ check, todo: expect.stringContaining('refuses us: compare') }])
  })

  it.each([
    ['WECHAT_API_V3_KEY', '0123456789abcdef0123456789abcdef', 'WECHAT_API_V3_KEY'],
    ['WECHAT_PRIVATE_KEY', null, 'HTTP 401 SIGN_ERROR'],
    ['WECHAT_CERT_SERIAL', '0A', 'HTTP 401 SIGN_ERROR'],
  ])('in certificate mode, finds what keeps the platform certificates away: %s', async (setting, value, found) => {
    const own = createWechatSandbox({ mode: 'certificate' })
    await own.listen()
    const wrong = {
      WECHAT_PUBLIC_KEY: '',
      WECHAT_PUBLIC_KEY_ID: '',
      ...own.merchantSettings(),
      [setting]: value ?? privatePem(stranger),
    }
    const { failed } = await doctor(wrong)
    const order = await service.register()
    const synced = await unipay({ ...commandSettings(service), ...wrong }, ['sync', order])
    await own.close()
    expect(failed).toMatchObject([
      { check: 'wechat_pay keys', found: expect.stringContaining(found), todo: expect.stringContaining(setting) },
    ])
    expect(synced).toMatchObject({ status: 1, stderr: expect.stringContaining(found) })
    expect(synced.stderr).toContain(setting)
  })

  it('finds each key that is none, of either gateway, and names its setting', async () => {
    const { failed } = await doctor({ WECHAT_PRIVATE_KEY: 'no key', ALIPAY_PRIVATE_KEY: 'no key' })
    expect(failed).toMatchObject([
      { check: 'keys', found: expect.stringContaining('WECHAT_PRIVATE_KEY') },
      { check: 'keys', found: expect.stringContaining('ALIPAY_PRIVATE_KEY') },
    ])
  })

  it('says of an API key what it must be, which is no PEM', async () => {
    const { failed } = await doctor({ WECHAT_API_V3_KEY: 'short' })
    expect(failed).toMatchObject([
      { check: 'keys', found: expect.stringContaining('not 5'), todo: expect.stringContaining('32 characters') },
    ])
  })

  it.each([
    [400, 'behind'],
    [-400, 'ahead'],
  ])('finds a clock that is %i s off the gateway’s', async (offS, word) => {
    const other = createWechatSandbox({ now: () => Date.now() + offS * 1000 })
    await other.listen()
    const { failed } = await doctor(other.merchantSettings())
    await other.close()
    expect(failed[0]).toMatchObject({
      found: expect.stringMatching(new RegExp(`^this clock is (399|400|401) s ${word}`)),
      todo: expect.stringContaining('NTP'),
    })
    expect(failed[1]).toMatchObject({ check: 'wechat_pay keys', todo: expect.stringContaining('clock first') })
  })

  it('finds a gateway that cannot be reached', async () => {
    const { failed } = await doctor({ ALIPAY_GATEWAY_URL: 'http://127.0.0.1:9/gateway.do' })
    expect(failed[0]).toMatchObject({ check: '127.0.0.1:9', todo: expect.stringContaining('firewall') })
  })

  it('finds a database that is away, one that is not migrated, and one of its own', async () => {
    const away = await doctor({ DATABASE_URL: 'postgresql://nobody@127.0.0.1:9/none' })
    expect(away.failed).toMatchObject([{ check: 'database', todo: expect.stringContaining('Is PostgreSQL up') }])
    const elsewhere = (change: (url: URL) => void) => {
      const url = new URL(service.database.url)
      change(url)
      return { DATABASE_URL: url.href }
    }
    const none = await doctor(elsewhere((url) => (url.pathname = '/none')))
    expect(none.failed).toMatchObject([{ check: 'database', todo: expect.stringContaining('Create the database') }])
    const stranger = await doctor(elsewhere((url) => (url.username = 'stranger')))
    expect(stranger.failed).toMatchObject([{ check: 'database', todo: expect.stringContaining('user and password') }])
    const empty = await createDatabase({ migrated: false })
    const { failed } = await doctor({ DATABASE_URL: empty.url })
    await empty.drop()
    expect(failed).toMatchObject([
      { check: 'database', found: expect.stringContaining('not migrated'), todo: 'Run: unipay migrate' },
    ])
    const embedded = await doctor({ DATABASE_URL: '', DATA_DIR: '/nowhere' })
    expect(embedded.checks).toContainEqual(
      expect.objectContaining({ check: 'database', result: 'warning', found: 'embedded, in /nowhere' }),
    )
  })

  it('finds a database that takes no writes: a standby, or a primary that was put aside', async () => {
    const standby = await createDatabase()
    const pool = standby.pool()
    await pool.query(`ALTER DATABASE ${standby.name} SET default_transaction_read_only = on`)
    const { failed } = await doctor({ DATABASE_URL: standby.url })
    await standby.drop()
    expect(failed).toMatchObject([
      { check: 'database', found: expect.stringContaining('read-only'), todo: expect.stringContaining('primary') },
    ])
  })

  it('finds a role that may read and not write, and what it lacks', async () => {
    const pool = service.database.pool()
    const role = `reader_of_${service.database.name}`
    const url = new URL(service.database.url)
    url.username = role
    const lacks = async () => (await doctor({ DATABASE_URL: url.href })).failed
    try {
      await pool.query(`CREATE ROLE ${role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role}`)
      const found = expect.stringContaining('UPDATE ON orders')
      expect(await lacks()).toMatchObject([{ check: 'database', found, todo: expect.stringContaining('GRANT') }])
      await pool.query(`GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role}`)
      expect(await lacks()).toMatchObject([
        { found: expect.stringMatching(/lacks: USAGE ON SEQUENCE repair_no_seq, /) },
      ])
      await pool.query(`GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ${role}`)
      expect(await lacks()).toEqual([])
      await pool.query('REVOKE EXECUTE ON FUNCTION next_repair_no() FROM PUBLIC')
      expect(await lacks()).toMatchObject([
        { found: expect.stringMatching(/lacks: EXECUTE ON FUNCTION next_repair_no\(\)$/) },
      ])
    } finally {
      await pool.query('GRANT EXECUTE ON FUNCTION next_repair_no() TO PUBLIC')
      await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
    }
  })

  it.each([
    [30.5, 'ok', '30 days left'],
    [29.5, 'warning', '29 days left'],
    [-1.5, 'failed', 'expired 2 days ago'],
  ])('a certificate that ends in %d days is %s', async (days, result, found) => {
    const { checks } = await doctor({ WECHAT_CLIENT_CERT: await certificateEnding(days) })
    expect(checks).toContainEqual(expect.objectContaining({ check: 'WECHAT_CLIENT_CERT', result, found }))
  })

  it('of several certificates in a file, those that are used count', async () => {
    const [used, next] = await Promise.all([certificateEnding(5.5), certificateEnding(400.5)])
    const authority = await certificateEnding(7300.5, { isAuthority: true })
    const settings = {
      WECHAT_CLIENT_CERT: `${used}${next}`,
      WECHAT_PUBLIC_KEY: `${used}${next}`,
      ALIPAY_APP_CERT: `${used}${next}`,
      // Beside Alipay's own the file holds its issuer; a next one is used as soon as Alipay signs with it.
      ALIPAY_CERT: `${used}${authority}${next}`,
      ALIPAY_ROOT_CERT: `${used}${authority}`,
    }
    const { checks } = await doctor({ ...settings, ALIPAY_PUBLIC_KEY: '' })
    const ends = checks.filter(({ found }) => found.endsWith(' days left'))
    expect(ends.map(({ check, found }) => `${check}: ${found}`)).toEqual([
      'WECHAT_CLIENT_CERT: 5 days left',
      'WECHAT_PUBLIC_KEY: 5 days left',
      'ALIPAY_APP_CERT: 5 days left',
      'ALIPAY_CERT: 400 days left',
      'ALIPAY_ROOT_CERT: 7300 days left',
    ])
  })

  it('finds a certificate that is none', async () => {
    const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
    expect((await doctor({ WECHAT_CLIENT_CERT: pem })).failed).toMatchObject([
      { check: 'keys', found: expect.stringContaining('WECHAT_CLIENT_CERT') },
    ])
  })

  it('finds missing settings, each with its name', async () => {
    const { failed } = await doctor({ SIGN_SECRETS: '', WECHAT_APP_ID: '', NODE_ENV: 'production', DATABASE_URL: '' })
    expect(failed.map(({ found }) => found.split(' ')[0])).toEqual(
      expect.arrayContaining(['SIGN_SECRETS', 'WECHAT_APP_ID', 'DATABASE_URL']),
    )
    expect((await doctor({ OPS_TOKENS: '' })).checks).toContainEqual(
      expect.objectContaining({ check: 'OPS_TOKENS', result: 'warning' }),
    )
    expect((await doctor({ SIGN_SECRETS: 'new, old' })).checks).toContainEqual(
      expect.objectContaining({ check: 'SIGN_SECRETS', result: 'warning', todo: expect.stringContaining('blank') }),
    )
    const none = await doctor({ WECHAT_MCH_ID: '', WECHAT_APP_ID: '', ALIPAY_APP_ID: '' })
    expect(none.failed).toMatchObject([{ check: 'channels' }])
    // Which of them were left out by mistake, what else is set tells.
    expect(none.checks.filter(({ result }) => result === 'warning')).toMatchObject([
      { check: 'WECHAT_MCH_ID', found: expect.stringContaining('not set beside WECHAT_PRIVATE_KEY, ') },
      { check: 'ALIPAY_APP_ID', found: 'not set beside ALIPAY_PRIVATE_KEY, ALIPAY_PUBLIC_KEY' },
    ])
  })
})
