// What a gateway, or whoever stands in its place, may send: over real sockets, byte for byte.
import { gzipSync } from 'node:zlib'

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { loadConfig } from '../../src/config.js'
import type { CallOptions, Gateway, TradeRef } from '../../src/gateways/gateway.js'
import { createWechat } from '../../src/gateways/wechat/setup.js'
import { createLog } from '../../src/log.js'
import { SILENT_OBSERVER } from '../support/silent-observer.js'
import {
  APP_ID,
  MCH_ID,
  paidTrade,
  type Respond,
  SERIAL,
  signed,
  startAnsweringWechat,
} from '../support/wechat-answers.js'

const OPTIONS: CallOptions = { priority: 'merchant', traceId: 'hostile00001' }
const REF: TradeRef = { outTradeNo: 'P1', gatewayOrderNo: null, payWay: 'qr_code' }
const PAID = paidTrade()
const NOT_EXIST = '{"code":"ORDER_NOT_EXIST","message":"订单不存在"}'

// A handler that throws inside an event is nobody's outcome: the process would die of it.
const uncaught: unknown[] = []
const note = (error: unknown) => void uncaught.push(error)
beforeAll(() => void process.on('uncaughtException', note))
afterAll(() => void process.off('uncaughtException', note))

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
  expect(uncaught.splice(0)).toEqual([])
})

async function against(respond: Respond, timeoutMs = 1_000): Promise<{ gateway: Gateway; targets: string[] }> {
  const { settings, targets, stop } = await startAnsweringWechat(respond)
  const { gateway, close } = createWechat(
    loadConfig({ SIGN_REQUIRED: 'false', GATEWAY_TIMEOUT_MS: String(timeoutMs), ...settings }),
    {
      log: createLog('silent'),
      observer: SILENT_OBSERVER,
      now: Date.now,
      random: () => 0,
    },
  )
  stops.push(stop, close)
  return { gateway, targets }
}

const query = async (respond: Respond) => await (await against(respond)).gateway.queryOrder(REF, OPTIONS)
const close = async (respond: Respond) => await (await against(respond)).gateway.closeOrder(REF, OPTIONS)

/** An answer written to the socket as it is. */
const raw =
  (...parts: (string | Buffer)[]): Respond =>
  (request) => {
    for (const part of parts) request.socket.write(part)
  }
const headLines = (headers: Readonly<Record<string, string>>) =>
  Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')
const head = (status: string, headers: Readonly<Record<string, string>>) =>
  `HTTP/1.1 ${status}\r\n${headLines(headers)}`
const whole = (body: string | Buffer, more = '') =>
  Buffer.concat([
    Buffer.from(`${head('200 OK', signed(body))}Content-Length: ${Buffer.byteLength(body)}\r\n${more}\r\n`),
    Buffer.from(body),
  ])

const UNTRUSTED = { kind: 'unknown', duty: 'untrusted' }

describe('headers', () => {
  it('the genuine answer, written byte for byte, is believed', async () => {
    expect(await query(raw(whole(PAID)))).toMatchObject({ kind: 'trade', trade: { state: 'paid', amountFen: 1000n } })
  })

  it.each(['Wechatpay-Signature', 'Wechatpay-Timestamp', 'Wechatpay-Nonce', 'Wechatpay-Serial'])(
    'a second %s, the same or another, makes neither count',
    async (name) => {
      for (const value of [signed(PAID)[name] ?? '', 'another'])
        expect(await query(raw(whole(PAID, `${name}: ${value}\r\n`))), value).toMatchObject(UNTRUSTED)
    },
  )

  it('white space around a value is the wire’s, inside it is a change', async () => {
    const headers = signed(PAID)
    const spaced = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, ` \t${value}  `]))
    expect(
      await query(raw(`${head('200 OK', spaced)}Content-Length: ${Buffer.byteLength(PAID)}\r\n\r\n`, PAID)),
    ).toMatchObject({ kind: 'trade' })
    for (const [name, value] of Object.entries(headers)) {
      const split = { ...headers, [name]: `${value.slice(0, 4)} ${value.slice(4)}` }
      expect(
        await query(raw(`${head('200 OK', split)}Content-Length: ${Buffer.byteLength(PAID)}\r\n\r\n`, PAID)),
        name,
      ).toMatchObject(UNTRUSTED)
    }
  })

  it.each(['__proto__', 'constructor', 'toJSON', 'normalize', 'set', 'get', 'has', 'toString', 'then'])(
    'one that is named %s does no harm',
    async (name) => {
      const outcome = await query(raw(whole(PAID, `${name}: x\r\n`)))
      expect(['trade', 'unknown']).toContain(outcome.kind)
    },
  )

  it('more of them than anybody sends are not read', async () => {
    const many = Array.from({ length: 400 }, (_, at) => `X-${at}: ${'x'.repeat(100)}\r\n`).join('')
    expect(await query(raw(whole(PAID, many)))).toMatchObject({ kind: 'unknown', reason: 'bad_http' })
  })

  it('two lengths, or a length and chunks, are no HTTP', async () => {
    expect(await query(raw(whole(PAID, 'Content-Length: 5\r\n')))).toMatchObject({ kind: 'unknown' })
    expect(await query(raw(whole(PAID, 'Transfer-Encoding: chunked\r\n')))).toMatchObject({ kind: 'unknown' })
  })
})

describe('the body', () => {
  const chunked = (body: string, trailer = '') =>
    `${head('200 OK', { 'Transfer-Encoding': 'chunked', ...signed(body) })}\r\n` +
    `${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n0\r\n${trailer}\r\n`

  it('in chunks is the same body, and a trailer vouches for nothing', async () => {
    expect(await query(raw(chunked(PAID)))).toMatchObject({ kind: 'trade' })
    const forged = chunked(PAID).replace('"SUCCESS"', '"CLOSED_"')
    expect(await query(raw(forged))).toMatchObject(UNTRUSTED)
    const bare = `${head('200 OK', { 'Transfer-Encoding': 'chunked', Trailer: 'Wechatpay-Signature' })}\r\n`
    const body = `${Buffer.byteLength(PAID).toString(16)}\r\n${PAID}\r\n0\r\n${headLines(signed(PAID))}\r\n`
    expect(await query(raw(bare, body))).toMatchObject({ ...UNTRUSTED, reason: 'unsigned' })
  })

  it('compressed, which was not asked for, is never inflated: neither believed nor a bomb', async () => {
    const gzipped = gzipSync(PAID)
    const over = (vouched: string | Buffer): Respond =>
      raw(
        `${head('200 OK', signed(vouched))}Content-Encoding: gzip\r\nContent-Length: ${gzipped.length}\r\n\r\n`,
        gzipped,
      )
    expect(await query(over(PAID))).toMatchObject({ ...UNTRUSTED, reason: 'bad_signature' })
    expect(await query(over(gzipped))).toMatchObject({ ...UNTRUSTED, reason: 'unreadable' })
  })

  it.each([
    ['UTF-16', Buffer.from(PAID, 'utf16le')],
    [
      'GBK',
      Buffer.concat([
        Buffer.from(PAID.slice(0, -1)),
        Buffer.from(',"attach":"'),
        Buffer.from([0xb6, 0xa9, 0xb5, 0xa5]),
        Buffer.from('"}'),
      ]),
    ],
    ['UTF-8 with a byte order mark', Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(PAID)])],
    ['an overlong encoding', Buffer.from([0x7b, 0xc0, 0xa2, 0x7d])],
  ])('in %s is not read, although it is signed', async (_title, body) => {
    expect(await query(raw(whole(body)))).toMatchObject({ ...UNTRUSTED, reason: 'unreadable' })
  })

  it('that drips ends with the deadline, not before and not after', async () => {
    const startedMs = performance.now()
    const outcome = await query((request, response) => {
      response.writeHead(200, { ...signed(PAID), 'Content-Length': 100_000 })
      const timer = setInterval(() => response.write('x'), 20)
      request.socket.on('close', () => clearInterval(timer))
    })
    expect(outcome).toMatchObject({ kind: 'unknown', duty: 'retry', reason: 'timeout' })
    expect(performance.now() - startedMs).toBeGreaterThan(900)
    expect(performance.now() - startedMs).toBeLessThan(2_000)
  })

  it('headers that drip end with it too, and so do interim answers without end', async () => {
    for (const drop of ['X: y\r\n', 'HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n']) {
      const outcome = await query(({ socket }) => {
        if (drop.startsWith('X')) socket.write('HTTP/1.1 200 OK\r\n')
        const timer = setInterval(() => socket.write(drop), 20)
        socket.on('close', () => clearInterval(timer))
      })
      expect(outcome).toMatchObject({ kind: 'unknown', duty: 'retry', reason: 'timeout' })
    }
  })
})

describe('the status', () => {
  it('interim ones are passed over, and theirs are not the answer’s headers', async () => {
    for (const interim of ['100 Continue', '102 Processing', '103 Early Hints']) {
      expect(await query(raw(`HTTP/1.1 ${interim}\r\n\r\n`, whole(PAID)))).toMatchObject({ kind: 'trade' })
      const bare = `HTTP/1.1 200 OK\r\nContent-Length: ${Buffer.byteLength(PAID)}\r\n\r\n${PAID}`
      expect(await query(raw(`${head(interim, signed(PAID))}\r\n`, bare)), interim).toMatchObject(UNTRUSTED)
    }
  })

  it('101 changes no protocol', async () => {
    const upgrade = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n'
    expect(await query(raw(upgrade, whole(PAID)))).toMatchObject({ kind: 'unknown' })
  })

  // The signature is over the body alone: a status may have been changed under it.
  it('another one makes no other state of a signed body', async () => {
    const at =
      (status: number, body: string): Respond =>
      (_request, response) =>
        void response.writeHead(status, signed(body)).end(status === 204 ? undefined : body)
    for (const status of [201, 202, 203, 206, 400, 404, 409, 500])
      expect(await query(at(status, PAID)), String(status)).toMatchObject({ kind: 'unknown' })
    for (const status of [200, 201, 400, 403, 500])
      expect(await query(at(status, NOT_EXIST)), String(status)).toMatchObject({ kind: 'unknown' })
    expect(await query(at(404, NOT_EXIST))).toMatchObject({ kind: 'trade', trade: { state: 'not_found' } })
    // An empty body's signature, as every close has one, tells no query anything.
    expect(await query(at(200, ''))).toMatchObject({ kind: 'unknown', reason: 'unknown_state' })
    expect(await query(at(204, ''))).toMatchObject({ kind: 'unknown' })
    expect(await query(at(404, ''))).toMatchObject({ kind: 'unknown' })
  })

  it('a close is answered by 204 alone: a signed 200 may be any answer of these five minutes', async () => {
    for (const body of [PAID, '{}', ''])
      expect(await close((_request, response) => void response.writeHead(200, signed(body)).end(body))).toMatchObject({
        kind: 'unknown',
        duty: 'alert',
      })
    expect(await close((_request, response) => void response.writeHead(204, signed('')).end())).toMatchObject({
      kind: 'accepted',
    })
  })

  it('what follows a 204 is nobody’s answer', async () => {
    const { gateway } = await against((request, response) => {
      if (request.method === 'POST')
        raw(`${head('204 No Content', signed(''))}\r\n`, whole(paidTrade()))(request, response, '')
      else raw(whole(paidTrade({ trade_state: 'NOTPAY' })))(request, response, '')
    })
    expect(['accepted', 'unknown']).toContain((await gateway.closeOrder(REF, OPTIONS)).kind)
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ kind: 'trade', trade: { state: 'paying' } })
  })
})

describe('a kept connection', () => {
  it('on which an answer lies that nobody asked for does not give it to the next request', async () => {
    let asked = 0
    let flushed = (): void => undefined
    const written = new Promise<void>((resolve) => {
      flushed = resolve
    })
    const { gateway } = await against(({ socket }) => {
      asked += 1
      socket.write(whole(paidTrade({ trade_state: asked === 1 ? 'NOTPAY' : 'USERPAYING' })))
      // A second answer while the connection is idle.
      if (asked === 1) setImmediate(() => socket.write(whole(PAID), flushed))
    })
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ trade: { gatewayState: 'NOTPAY' } })
    await written
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ trade: { gatewayState: 'USERPAYING' } })
  })

  it('on which two answers come at once is given up', async () => {
    let asked = 0
    const { gateway } = await against(({ socket }) => {
      asked += 1
      const second = asked === 1 ? [whole(PAID)] : []
      socket.write(Buffer.concat([whole(paidTrade({ trade_state: 'NOTPAY' })), ...second]))
    })
    const first = await gateway.queryOrder(REF, OPTIONS)
    if (first.kind === 'trade') expect(first.trade.state).toBe('paying')
    expect(await gateway.queryOrder(REF, OPTIONS)).toMatchObject({ trade: { state: 'paying' } })
  })
})

describe('an amount', () => {
  const total = (literal: string): Respond => raw(whole(PAID.replace('"total":1000', `"total":${literal}`)))

  it.each(['1000', '1e3', '1000.0', '10e2'])('written %s is 1000 fen', async (literal) => {
    expect(await query(total(literal))).toMatchObject({ trade: { amountFen: 1000n } })
  })

  it.each([
    '-1000',
    '1000.5',
    '999.9999999999999',
    '1e300',
    '9007199254740993',
    '18446744073709552616',
    '4294968296000000',
    '"1000"',
    'null',
    '[1000]',
    '{"total":1000}',
    'true',
    'NaN',
    '0x3e8',
    '01000',
  ])('written %s is none, and a paid trade without one is not understood', async (literal) => {
    expect(await query(total(literal))).toMatchObject({ kind: 'unknown' })
  })

  it('without a currency is one of yuan; another currency is told as it is', async () => {
    const amount = (currency: object): Respond => raw(whole(paidTrade({ amount: { total: 1000, ...currency } })))
    expect(await query(amount({}))).toMatchObject({ trade: { currency: 'CNY' } })
    expect(await query(amount({ currency: null }))).toMatchObject({ trade: { currency: 'CNY' } })
    expect(await query(amount({ currency: 'USD' }))).toMatchObject({ trade: { currency: 'USD' } })
    expect(await query(amount({ currency: 156 }))).toMatchObject({ kind: 'unknown', reason: 'unknown_state' })
  })

  it('of a trade that is not paid is told without a currency where the gateway tells none', async () => {
    const unpaid = paidTrade({ trade_state: 'NOTPAY', amount: { total: 1000 } })
    expect(await query(raw(whole(unpaid)))).toMatchObject({ trade: { amountFen: 1000n, currency: null } })
  })
})

describe('texts', () => {
  const refusal = (message: string): Respond =>
    raw(`HTTP/1.1 400 Bad Request\r\nContent-Length: `, `${Buffer.byteLength(message)}\r\n\r\n`, message)

  it('that nobody signed reach the caller cut short', async () => {
    const outcome = await query(refusal(JSON.stringify({ code: 'PARAM_ERROR', message: 'x'.repeat(500_000) })))
    expect(outcome).toMatchObject({ kind: 'unknown', duty: 'alert', reason: 'configuration' })
    expect(outcome.kind === 'unknown' ? outcome.message.length : 0).toBe(200)
    expect(outcome.exchanges[0]?.body.length).toBeLessThanOrEqual(4096)
  })

  it.each(['x'.repeat(65), '4200\u0000', '4200 1', '订单'])(
    'that no row can keep are no transaction number: %j',
    async (transaction_id) => {
      expect(await query(raw(whole(paidTrade({ transaction_id }))))).toMatchObject({ reason: 'unknown_state' })
    },
  )

  it.each(['"', '\\"', '订单"\\/', '\u2028', '<script>'])(
    'in a subject like %j are text, not markup',
    async (attach) => {
      expect(await query(raw(whole(paidTrade({ attach, appid: APP_ID, mchid: MCH_ID }))))).toMatchObject({
        trade: { state: 'paid' },
      })
    },
  )
})

it('a signature of the right form under a serial that only looks like ours is nobody’s', async () => {
  for (const serial of [SERIAL.toLowerCase(), `${SERIAL}0`, SERIAL.slice(0, -1), `${SERIAL},${SERIAL}`]) {
    const headers = { ...signed(PAID), 'Wechatpay-Serial': serial }
    expect(
      await query(raw(`${head('200 OK', headers)}Content-Length: ${Buffer.byteLength(PAID)}\r\n\r\n`, PAID)),
    ).toMatchObject({ ...UNTRUSTED, reason: 'unknown_serial' })
  }
})
