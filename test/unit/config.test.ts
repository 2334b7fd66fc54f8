import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { describe, expect, it } from 'vitest'

import { ConfigError, loadConfig } from '../../src/config.js'

const minimal = { SIGN_SECRETS: 'secret' }

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
    [{ ...minimal, WECHAT_MCH_ID: '1' }, 'WECHAT_APP_ID is missing beside its pair'],
    [{ ...minimal, WECHAT_APP_ID: '1' }, 'WECHAT_MCH_ID is missing beside its pair'],
    [{ ...minimal, ALIPAY_GATEWAY_URL: 'ftp://x' }, 'ALIPAY_GATEWAY_URL must be an http or https URL'],
    [{ ...minimal, WECHAT_BASE_URLS: 'nowhere' }, 'WECHAT_BASE_URLS must be an http or https URL'],
    [{ ...minimal, LATE_PAYMENT: 'drop' }, 'LATE_PAYMENT must be settle or hold'],
    [{ ...minimal, LOG_LEVEL: 'loud' }, 'LOG_LEVEL is not a log level'],
  ] as [Record<string, string>, string][])('%j stops the start with one line', (environment, line) => {
    expect(linesOf(environment)).toEqual([line])
  })

  it('every wrong one is told at once', () => {
    expect(linesOf({ PORT: 'x', LOG_LEVEL: 'y', GATEWAY_TIMEOUT_MS: '0' })).toHaveLength(3)
  })

  it('a secret may stand in a file, whose last line end is not part of it', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'unipay-config-'))
    try {
      const file = path.join(folder, 'secret')
      writeFileSync(file, ' old , new\n')
      expect(loadConfig({ SIGN_SECRETS_FILE: file }).SIGN_SECRETS).toEqual([' old ', ' new'])
      expect(loadConfig({ SIGN_SECRETS: 'mine', SIGN_SECRETS_FILE: file }).SIGN_SECRETS).toEqual(['mine'])
      expect(linesOf({ SIGN_SECRETS_FILE: path.join(folder, 'none') })[0]).toContain('SIGN_SECRETS_FILE cannot be read')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('an empty value counts as unset, and line ends in keys may be written as \\n', () => {
    expect(loadConfig({ ...minimal, PORT: '' }).PORT).toBe(9000)
    expect(loadConfig({ ...minimal, ALIPAY_PRIVATE_KEY: 'a\\nb' }).ALIPAY_PRIVATE_KEY).toBe('a\nb')
  })

  it('operators’ tokens may hold colons, names may not', () => {
    expect(loadConfig({ ...minimal, OPS_TOKENS: 'ann:a:b, bob:c' }).OPS_TOKENS).toEqual([
      { name: 'ann', token: 'a:b' },
      { name: 'bob', token: 'c' },
    ])
  })
})
