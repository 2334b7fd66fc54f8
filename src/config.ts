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
// A user before no host is PostgreSQL's own way to name a socket, which no other URL has: `postgresql://me@/db?host=/run`.
const postgresUrl = z
  .string()
  // What follows it is no part of an address: the rest of a password would be lost, and the host with it.
  .refine((value) => !value.includes('#'), { error: 'holds a #: in a password it is %23', abort: true })
  .refine(
    (value) => URL.canParse(value.replace('@/', '@localhost/')) && /^postgres(ql)?:\/\//i.test(value),
    'must be a postgres:// or postgresql:// URL',
  )

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
  DATABASE_URL: postgresUrl
    .optional()
    .describe('PostgreSQL; unset: an embedded one in DATA_DIR; required in production'),
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
  // The secret is taken as it is, blanks included; only the comma separates. What nobody sees in a file would make every
  // merchant's signature wrong.
  SIGN_SECRETS: z
    .string()
    .refine(
      (value) => !/[\r\n\uFEFF]/.test(value),
      'holds a line break or a byte order mark: it is one line, comma separated',
    )
    .transform((value) => value.split(',').filter((secret) => secret !== ''))
    .pipe(z.array(z.string()).min(1, 'names no secret'))
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
  // As hosts are in URLs.
  NOTICE_ALLOW_HOSTS: z
    .string()
    .transform((value) => list(value.toLowerCase()))
    .default([])
    .describe('comma separated hosts that may be notified; unset: any http(s) host'),
  LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'is not a log level')
    .default('info')
    .describe('trace, debug, info, warn, error, fatal or silent'),
  NODE_ENV: text.describe('production: no embedded PostgreSQL, no sandbox'),
} as const

const SCHEMA = z.object(SETTINGS)

export type Config = Readonly<z.output<typeof SCHEMA>>
export type SettingName = keyof typeof SETTINGS
export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[]

/** The text that each setting was given; null where it stands in a file that could not be read. */
type Given = Readonly<Partial<Record<SettingName, string | null>>>
/** A line of the refusal that depends on more than one setting. */
type Rule = Readonly<{ setting: SettingName; problem: string; applies: (given: Given) => boolean }>

const isSet = (given: Given, ...names: readonly SettingName[]) => names.some((name) => given[name] !== undefined)
const missing = (setting: SettingName, why: string, isNeeded: (given: Given) => boolean): Rule => ({
  setting,
  problem: `is missing${why}`,
  applies: (given) => isNeeded(given) && !isSet(given, setting),
})

const isProduction = ({ NODE_ENV: environment }: Given) => environment === 'production'
const isUnsigned = ({ SIGN_REQUIRED: required }: Given) => required === 'false' || required === '0'
const isWechat = (given: Given) => isSet(given, 'WECHAT_MCH_ID', 'WECHAT_APP_ID')
const isWechatV3 = (given: Given) => isWechat(given) && (given.WECHAT_API ?? 'v3') === 'v3'
const isWechatV2 = (given: Given) => isWechat(given) && given.WECHAT_API === 'v2'
const isAlipay = (given: Given) => isSet(given, 'ALIPAY_APP_ID')
const hasAlipayCertificates = (given: Given) =>
  isAlipay(given) && isSet(given, 'ALIPAY_APP_CERT', 'ALIPAY_CERT', 'ALIPAY_ROOT_CERT')
const hasAlipayPublicKey = (given: Given) => isSet(given, 'ALIPAY_PUBLIC_KEY')
const isAlipayByCertificate = (given: Given) => hasAlipayCertificates(given) && !hasAlipayPublicKey(given)

/** The secrets of .env.example, which production refuses. */
const EXAMPLE_SECRET = 'change-me'
const EXAMPLE_TOKEN = 'change-me-too'
const OF_THE_EXAMPLE = 'holds the value of .env.example, which everybody knows: set your own'

const FOR_V3 = ': WECHAT_API=v3 needs it'
const FOR_CERTIFICATES = ': certificate mode needs ALIPAY_APP_CERT, ALIPAY_CERT and ALIPAY_ROOT_CERT'

/**
 * What settings ask of each other. Judged by what was given, not by what it came to, so that each line appears whatever
 * else is wrong.
 */
const RULES: readonly Rule[] = [
  missing(
    'SIGN_SECRETS',
    ': the secret that merchants sign with (or set SIGN_REQUIRED=false)',
    (given) => !isUnsigned(given),
  ),
  {
    setting: 'DATABASE_URL',
    problem: 'is required in production',
    applies: (given) => isProduction(given) && !isSet(given, 'DATABASE_URL'),
  },
  {
    setting: 'SIGN_SECRETS',
    problem: OF_THE_EXAMPLE,
    applies: (given) => isProduction(given) && list(given.SIGN_SECRETS ?? '').includes(EXAMPLE_SECRET),
  },
  {
    setting: 'OPS_TOKENS',
    problem: OF_THE_EXAMPLE,
    applies: (given) =>
      isProduction(given) && list(given.OPS_TOKENS ?? '').some((pair) => pair.endsWith(`:${EXAMPLE_TOKEN}`)),
  },
  missing('WECHAT_MCH_ID', ' beside its pair', isWechat),
  missing('WECHAT_APP_ID', ' beside its pair', isWechat),
  missing('WECHAT_PRIVATE_KEY', FOR_V3, isWechatV3),
  missing('WECHAT_CERT_SERIAL', FOR_V3, isWechatV3),
  missing(
    'WECHAT_API_V3_KEY',
    ': platform certificates are sealed with it (or set WECHAT_PUBLIC_KEY_ID and WECHAT_PUBLIC_KEY)',
    (given) => isWechatV3(given) && !isSet(given, 'WECHAT_PUBLIC_KEY_ID', 'WECHAT_PUBLIC_KEY'),
  ),
  missing(
    'WECHAT_PUBLIC_KEY_ID',
    ': WECHAT_PUBLIC_KEY is set',
    (given) => isWechatV3(given) && isSet(given, 'WECHAT_PUBLIC_KEY'),
  ),
  missing(
    'WECHAT_PUBLIC_KEY',
    ': WECHAT_PUBLIC_KEY_ID is set',
    (given) => isWechatV3(given) && isSet(given, 'WECHAT_PUBLIC_KEY_ID'),
  ),
  missing('WECHAT_API_V2_KEY', ': WECHAT_API=v2 needs it', isWechatV2),
  missing(
    'WECHAT_CLIENT_CERT',
    ': WECHAT_CLIENT_KEY is set',
    (given) => isWechat(given) && isSet(given, 'WECHAT_CLIENT_KEY'),
  ),
  missing(
    'WECHAT_CLIENT_KEY',
    ': WECHAT_CLIENT_CERT is set',
    (given) => isWechat(given) && isSet(given, 'WECHAT_CLIENT_CERT'),
  ),
  missing('ALIPAY_PRIVATE_KEY', ': ALIPAY_APP_ID is set', isAlipay),
  missing(
    'ALIPAY_PUBLIC_KEY',
    ': it verifies answers (or set ALIPAY_APP_CERT, ALIPAY_CERT and ALIPAY_ROOT_CERT)',
    (given) => isAlipay(given) && !hasAlipayCertificates(given),
  ),
  {
    setting: 'ALIPAY_PUBLIC_KEY',
    problem: 'and certificates are set: an app has either',
    applies: (given) => hasAlipayCertificates(given) && hasAlipayPublicKey(given),
  },
  missing('ALIPAY_APP_CERT', FOR_CERTIFICATES, isAlipayByCertificate),
  missing('ALIPAY_CERT', FOR_CERTIFICATES, isAlipayByCertificate),
  missing('ALIPAY_ROOT_CERT', FOR_CERTIFICATES, isAlipayByCertificate),
]

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
 * (one final line end is not part of it); an empty value counts as unset. Both at once are refused.
 */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const given: Partial<Record<SettingName, string | null>> = {}
  const problems: string[] = []
  for (const name of SETTING_NAMES) {
    const value = environment[name]
    const file = environment[`${name}_FILE`]
    if (value !== undefined && value !== '' && file !== undefined && file !== '')
      problems.push(`${name} and ${name}_FILE are both set: leave one of them out`)
    if (value !== undefined && value !== '') given[name] = value
    else if (file !== undefined && file !== '') {
      try {
        given[name] = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
      } catch (error) {
        given[name] = null
        problems.push(`${name}_FILE cannot be read: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
  }
  const readable = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null))
  const parsed = SCHEMA.safeParse(readable)
  problems.push(...(parsed.error?.issues.map((issue) => `${issue.path[0] as string} ${issue.message}`) ?? []))
  for (const { setting, problem, applies } of RULES) if (applies(given)) problems.push(`${setting} ${problem}`)
  if (parsed.success && problems.length === 0) return Object.freeze(parsed.data)
  throw new ConfigError([...new Set(problems)])
}

/** By which setting a channel is configured, and what the names of its settings begin with. */
const CHANNELS = [
  { channel: 'wechat_pay', configuredBy: 'WECHAT_MCH_ID', prefix: 'WECHAT_' },
  { channel: 'ali_pay', configuredBy: 'ALIPAY_APP_ID', prefix: 'ALIPAY_' },
] as const

/** The channels that are not configured although settings of theirs are set: probably one was forgotten. */
export function halfSetChannels(config: Config) {
  return CHANNELS.map(({ channel, configuredBy, prefix }) => ({
    channel,
    lacks: configuredBy,
    // One with a default always has a value.
    set: SETTING_NAMES.filter(
      (name) => name.startsWith(prefix) && fallbackOf(name) === undefined && config[name] !== undefined,
    ),
  })).filter(({ lacks, set }) => config[lacks] === undefined && set.length > 0)
}

/** The settings as a Markdown table, for the README. */
export function settingsTable(): string {
  const rows = SETTING_NAMES.map((name) => {
    const shown = fallbackText(fallbackOf(name))
    return `| ${name} | ${shown === '' ? '–' : shown} | ${SETTINGS[name].description ?? ''} |`
  })
  return ['| name | default | |', '|---|---|---|', ...rows].join('\n')
}

function fallbackOf(name: SettingName): unknown {
  const schema: z.ZodType = SETTINGS[name]
  return schema.safeParse(undefined).data
}

function fallbackText(fallback: unknown): string {
  if (Array.isArray(fallback)) return fallback.join(',')
  return fallback === undefined ? '' : JSON.stringify(fallback).replaceAll('"', '')
}
