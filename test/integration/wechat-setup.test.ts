import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { afterEach, describe, expect, it } from 'vitest'

import { ConfigError, loadConfig } from '../../src/config.js'
import type { CallOptions, Gateway, TradeRef } from '../../src/gateways/gateway.js'
import { KeyError } from '../../src/gateways/keys.js'
import { createHosts } from '../../src/gateways/wechat/exchange.js'
import { createWechat } from '../../src/gateways/wechat/setup.js'
import { createLog } from '../../src/log.js'
import { sharedKeyPair } from '../../src/sandbox/keys.js'
import { createWechatSandbox, type WechatMode } from '../../src/sandbox/wechat.js'
import { answerMessage, encryptCertificate, signMessage, signV2 } from '../../src/sandbox/wechat-crypto.js'
import { newPlatformCertificate } from '../../src/sandbox/wechat-keys.js'
import { writeXml } from '../../src/sandbox/wechat-v2-xml.js'
import { SILENT_OBSERVER } from '../support/silent-observer.js'

const OPTIONS: CallOptions = { priority: 'merchant', traceId: 'setup0000001' }
const REF: TradeRef = { outTradeNo: 'P1', gatewayOrderNo: null, payWay: 'qr_code' }
const DAY_MS = 86_400_000

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

async function settingsOf(mode: WechatMode): Promise<Record<string, string>> {
  const sandbox = createWechatSandbox({ mode })
  await sandbox.listen()
  stops.push(async () => await sandbox.close())
  return sandbox.merchantSettings()
}

/** An empty value counts as unset. */
function build(settings: Readonly<Record<string, string>>, now: () => number = Date.now) {
  const lines: Record<string, unknown>[] = []
  const { gateway, close } = createWechat(
    loadConfig({ SIGN_REQUIRED: 'false', GATEWAY_TIMEOUT_MS: '2000', ...settings }),
    {
      log: createLog('info', { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }),
      observer: SILENT_OBSERVER,
      now,
      random: () => 0,
    },
  )
  stops.push(close)
  return { gateway, lines }
}

describe('the start is refused with the name of the setting', () => {
  it.each([
    ['public_key', { WECHAT_CERT_SERIAL: '' }, 'WECHAT_CERT_SERIAL is missing'],
    ['public_key', { WECHAT_PRIVATE_KEY: '' }, 'WECHAT_PRIVATE_KEY is missing'],
    ['public_key', { WECHAT_PRIVATE_KEY: 'nonsense' }, 'WECHAT_PRIVATE_KEY is not a private key'],
    ['public_key', { WECHAT_PUBLIC_KEY: '' }, 'WECHAT_PUBLIC_KEY is missing: WECHAT_PUBLIC_KEY_ID is set'],
    ['public_key', { WECHAT_PUBLIC_KEY_ID: '' }, 'WECHAT_PUBLIC_KEY_ID is missing: WECHAT_PUBLIC_KEY is set'],
    ['public_key', { WECHAT_API_V3_KEY: 'short' }, 'WECHAT_API_V3_KEY must be 32 bytes, not 5'],
    ['certificate', { WECHAT_API_V3_KEY: '' }, 'WECHAT_API_V3_KEY is missing'],
    ['v2', { WECHAT_API_V2_KEY: '' }, 'WECHAT_API_V2_KEY is missing'],
    ['v2', { WECHAT_API_V2_KEY: 'short' }, 'WECHAT_API_V2_KEY must be 32 bytes, not 5'],
    ['v2', { WECHAT_CLIENT_KEY: '' }, 'WECHAT_CLIENT_KEY is missing: WECHAT_CLIENT_CERT is set'],
    ['v2', { WECHAT_CLIENT_CERT: '' }, 'WECHAT_CLIENT_CERT is missing: WECHAT_CLIENT_KEY is set'],
    ['v2', { WECHAT_CLIENT_CERT: 'nonsense' }, 'WECHAT_CLIENT_CERT is not an X.509 certificate'],
  ] as const)('%s with %o: %s', async (mode, more, message) => {
    const settings = { ...(await settingsOf(mode)), ...more }
    expect(() => build(settings)).toThrow(message.includes(' is missing') ? ConfigError : KeyError)
    expect(() => build(settings)).toThrow(message)
  })

  it('all of them at once', async () => {
    const names = [
      'WECHAT_PRIVATE_KEY',
      'WECHAT_PUBLIC_KEY',
      'WECHAT_API_V3_KEY',
      'WECHAT_API_V2_KEY',
      'WECHAT_CLIENT_CERT',
      'WECHAT_CLIENT_KEY',
    ]
    const settings = { ...(await settingsOf('public_key')), ...Object.fromEntries(names.map((name) => [name, 'no!'])) }
    const told = new RegExp(`^${names.map((name) => `${name} (is not|must be) .+`).join('\n')}$`)
    expect(() => build(settings)).toThrow(told)
  })

  it('a client certificate and another’s key', async () => {
    const settings = await settingsOf('v2')
    const stranger = (await sharedKeyPair('stranger')).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    expect(() => build({ ...settings, WECHAT_CLIENT_KEY: stranger })).toThrow(
      'WECHAT_CLIENT_CERT and WECHAT_CLIENT_KEY do not belong together',
    )
  })

  it('an expired client certificate; one that soon will be is warned of', async () => {
    const settings = await settingsOf('v2')
    const inFiveYears = Date.now() + 5 * 365 * DAY_MS
    expect(() => build(settings, () => inFiveYears)).toThrow(/WECHAT_CLIENT_CERT expired on/)
    const { lines } = build(settings, () => inFiveYears - 20 * DAY_MS)
    expect(lines).toMatchObject([
      { level: 'warn', event: 'certificate_expires', setting: 'WECHAT_CLIENT_CERT', daysLeft: 19 },
    ])
    expect(build(settings).lines).toEqual([])
  })
})

describe('a merchant that moves from certificates to a public key', () => {
  /** A gateway that signs by a platform certificate although a public key was asked for. */
  async function startMoving(settings: Readonly<Record<string, string>>): Promise<{ url: string; targets: string[] }> {
    const pair = await sharedKeyPair('wechat-moving')
    const { serial, certificatePem } = await newPlatformCertificate(pair, Date.now())
    const targets: string[] = []
    const server = createServer((request, response) => {
      targets.push(request.url ?? '')
      const sealed = encryptCertificate(settings['WECHAT_API_V3_KEY'] ?? '', certificatePem ?? '')
      const body =
        request.url?.startsWith('/v3/certificates') === true
          ? { data: [{ serial_no: serial, encrypt_certificate: sealed }] }
          : {
              appid: settings['WECHAT_APP_ID'],
              mchid: settings['WECHAT_MCH_ID'],
              out_trade_no: 'P1',
              trade_state: 'NOTPAY',
              amount: { total: 1 },
            }
      const bytes = Buffer.from(JSON.stringify(body))
      const timestamp = String(Math.floor(Date.now() / 1000))
      void signMessage(pair.privateKey, answerMessage(timestamp, 'n', bytes)).then((signature) => {
        response.writeHead(200, {
          'Wechatpay-Timestamp': timestamp,
          'Wechatpay-Nonce': 'n',
          'Wechatpay-Serial': serial,
          'Wechatpay-Signature': signature,
        })
        response.end(bytes)
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    stops.push(() => {
      server.close()
      server.closeAllConnections()
    })
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, targets }
  }
  const isDownload = (target: string) => target.startsWith('/v3/certificates')

  it('is answered by either: both kinds of key are alive at once, and the certificate is looked for once', async () => {
    const settings = await settingsOf('public_key')
    const { url, targets } = await startMoving(settings)
    const moving: Gateway = build({ ...settings, WECHAT_BASE_URLS: url }).gateway
    for (let asked = 0; asked < 3; asked++) {
      expect(await moving.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade', trade: { state: 'paying' } })
    }
    expect(targets.filter(isDownload)).toHaveLength(1)
  })

  it('without an APIv3 key the certificate cannot be opened, and the answer is not believed', async () => {
    const settings = await settingsOf('public_key')
    const { url, targets } = await startMoving(settings)
    const { gateway } = build({ ...settings, WECHAT_BASE_URLS: url, WECHAT_API_V3_KEY: '' })
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'unknown', reason: 'unknown_serial' })
    expect(targets.filter(isDownload)).toHaveLength(0)
  })
})

describe('APIv2, an answer to a close', () => {
  /** A gateway that closes, correctly signed, in the name of whom the test says. */
  async function closeAnsweredFor(identity: Readonly<Record<string, string>>) {
    const settings = await settingsOf('v2')
    const apiKey = settings['WECHAT_API_V2_KEY'] ?? ''
    const server = createServer((_request, response) => {
      const fields = { return_code: 'SUCCESS', result_code: 'SUCCESS', nonce_str: 'n', ...identity }
      response.end(writeXml(Object.entries({ ...fields, sign: signV2(fields, apiKey, 'HMAC-SHA256') })))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    stops.push(() => {
      server.close()
      server.closeAllConnections()
    })
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    return await build({ ...settings, WECHAT_BASE_URLS: url }).gateway.closeOrder(REF, OPTIONS)
  }

  it('in our name is a close', async () => {
    expect(await closeAnsweredFor({ appid: 'wx8888888888888888', mch_id: '1900000109' })).toMatchObject({
      kind: 'accepted',
    })
  })

  it.each([
    { appid: 'wx8888888888888888', mch_id: '1900000001' },
    { appid: 'wx0000000000000001', mch_id: '1900000109' },
    { mch_id: '1900000109' },
    {},
  ])('in the name of %o proves nothing', async (identity) => {
    expect(await closeAnsweredFor(identity)).toMatchObject({
      kind: 'unknown',
      duty: 'untrusted',
      reason: 'other_merchant',
    })
  })
})

describe('hosts', () => {
  const unreachable = {
    kind: 'not_sent',
    reason: 'unreachable',
    exchange: { method: 'GET', host: '', path: '', status: null, durationMs: 0, body: '' },
  } as const
  const lost = { ...unreachable, kind: 'lost', reason: 'timeout' } as const

  it('are tried in their order, each further try at the next one', () => {
    const hosts = createHosts(['a', 'b'], () => 0)
    expect([0, 1, 2, 3].map((tryNo) => hosts.pick(tryNo))).toEqual(['a', 'b', 'a', 'b'])
  })

  it('one that could not be reached steps back for half a minute, or until it answers', () => {
    let nowMs = 0
    const hosts = createHosts(['a', 'b'], () => nowMs)
    hosts.tell('a', unreachable)
    expect(hosts.pick(0)).toBe('b')
    nowMs = 29_999
    expect(hosts.pick(0)).toBe('b')
    nowMs = 30_000
    expect(hosts.pick(0)).toBe('a')
    hosts.tell('a', unreachable)
    hosts.tell('a', lost)
    expect(hosts.pick(0)).toBe('a')
  })

  it('nor for longer where the clock is set back', () => {
    let nowMs = 1_800_000_000_000
    const hosts = createHosts(['a', 'b'], () => nowMs)
    hosts.tell('a', unreachable)
    nowMs -= 3_600_000
    expect(hosts.pick(0)).toBe('a')
  })

  it('all of them out of reach are tried all the same', () => {
    const hosts = createHosts(['a', 'b'], () => 0)
    hosts.tell('a', unreachable)
    hosts.tell('b', unreachable)
    expect([0, 1].map((tryNo) => hosts.pick(tryNo))).toEqual(['a', 'b'])
  })
})
