import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'

import { z } from 'zod'

import { SIGN_TYPES } from './domain/sign.js'

/** What one process does. Any number of processes may do the same at once; PostgreSQL shares the work out. */
export const ROLES = ['api', 'sweeper', 'courier'] as const
export type Role = (typeof ROLES)[number]

const list = (text: string): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')

const text = z.string().optional()
/** Key material: PEM or bare base64, in a file or in the variable itself, where `\n` may stand for a line end. */
const pem = z
  .string()
  .transform((value) => value.replaceAll('\\n', '\n'))
  .optional()
const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false', '1', '0'], 'must be true or false')
    .transform((value) => value === 'true' || value === '1')
    .default(fallback)
const whole = (fallback: number, min: number, max: number) => {
  const range = `must be a whole number from ${min} to ${max}`
  return z
    .string()
    .regex(/^\d{1,15}$/, range)
    .transform(Number)
    .refine((value) => value >= min && value <= max, range)
    .default(fallback)
}
const httpUrl = z
  .string()
  .refine((value) => URL.canParse(value) && /^https?:\/\//i.test(value), 'must be an http or https URL')

const PROXY_NAMES = ['loopback', 'linklocal', 'uniquelocal']
/** An address, a network in CIDR form, or a name for the private ones. Never "everyone": addresses would be theirs to choose. */
function isProxy(value: string): boolean {
  const [address = '', bits, ...rest] = value.split('/')
  if (PROXY_NAMES.includes(value)) return true
  const bitsMax = isIP(address) === 4 ? 32 : 128
  const isNetwork = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) > 0 && Number(bits) <= bitsMax)
  return isIP(address) !== 0 && isNetwork && rest.length === 0
}

/** Every setting, with its default and what it is for; the README's table is made from it (`settingsTable`). */
const SETTINGS = {
  HOST: z.string().default('0.0.0.0').describe('where to listen'),
  PORT: whole(9000, 0, 65_535).describe('where to listen; 0 takes a free port'),
  TRUST_PROXY: z
    .string()
    .transform(list)
    .pipe(z.array(z.string().refine(isProxy, 'must be addresses or networks, or loopback, linklocal, uniquelocal')))
    .default([])
    .describe('comma separated addresses or networks of proxies whose X-Forwarded-For is believed'),
  UNIPAY_RATE_PER_S: whole(0, 0, 100_000).describe('requests of one address under /unipay; 0: not limited'),
  DATABASE_URL: text.describe('PostgreSQL; unset: an embedded one in DATA_DIR; required in production'),
  DATA_DIR: z.string().default('./.data').describe('the embedded PostgreSQL and the sandbox keep their files here'),
  DATABASE_POOL_MAX: whole(20, 1, 500).describe('connections of this process'),
  MIGRATE_ON_START: flag(true).describe('apply missing migrations at start; else `unipay migrate`'),
  ROLES: z
    .string()
    .transform(list)
    .pipe(z.array(z.enum(ROLES, `must be among ${ROLES.join(', ')}`)).min(1, 'names no role'))
    .default([...ROLES])
    .describe('what this process does'),
  SIGN_TYPE: z
    .enum(SIGN_TYPES, `must be one of ${SIGN_TYPES.join(', ')}`)
    .default('MD5')
    .describe('or HMAC_SHA256'),
  // The secret is taken as it is, blanks included; only the comma separates.
  SIGN_SECRETS: z
    .string()
    .transform((value) => value.split(',').filter((secret) => secret !== ''))
    .default([])
    .describe('comma separated; the first signs, all verify'),
  SIGN_REQUIRED: flag(true).describe('false: merchants need not sign'),
  REQ_TIME_WINDOW_S: whole(0, 0, 31_536_000).describe('how far reqTime may be from now; 0: not checked'),
  OPS_TOKENS: z
    .string()
    .transform(list)
    .pipe(z.array(z.string().regex(/^[\w.@-]{1,64}:.+$/, 'must be name:token')))
    .transform((pairs) =>
      pairs.map((pair) => ({ name: pair.slice(0, pair.indexOf(':')), token: pair.slice(pair.indexOf(':') + 1) })),
    )
    .default([])
    .describe('comma separated `name:token`; unset: /ops and the console are not served'),
  WECHAT_MCH_ID: text.describe('unset: channel wechat_pay is not configured'),
  WECHAT_APP_ID: text.describe('the app of the orders'),
  WECHAT_API: z.enum(['v3', 'v2'], 'must be v3 or v2').default('v3').describe('or v2'),
  WECHAT_PRIVATE_KEY: pem.describe('v3: the merchant’s private key, PEM'),
  WECHAT_CERT_SERIAL: text.describe('v3: serial number of the merchant’s certificate'),
  WECHAT_API_V3_KEY: text.describe('v3: 32 bytes; decrypts downloaded platform certificates'),
  WECHAT_PUBLIC_KEY_ID: text.describe(
    'v3, public-key mode: `PUB_KEY_ID_…`; unset: platform certificates are downloaded',
  ),
  WECHAT_PUBLIC_KEY: pem.describe('v3, public-key mode: PEM'),
  WECHAT_API_V2_KEY: text.describe('v2: the API key'),
  WECHAT_V2_SIGN_TYPE: z
    .enum(['HMAC-SHA256', 'MD5'], 'must be HMAC-SHA256 or MD5')
    .default('HMAC-SHA256')
    .describe('or MD5'),
  WECHAT_CLIENT_CERT: pem.describe('v2 reversals: API certificate, PEM'),
  WECHAT_CLIENT_KEY: pem.describe('v2 reversals: its private key, PEM'),
  WECHAT_SP_MCH_ID: text.describe('partner mode: the service provider; WECHAT_MCH_ID is then the sub-merchant'),
  WECHAT_BASE_URLS: z
    .string()
    .transform(list)
    .pipe(z.array(httpUrl).min(1, 'names no host').max(4, 'names more than 4 hosts'))
    .default(['https://api.mch.weixin.qq.com', 'https://api2.mch.weixin.qq.com'])
    .describe('comma separated, tried in order'),
  ALIPAY_APP_ID: text.describe('unset: channel ali_pay is not configured'),
  ALIPAY_PRIVATE_KEY: pem.describe('the app’s private key, PEM or base64'),
  ALIPAY_PUBLIC_KEY: pem.describe('key mode: Alipay’s public key'),
  ALIPAY_APP_CERT: pem.describe('certificate mode: the app’s certificate'),
  ALIPAY_CERT: pem.describe('certificate mode: Alipay’s certificate'),
  ALIPAY_ROOT_CERT: pem.describe('certificate mode: Alipay’s root certificates'),
  ALIPAY_GATEWAY_URL: httpUrl.default('https://openapi.alipay.com/gateway.do').describe('Alipay’s gateway'),
  GATEWAY_TIMEOUT_MS: whole(8000, 100, 60_000).describe('per channel, for one call with all its tries'),
  GATEWAY_RATE_PER_S: whole(100, 1, 10_000).describe('per channel and process'),
  GATEWAY_CONCURRENCY: whole(64, 1, 1000).describe('per channel and process'),
  NOT_FOUND_GRACE_S: whole(120, 0, 86_400).describe(
    'an order younger than this is not closed because WeChat Pay does not know it',
  ),
  LATE_PAYMENT: z
    .enum(['settle', 'hold'], 'must be settle or hold')
    .default('settle')
    .describe('or hold: money for a closed order is only reported'),
  NOTICE_ALLOW_HOSTS: z
    .string()
    .transform(list)
    .default([])
    .describe('comma separated hosts that may be notified; unset: any http(s) host'),
  LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'is not a log level')
    .default('info')
    .describe('trace, debug, info, warn, error, fatal or silent'),
  NODE_ENV: text.describe('production: no embedded PostgreSQL, no sandbox'),
} as const

const SCHEMA = z.object(SETTINGS).superRefine((settings, context) => {
  const complain = (name: string, message: string) => context.addIssue({ code: 'custom', path: [name], message })
  if (settings.SIGN_REQUIRED && settings.SIGN_SECRETS.length === 0) {
    complain('SIGN_SECRETS', 'is missing: the secret that merchants sign with (or set SIGN_REQUIRED=false)')
  }
  if (settings.NODE_ENV === 'production' && settings.DATABASE_URL === undefined) {
    complain('DATABASE_URL', 'is required in production')
  }
  if ((settings.WECHAT_MCH_ID === undefined) !== (settings.WECHAT_APP_ID === undefined)) {
    complain(settings.WECHAT_MCH_ID === undefined ? 'WECHAT_MCH_ID' : 'WECHAT_APP_ID', 'is missing beside its pair')
  }
})

export type Config = Readonly<z.output<typeof SCHEMA>>
export type SettingName = keyof typeof SETTINGS
export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[]

/** The start was refused: one line per setting that is missing or wrong. */
export class ConfigError extends Error {
  readonly lines: readonly string[]
  constructor(lines: readonly string[]) {
    super(`Invalid settings:\n${lines.map((line) => `  ${line}`).join('\n')}`)
    this.lines = lines
  }
}

/**
 * The settings, checked and frozen. The only reader of the environment. `NAME_FILE` names a file that holds NAME's value
 * (one final line end is not part of it); an empty value counts as unset.
 */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const given: Record<string, string> = {}
  const problems: string[] = []
  for (const name of SETTING_NAMES) {
    const value = environment[name]
    const file = environment[`${name}_FILE`]
    if (value !== undefined && value !== '') given[name] = value
    else if (file !== undefined && file !== '') {
      try {
        given[name] = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
      } catch (error) {
        problems.push(`${name}_FILE cannot be read: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
  }
  const parsed = SCHEMA.safeParse(given)
  if (parsed.success && problems.length === 0) return Object.freeze(parsed.data)
  const issues = parsed.error?.issues.map((issue) => `${issue.path[0] as string} ${issue.message}`) ?? []
  throw new ConfigError([...problems, ...new Set(issues)])
}

/** The settings as a Markdown table, for the README. */
export function settingsTable(): string {
  const rows = SETTING_NAMES.map((name) => {
    const schema: z.ZodType = SETTINGS[name]
    const fallback: unknown = schema.safeParse(undefined).data
    const shown = fallbackText(fallback)
    return `| ${name} | ${shown === '' ? '–' : shown} | ${schema.description ?? ''} |`
  })
  return ['| name | default | |', '|---|---|---|', ...rows].join('\n')
}

function fallbackText(fallback: unknown): string {
  if (Array.isArray(fallback)) return fallback.join(',')
  return fallback === undefined ? '' : JSON.stringify(fallback).replaceAll('"', '')
}
