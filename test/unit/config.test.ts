import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { describe, expect, it } from 'vitest'

import { ConfigError, loadConfig } from '../../src/config.js'

const minimal = { SIGN_SECRETS: 'secret' }
const production = { ...minimal, NODE_ENV: 'production', DATABASE_URL: 'postgresql://db/unipay' }
const ONE_LINE = 'SIGN_SECRETS holds a line break or a byte order mark: it is one line, comma separated'
/** Complete, to look at: which keys they are, `loadConfig` does not ask. */
const wechat = {
  WECHAT_MCH_ID: '1',
  WECHAT_APP_ID: '2',
  WECHAT_PRIVATE_KEY: 'k',
  WECHAT_CERT_SERIAL: 's',
  WECHAT_API_V3_KEY: 'v3',
}
const alipay = { ALIPAY_APP_ID: '3', ALIPAY_PRIVATE_KEY: 'k', ALIPAY_PUBLIC_KEY: 'p' }

function linesOf(environment: Record<string, string>): readonly string[] {
  try {
    loadConfig(environment)
  } catch (error) {
    if (error instanceof ConfigError) return error.lines
    throw error
  }
  return []
}

describe('settings', () => {
  it('have the documented defaults', () => {
    expect(loadConfig(minimal)).toMatchObject({
      HOST: '0.0.0.0',
      PORT: 9000,
      ROLES: ['api', 'sweeper', 'courier'],
      SIGN_TYPE: 'MD5',
      SIGN_REQUIRED: true,
      REQ_TIME_WINDOW_S: 0,
      WECHAT_API: 'v3',
      WECHAT_V2_SIGN_TYPE: 'HMAC-SHA256',
      WECHAT_BASE_URLS: ['https://api.mch.weixin.qq.com', 'https://api2.mch.weixin.qq.com'],
      ALIPAY_GATEWAY_URL: 'https://openapi.alipay.com/gateway.do',
      GATEWAY_TIMEOUT_MS: 8000,
      GATEWAY_RATE_PER_S: 100,
      GATEWAY_CONCURRENCY: 64,
      NOT_FOUND_GRACE_S: 120,
      LATE_PAYMENT: 'settle',
      LOG_LEVEL: 'info',
    })
  })

  it('are frozen', () => {
    expect(Object.isFrozen(loadConfig(minimal))).toBe(true)
  })

  it.each([
    [{}, 'SIGN_SECRETS is missing: the secret that merchants sign with (or set SIGN_REQUIRED=false)'],
    [{ ...minimal, PORT: '70000' }, 'PORT must be a whole number from 0 to 65535'],
    [{ ...minimal, PORT: '9e3' }, 'PORT must be a whole number from 0 to 65535'],
    [{ ...minimal, ROLES: 'api,boss' }, 'ROLES must be among api, sweeper, courier'],
    [{ ...minimal, SIGN_TYPE: 'SHA1' }, 'SIGN_TYPE must be one of MD5, HMAC_SHA256'],
    [{ ...minimal, SIGN_REQUIRED: 'maybe' }, 'SIGN_REQUIRED must be true or false'],
    [{ ...minimal, OPS_TOKENS: 'nameless' }, 'OPS_TOKENS must be name:token'],
    [{ ...minimal, NODE_ENV: 'production' }, 'DATABASE_URL is required in production'],
    [{ ...minimal, DATABASE_URL: 'foo' }, 'DATABASE_URL must be a postgres:// or postgresql:// URL'],
    [{ ...minimal, DATABASE_URL: 'postgres://me:1#2@db/unipay' }, 'DATABASE_URL holds a #: in a password it is %23'],
    [{ ...minimal, DATABASE_URL: 'postgres://me:a#b@db/unipay' }, 'DATABASE_URL holds a #: in a password it is %23'],
    [{ ...minimal, DATABASE_URL: 'mysql://localhost/db' }, 'DATABASE_URL must be a postgres:// or postgresql:// URL'],
    [{ ...minimal, DATABASE_URL: 'postgres://a b' }, 'DATABASE_URL must be a postgres:// or postgresql:// URL'],
    [{ SIGN_SECRETS: ',' }, 'SIGN_SECRETS names no secret'],
    [{ SIGN_SECRETS: 'new\nold' }, ONE_LINE],
    [{ SIGN_SECRETS: 'new\n' }, ONE_LINE],
    [{ SIGN_SECRETS: '\uFEFFnew' }, ONE_LINE],
    [
      { ...production, SIGN_SECRETS: 'mine,change-me' },
      'SIGN_SECRETS holds the value of .env.example, which everybody knows: set your own',
    ],
    [
      { ...production, OPS_TOKENS: 'ann:mine,alice:change-me-too' },
      'OPS_TOKENS holds the value of .env.example, which everybody knows: set your own',
    ],
    [{ ...minimal, ...wechat, WECHAT_APP_ID: '' }, 'WECHAT_APP_ID is missing beside its pair'],
    [{ ...minimal, ...wechat, WECHAT_MCH_ID: '' }, 'WECHAT_MCH_ID is missing beside its pair'],
    [{ ...minimal, ALIPAY_GATEWAY_URL: 'ftp://x' }, 'ALIPAY_GATEWAY_URL must be an http or https URL'],
    [{ ...minimal, WECHAT_BASE_URLS: 'nowhere' }, 'WECHAT_BASE_URLS must be an http or https URL'],
    [{ ...minimal, LATE_PAYMENT: 'drop' }, 'LATE_PAYMENT must be settle or hold'],
    [{ ...minimal, LOG_LEVEL: 'loud' }, 'LOG_LEVEL is not a log level'],
  ] as [Record<string, string>, string][])('%j stops the start with one line', (environment, line) => {
    expect(linesOf(environment)).toEqual([line])
  })

  it('every wrong and every missing one is told at once, whatever else is wrong', () => {
    const lines = linesOf({
      PORT: '99999',
      LOG_LEVEL: 'y',
      ROLES_FILE: '/nowhere/roles',
      NODE_ENV: 'production',
      WECHAT_MCH_ID: '1',
      WECHAT_CLIENT_KEY: 'k',
      ALIPAY_APP_ID: '3',
    })
    expect(lines.map((line) => line.split(' ').slice(0, 3).join(' '))).toEqual([
      'ROLES_FILE cannot be',
      'PORT must be',
      'LOG_LEVEL is not',
      'SIGN_SECRETS is missing:',
      'DATABASE_URL is required',
      'WECHAT_APP_ID is missing',
      'WECHAT_PRIVATE_KEY is missing:',
      'WECHAT_CERT_SERIAL is missing:',
      'WECHAT_API_V3_KEY is missing:',
      'WECHAT_CLIENT_CERT is missing:',
      'ALIPAY_PRIVATE_KEY is missing:',
      'ALIPAY_PUBLIC_KEY is missing:',
    ])
  })

  it.each([
    [wechat, {}, []],
    [wechat, { WECHAT_PRIVATE_KEY: '', WECHAT_CERT_SERIAL: '' }, ['WECHAT_PRIVATE_KEY', 'WECHAT_CERT_SERIAL']],
    [wechat, { WECHAT_API_V3_KEY: '' }, ['WECHAT_API_V3_KEY']],
    [wechat, { WECHAT_API_V3_KEY: '', WECHAT_PUBLIC_KEY: 'p' }, ['WECHAT_PUBLIC_KEY_ID']],
    [wechat, { WECHAT_API_V3_KEY: '', WECHAT_PUBLIC_KEY_ID: 'i' }, ['WECHAT_PUBLIC_KEY']],
    [wechat, { WECHAT_API_V3_KEY: '', WECHAT_PUBLIC_KEY_ID: 'i', WECHAT_PUBLIC_KEY: 'p' }, []],
    [wechat, { WECHAT_CLIENT_CERT: 'c' }, ['WECHAT_CLIENT_KEY']],
    [wechat, { WECHAT_CLIENT_KEY: 'k' }, ['WECHAT_CLIENT_CERT']],
    [{ WECHAT_MCH_ID: '1', WECHAT_APP_ID: '2', WECHAT_API: 'v2' }, {}, ['WECHAT_API_V2_KEY']],
    [{ WECHAT_MCH_ID: '1', WECHAT_APP_ID: '2', WECHAT_API: 'v2' }, { WECHAT_API_V2_KEY: 'v2' }, []],
    [alipay, {}, []],
    [alipay, { ALIPAY_PRIVATE_KEY: '', ALIPAY_PUBLIC_KEY: '' }, ['ALIPAY_PRIVATE_KEY', 'ALIPAY_PUBLIC_KEY']],
    [alipay, { ALIPAY_CERT: 'c' }, ['ALIPAY_PUBLIC_KEY']],
    [alipay, { ALIPAY_PUBLIC_KEY: '', ALIPAY_CERT: 'c' }, ['ALIPAY_APP_CERT', 'ALIPAY_ROOT_CERT']],
    [alipay, { ALIPAY_PUBLIC_KEY: '', ALIPAY_ROOT_CERT: 'c' }, ['ALIPAY_APP_CERT', 'ALIPAY_CERT']],
    // What is left of a channel that is not configured is let be.
    [wechat, { WECHAT_MCH_ID: '', WECHAT_APP_ID: '', WECHAT_PRIVATE_KEY: '' }, []],
    [alipay, { ALIPAY_APP_ID: '', ALIPAY_CERT: 'c' }, []],
  ] as [Record<string, string>, Record<string, string>, string[]][])(
    'of a channel, %j with %j, all that is missing is told: %j',
    (channel, more, names) => {
      expect(linesOf({ ...minimal, ...channel, ...more }).map((line) => line.split(' ')[0])).toEqual(names)
    },
  )

  it.each(['postgres://localhost/db', 'postgresql://postgres@/db?host=%2Frun%2Fpg', 'postgresql:///db?host=/run/pg'])(
    'a database may be at %s',
    (url) => {
      expect(loadConfig({ ...minimal, DATABASE_URL: url }).DATABASE_URL).toBe(url)
    },
  )

  it('a secret may stand in a file, whose last line end is not part of it', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'unipay-config-'))
    try {
      const file = path.join(folder, 'secret')
      writeFileSync(file, ' old , new\n')
      expect(loadConfig({ SIGN_SECRETS_FILE: file }).SIGN_SECRETS).toEqual([' old ', ' new'])
      // Which one counts, nobody could tell by looking at either.
      expect(linesOf({ SIGN_SECRETS: 'mine', SIGN_SECRETS_FILE: file })).toEqual([
        'SIGN_SECRETS and SIGN_SECRETS_FILE are both set: leave one of them out',
      ])
      expect(loadConfig({ SIGN_SECRETS: '', SIGN_SECRETS_FILE: file }).SIGN_SECRETS).toEqual([' old ', ' new'])
      // One that cannot be read is not missing as well.
      expect(linesOf({ SIGN_SECRETS_FILE: path.join(folder, 'none') })).toEqual([
        expect.stringContaining('SIGN_SECRETS_FILE cannot be read'),
      ])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('an empty value counts as unset, and line ends in keys may be written as \\n', () => {
    expect(loadConfig({ ...minimal, PORT: '' }).PORT).toBe(9000)
    expect(loadConfig({ ...minimal, ALIPAY_PRIVATE_KEY: 'a\\nb' }).ALIPAY_PRIVATE_KEY).toBe('a\nb')
  })

  it('hosts that may be notified are those of URLs, which are in lower case', () => {
    expect(
      loadConfig({ ...minimal, NOTICE_ALLOW_HOSTS: 'Merchant.Example, b.example:8080' }).NOTICE_ALLOW_HOSTS,
    ).toEqual(['merchant.example', 'b.example:8080'])
  })

  it('operators’ tokens may hold colons, names may not', () => {
    expect(loadConfig({ ...minimal, OPS_TOKENS: 'ann:a:b, bob:c' }).OPS_TOKENS).toEqual([
      { name: 'ann', token: 'a:b' },
      { name: 'bob', token: 'c' },
    ])
  })
})
