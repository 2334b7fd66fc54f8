import pg from 'pg'

import { type Config, ConfigError, halfSetChannels, loadConfig } from '../config.js'
import { type CertificateExpiry, certificateExpiries } from '../gateways/certificates.js'
import type { Gateway, GatewayUnknown, UnknownDuty } from '../gateways/gateway.js'
import { KeyError } from '../gateways/keys.js'
import { createGateways } from '../gateways/registry.js'
import { createLog } from '../log.js'
import { createMetrics } from '../metrics.js'
import { migrationStatus } from '../store/migrate.js'
import { missingPrivileges } from '../store/privileges.js'
import { newTraceId } from '../trace-id.js'
import { CommandFailed, type Output, show, table } from './output.js'

type Check = Readonly<{ check: string; result: 'ok' | 'warning' | 'failed'; found: string; todo: string }>

const REACH_MS_MAX = 5_000
/** WeChat Pay refuses requests whose time is 5 minutes off; from one minute on it is only a matter of time. Seconds. */
const SKEW_S_MAX = 60
const CERTIFICATE_DAYS_MIN = 30
/** What people are shown of a finding; a parser's or a library's message can be long. */
const FOUND_CHARACTERS_MAX = 120
const CLOCK_OFF = 'this clock is '
/** No order has it: whoever answers "no such trade", signed, has read our signature and we theirs. */
const NO_ORDER = 'UNIPAYDOCTOR0000000000000000'

/** Looks for the usual faults, changes nothing, and says what to do about each. */
export async function doctor(output: Output): Promise<void> {
  const checks: Check[] = []
  const config = readSettings(checks)
  if (config !== null) {
    checks.push(...certificateExpiries(config, Date.now()).map(expiry), await database(config))
    const hosts = await reachable(config)
    const isClockOff = hosts.some(({ found }) => found.startsWith(CLOCK_OFF))
    checks.push(...hosts, ...(await keys(config, isClockOff)))
  }
  show(output, { checks }, () =>
    table(
      ['check', 'result', 'found', 'what to do'],
      checks.map(({ check, result, found, todo }) => [check, result, found.slice(0, FOUND_CHARACTERS_MAX), todo]),
    ),
  )
  const failed = checks.filter(({ result }) => result === 'failed')
  if (failed.length > 0) throw new CommandFailed(`${failed.length} of ${checks.length} checks failed.`)
}

function readSettings(checks: Check[]): Config | null {
  try {
    const config = loadConfig(process.env)
    checks.push({ check: 'settings', result: 'ok', found: 'complete', todo: '' })
    // Taken as it is: the merchant's may have the blank as well.
    if (config.SIGN_SECRETS.some((secret) => secret !== secret.trim()))
      checks.push({
        check: 'SIGN_SECRETS',
        result: 'warning',
        found: 'a secret begins or ends with a blank',
        todo: 'The blank is part of the secret: take it out, unless the merchant signs with it.',
      })
    if (config.OPS_TOKENS.length === 0)
      checks.push({
        check: 'OPS_TOKENS',
        result: 'warning',
        found: 'not set',
        todo: 'Set name:token, else /ops and the console are not served.',
      })
    for (const { channel, lacks, set } of halfSetChannels(config))
      checks.push({
        check: lacks,
        result: 'warning',
        found: `not set beside ${set.join(', ')}`,
        todo: `Set it, else ${channel} is not configured; or take the others out.`,
      })
    return config
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    for (const line of error.lines)
      checks.push({ check: 'settings', result: 'failed', found: line, todo: 'Set it right.' })
    return null
  }
}

function expiry({ setting, daysLeft }: CertificateExpiry): Check {
  const found = daysLeft < 0 ? `expired ${-daysLeft} days ago` : `${daysLeft} days left`
  const check = { check: setting, found }
  if (daysLeft >= CERTIFICATE_DAYS_MIN) return { ...check, result: 'ok', todo: '' }
  return {
    ...check,
    result: daysLeft < 0 ? 'failed' : 'warning',
    todo: 'Get a new certificate from the gateway and set it.',
  }
}

async function database(config: Config): Promise<Check> {
  const check = 'database'
  if (config.DATABASE_URL === undefined)
    return {
      check,
      result: 'warning',
      found: `embedded, in ${config.DATA_DIR}`,
      todo: 'In production set DATABASE_URL.',
    }
  let client: pg.Client | undefined
  try {
    // In here: it reads the files that the URL names.
    client = new pg.Client({ connectionString: config.DATABASE_URL, connectionTimeoutMillis: REACH_MS_MAX })
    client.on('error', () => undefined)
    await client.connect()
    const { pending, failed, edited, isReadOnly } = await migrationStatus(client)
    if (isReadOnly)
      return {
        check,
        result: 'failed',
        found: 'read-only: no order can be synced',
        todo: 'A standby, or an old primary: point DATABASE_URL at the primary. Else: default_transaction_read_only.',
      }
    if (failed.length > 0 || edited.length > 0)
      return {
        check,
        result: 'failed',
        found: `migrations failed or edited: ${[...failed, ...edited].join(', ')}`,
        todo: 'Run: unipay migrate; it says what to repair.',
      }
    if (pending.length > 0)
      return { check, result: 'failed', found: `not migrated: ${pending.join(', ')}`, todo: 'Run: unipay migrate' }
    const missing = await missingPrivileges(client)
    if (missing.length > 0)
      return {
        check,
        result: 'failed',
        found: `its role lacks: ${missing.join(', ')}`,
        todo: 'GRANT the role what it lacks, or let DATABASE_URL name the owner of the tables.',
      }
    const skewS = await clockSkewS(client)
    // Leases and expiries go by the database's clock.
    if (Math.abs(skewS) > SKEW_S_MAX)
      return {
        check,
        result: 'warning',
        found: `its clock and this one are ${Math.abs(skewS)} s apart`,
        todo: 'Set both clocks (NTP): orders expire by the database’s.',
      }
    return { check, result: 'ok', found: 'reachable and migrated', todo: '' }
  } catch (error) {
    return {
      check,
      result: 'failed',
      found: String(error),
      todo: databaseTodo(error),
    }
  } finally {
    await client?.end().catch(() => undefined)
  }
}

/** By SQLSTATE: whoever answers with one is up. */
const DATABASE_TODO: Readonly<Record<string, string>> = {
  '28000': 'Set user and password in DATABASE_URL right; special characters are percent-encoded.',
  '28P01': 'Set user and password in DATABASE_URL right; special characters are percent-encoded.',
  '3D000': 'Create the database, or name the right one in DATABASE_URL.',
  '42501': 'GRANT the role what it lacks, or let DATABASE_URL name the owner of the tables.',
}

function databaseTodo(error: unknown): string {
  const known = error instanceof pg.DatabaseError ? DATABASE_TODO[error.code ?? ''] : undefined
  return known ?? 'Is PostgreSQL up, and DATABASE_URL (host, user, password) right?'
}

async function clockSkewS(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ ms: number }>(
    'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms',
  )
  return Math.round((Date.now() - (rows[0]?.ms ?? Number.NaN)) / 1000)
}

/** Every host of every configured channel: does it answer, and what time is it there? */
async function reachable(config: Config): Promise<Check[]> {
  const urls = [
    ...(config.WECHAT_MCH_ID === undefined ? [] : config.WECHAT_BASE_URLS),
    ...(config.ALIPAY_APP_ID === undefined ? [] : [config.ALIPAY_GATEWAY_URL]),
  ]
  if (urls.length === 0)
    return [
      {
        check: 'channels',
        result: 'failed',
        found: 'none configured',
        todo: 'Set WECHAT_MCH_ID or ALIPAY_APP_ID and their keys.',
      },
    ]
  return await Promise.all(
    urls.map(async (url): Promise<Check> => {
      const check = new URL(url).host
      try {
        const response = await fetch(url, { signal: AbortSignal.timeout(REACH_MS_MAX), redirect: 'manual' })
        await response.arrayBuffer()
        const there = Date.parse(response.headers.get('date') ?? '')
        const skewS = Number.isNaN(there) ? 0 : Math.round((Date.now() - there) / 1000)
        return Math.abs(skewS) > SKEW_S_MAX
          ? {
              check,
              result: 'failed',
              found: `${CLOCK_OFF}${Math.abs(skewS)} s ${skewS > 0 ? 'ahead' : 'behind'}`,
              todo: 'Set the clock (NTP): signatures carry the time.',
            }
          : { check, result: 'ok', found: `reachable, clock ${skewS} s off`, todo: '' }
      } catch (error) {
        const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error)
        return {
          check,
          result: 'failed',
          found: cause,
          todo: 'Check DNS, firewall and proxy for outgoing HTTPS, and the URL.',
        }
      }
    }),
  )
}

/** A signed question about an order that nobody has: it tells whether either side accepts the other's keys. */
async function keys(config: Config, isClockOff: boolean): Promise<Check[]> {
  const log = createLog('silent')
  try {
    const gateways = await createGateways(config, {
      log,
      observer: createMetrics().gateway,
      now: Date.now,
      random: Math.random,
    })
    const checks = await Promise.all(
      Object.values(gateways.byChannel).map(async (gateway) => await asked(gateway, isClockOff)),
    )
    gateways.close()
    return checks
  } catch (error) {
    const lines = error instanceof KeyError ? error.lines : [error instanceof Error ? error.message : String(error)]
    return lines.map((found) => ({
      check: 'keys',
      result: 'failed',
      found,
      todo: /_API_V[23]_KEY\b/.test(found)
        ? 'Set the API key named here as it is in the gateway’s console: 32 characters.'
        : 'Set the key named here: PEM or base64, RSA of 2048 bits or more, without a passphrase.',
    }))
  }
}

const TODO = {
  untrusted: 'The gateway signs with a key that is not set here: set its current public key or certificate.',
  alert: 'The gateway refuses us: compare merchant number, app id, serial and private key with its console.',
  back_off: 'The gateway wants fewer requests; try again.',
  retry: 'The gateway could not be asked; try again.',
} as const satisfies Record<UnknownDuty, string>

const NO_CERTIFICATE_TODO =
  'Compare with the gateway’s console what is named here: WECHAT_MCH_ID, WECHAT_CERT_SERIAL and WECHAT_PRIVATE_KEY, or WECHAT_API_V3_KEY.'

function todoOf({ duty, reason }: GatewayUnknown): string {
  return duty === 'alert' && reason === 'no_platform_certificate' ? NO_CERTIFICATE_TODO : TODO[duty]
}

async function asked(gateway: Gateway, isClockOff: boolean): Promise<Check> {
  const check = `${gateway.channel} keys`
  const ref = { outTradeNo: NO_ORDER, gatewayOrderNo: null, payWay: 'normal' } as const
  const answer = await gateway.queryOrder(ref, { priority: 'operator', traceId: newTraceId() })
  if (answer.kind === 'trade') return { check, result: 'ok', found: 'both signatures verify', todo: '' }
  const todo = isClockOff ? 'Set the clock first, as above; then look again.' : todoOf(answer)
  return { check, result: 'failed', found: `${answer.reason}: ${answer.message}`, todo }
}
