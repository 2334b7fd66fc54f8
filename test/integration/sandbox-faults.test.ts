import { Agent, get } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { createAlipaySandbox } from '../../src/sandbox/alipay.js'
import { FAULT_NAMES, type FaultInput, type FaultName } from '../../src/sandbox/faults.js'
import { createWechatSandbox, type WechatSandboxOptions } from '../../src/sandbox/wechat.js'
import { createAlipayClient, createWechatPlugin, sendRaw, sendSignedV3 } from '../support/official-clients.js'

// The official Alipay library tells the time of the process's zone.
process.env['TZ'] = 'Asia/Shanghai'

const opened: { close: () => Promise<void> }[] = []

async function startWechat(options: WechatSandboxOptions = {}) {
  const sandbox = createWechatSandbox(options)
  opened.push(sandbox)
  const { url, backupUrl } = await sandbox.listen()
  return { sandbox, url, backupUrl, plugin: createWechatPlugin(sandbox.merchantSettings(), { maxRedirects: 0 }) }
}

async function startAlipay() {
  const sandbox = createAlipaySandbox()
  opened.push(sandbox)
  const { url } = await sandbox.listen()
  return { sandbox, url, call: createAlipayClient(sandbox.merchantSettings()) }
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((sandbox) => sandbox.close()))
})

/** What the official library makes of a query of a NOTPAY trade under the fault. */
async function queryUnder(fault: FaultInput) {
  const { sandbox, plugin } = await startWechat()
  sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
  sandbox.addFaults([fault])
  return { outcome: await plugin.query('P1'), next: await plugin.query('P1'), sandbox }
}

describe('WeChat Pay', () => {
  it.each<[FaultName, string]>([
    ['unsigned', 'EV3_RES_HEADERS_INCOMPLATE'],
    ['empty_sign', 'EV3_RES_HEADER_SIGNATURE_DIGEST'],
    ['tampered', 'EV3_RES_HEADER_SIGNATURE_DIGEST'],
    ['signtest', 'EV3_RES_HEADER_SIGNATURE_DIGEST'],
    ['stale', 'EV3_RES_HEADER_TIMESTAMP_OFFSET'],
    ['unknown_serial', 'EV3_RES_HEADER_PLATFORM_SERIAL'],
    ['reset', 'ECONNRESET'],
    ['html502', 'ERR_BAD_RESPONSE'],
    ['system_error', 'ERR_BAD_RESPONSE'],
    ['rate_limit', 'ERR_BAD_REQUEST'],
    ['not_exist', 'ERR_BAD_REQUEST'],
    ['redirect', 'ERR_BAD_RESPONSE'],
  ])('%s makes the official library say %s, once', async (fault, refusal) => {
    const { outcome, next } = await queryUnder({ fault })
    expect(outcome.refusal).toBe(refusal)
    expect(next.refusal).toBeNull()
  })

  it.each<[FaultName, object]>([
    ['wrong_amount', { amount: { total: 1001 } }],
    ['wrong_currency', { amount: { currency: 'USD' } }],
    ['wrong_merchant', { mchid: '1900000001' }],
    ['wrong_app', { appid: 'wx0000000000000001' }],
    ['wrong_order', { out_trade_no: 'P1X' }],
    ['unknown_state', { trade_state: 'TELEPORTED' }],
    // The library believes the second of two members of one name.
    ['duplicate_key', { trade_state: 'SUCCESS' }],
  ])('%s is a correctly signed answer that the official library takes', async (fault, body) => {
    const { outcome } = await queryUnder({ fault })
    expect(outcome.refusal).toBeNull()
    expect(outcome.body).toMatchObject(body)
  })

  it.each<[FaultName, number, boolean]>([
    ['rate_limit', 429, true],
    ['rate_limit_unsigned', 429, false],
    ['system_error', 500, true],
    ['system_error_unsigned', 500, false],
    ['not_exist', 404, true],
    ['not_exist_unsigned', 404, false],
    ['html502', 502, false],
    ['redirect', 302, false],
    ['empty', 200, true],
    ['bad_json', 200, true],
    ['deep', 200, true],
    ['huge', 200, true],
  ])('%s comes as HTTP %i; signed: %s', async (fault, status, isSigned) => {
    const { sandbox, url } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.addFaults([{ fault }])
    const answer = await sendSignedV3(sandbox.merchantSettings(), url)
    expect(answer.status).toBe(status)
    expect('wechatpay-signature' in answer.headers).toBe(isSigned)
    const { text } = answer
    expect(fault === 'huge' ? text.length > 1024 * 1024 : text.length <= 1024 * 1024).toBe(true)
    expect(text.includes('[[[[')).toBe(fault === 'deep')
    expect(text === '').toBe(fault === 'empty' || fault === 'redirect')
  })

  it('a close whose answer is lost is carried out nevertheless; one refused in front is not', async () => {
    const { sandbox, plugin } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.putTrade('P2', { state: 'NOTPAY', amount: 1000 })
    sandbox.addFaults([
      { fault: 'reset', on: 'close', outTradeNo: 'P1' },
      { fault: 'html502', on: 'close', outTradeNo: 'P2' },
    ])
    expect((await plugin.close('P1')).status).toBeNull()
    expect((await plugin.close('P2')).status).toBe(502)
    expect(sandbox.getTrade('P1')?.state).toBe('CLOSED')
    expect(sandbox.getTrade('P2')?.state).toBe('NOTPAY')
  })

  it('whether the call is carried out can be scripted the other way round', async () => {
    const { sandbox, plugin } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.putTrade('P2', { state: 'NOTPAY', amount: 1000 })
    sandbox.addFaults([
      { fault: 'reset', performed: false, outTradeNo: 'P1' },
      { fault: 'html502', performed: true, outTradeNo: 'P2' },
    ])
    await plugin.close('P1')
    await plugin.close('P2')
    expect(sandbox.getTrade('P1')?.state).toBe('NOTPAY')
    expect(sandbox.getTrade('P2')?.state).toBe('CLOSED')
  })

  it.each<FaultName>(['cut', 'wrong_length'])('%s gives the reader no whole body', async (fault) => {
    const { sandbox, url } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.addFaults([{ fault }])
    // Depending on how the bytes arrive, Node's client sees an error or a body that stops short.
    const text = await sendSignedV3(sandbox.merchantSettings(), url).then(
      (answer) => answer.text,
      () => '',
    )
    expect(() => JSON.parse(text) as unknown).toThrow(SyntaxError)
    expect(sandbox.requests().at(-1)?.fault).toBe(fault)
  })

  it('every fault there is can be played on a query without bringing the gateway down', async () => {
    const { sandbox, plugin } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    for (const fault of FAULT_NAMES) {
      if (fault !== 'primary_down') {
        sandbox.addFaults([{ fault, ms: 1 }])
        await plugin.query('P1')
      }
    }
    expect(sandbox.pendingFaults()).toEqual([])
    expect((await plugin.query('P1')).body).toMatchObject({ trade_state: 'NOTPAY' })
  })
})

describe('APIv2', () => {
  it('every fault there is can be played on a query, and none passes for a paid trade that is signed', async () => {
    const { sandbox, plugin } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    for (const fault of FAULT_NAMES) {
      if (fault !== 'primary_down' && fault !== 'duplicate_key') {
        sandbox.addFaults([{ fault, ms: 1 }])
        const outcome = await plugin.v2('pay/orderquery', { out_trade_no: 'P1' })
        expect([fault, outcome.refusal === null && outcome.body?.['trade_state'] === 'SUCCESS']).toEqual([fault, false])
      }
    }
    expect(sandbox.pendingFaults()).toEqual([])
  })
})

describe('Alipay', () => {
  it.each<FaultName>(['unsigned', 'empty_sign', 'tampered', 'stale', 'unknown_serial', 'wrong_merchant', 'signtest'])(
    '%s is refused by the official library',
    async (fault) => {
      const { sandbox, call } = await startAlipay()
      sandbox.putTrade('P1', { state: 'WAIT_BUYER_PAY', amount: 1000 })
      sandbox.addFaults([{ fault }])
      expect((await call('alipay.trade.query', { out_trade_no: 'P1' })).refusal).not.toBeNull()
      expect((await call('alipay.trade.query', { out_trade_no: 'P1' })).refusal).toBeNull()
    },
  )

  it.each<[FaultName, object]>([
    ['wrong_amount', { total_amount: '10.01' }],
    ['wrong_currency', { trans_currency: 'USD' }],
    ['wrong_order', { out_trade_no: 'P1X' }],
    ['unknown_state', { trade_status: 'TRADE_TELEPORTED' }],
    ['not_exist', { sub_code: 'ACQ.TRADE_NOT_EXIST' }],
    ['system_error', { sub_code: 'ACQ.SYSTEM_ERROR' }],
    ['rate_limit', { code: '40005', sub_code: 'isv.app-call-limited' }],
  ])('%s is a correctly signed answer that the official library takes', async (fault, body) => {
    const { sandbox, call } = await startAlipay()
    sandbox.putTrade('P1', { state: 'WAIT_BUYER_PAY', amount: 1000 })
    sandbox.addFaults([{ fault }])
    const answer = await call('alipay.trade.query', { out_trade_no: 'P1' })
    expect(answer.refusal).toBeNull()
    expect(answer.body).toMatchObject(body)
  })

  it('the duplicate key puts a forged node behind the genuine one', async () => {
    const { sandbox, call } = await startAlipay()
    sandbox.putTrade('P1', { state: 'WAIT_BUYER_PAY', amount: 1000 })
    sandbox.addFaults([{ fault: 'duplicate_key', times: 2 }])
    const outcome = await call('alipay.trade.query', { out_trade_no: 'P1' })
    // With verification on, the official library returns the forgery: this is what a careless reader falls for.
    expect(outcome).toMatchObject({ refusal: null, body: { trade_status: 'TRADE_SUCCESS' } })
  })

  it('every fault there is can be played on a query without bringing the gateway down', async () => {
    const { sandbox, call } = await startAlipay()
    sandbox.putTrade('P1', { state: 'WAIT_BUYER_PAY', amount: 1000 })
    for (const fault of FAULT_NAMES) {
      if (fault !== 'primary_down') {
        sandbox.addFaults([{ fault, ms: 1 }])
        await call('alipay.trade.query', { out_trade_no: 'P1' })
      }
    }
    sandbox.reset()
    expect((await call('alipay.trade.query', { out_trade_no: 'P1' })).body).toMatchObject({
      sub_code: 'ACQ.TRADE_NOT_EXIST',
    })
  })
})

describe('the script', () => {
  it('strikes only the order and the call it names, as often as it says', async () => {
    const { sandbox, plugin } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.putTrade('P2', { state: 'NOTPAY', amount: 1000 })
    sandbox.addFaults([{ fault: 'rate_limit', on: 'query', outTradeNo: 'P1', times: 2 }])
    expect((await plugin.query('P2')).status).toBe(200)
    expect((await plugin.query('P1')).status).toBe(429)
    expect((await plugin.close('P1')).status).toBe(204)
    expect((await plugin.query('P1')).status).toBe(429)
    expect((await plugin.query('P1')).status).toBe(200)
  })

  it('with a rate, the same seed strikes the same calls', async () => {
    async function strikes(seed: number): Promise<string> {
      const { sandbox, plugin } = await startWechat({ seed })
      sandbox.addFaults([{ fault: 'rate_limit', rate: 0.5, times: 1000 }])
      let story = ''
      for (let call = 0; call < 24; call += 1) {
        story += (await plugin.query('P1')).status === 429 ? 'x' : '.'
      }
      return story
    }
    const story = await strikes(7)
    expect(story).toMatch(/x/)
    expect(story).toMatch(/\./)
    expect(await strikes(7)).toBe(story)
    expect(await strikes(8)).not.toBe(story)
  })

  it('plays any other refusal in the gateway’s own codes, signed or not', async () => {
    const { sandbox, url } = await startWechat()
    sandbox.addFaults([
      { fault: 'error', status: 403, code: 'NO_AUTH', message: '商户无权限' },
      { fault: 'error', status: 400, code: 'MCH_NOT_EXISTS', signed: false },
    ])
    const signed = await sendSignedV3(sandbox.merchantSettings(), url)
    expect(signed).toMatchObject({ status: 403, body: { code: 'NO_AUTH', message: '商户无权限' } })
    expect(signed.headers).toHaveProperty('wechatpay-signature')
    const unsigned = await sendSignedV3(sandbox.merchantSettings(), url)
    expect(unsigned).toMatchObject({ status: 400, body: { code: 'MCH_NOT_EXISTS' } })
    expect(unsigned.headers).not.toHaveProperty('wechatpay-signature')
    const alipay = await startAlipay()
    alipay.sandbox.addFaults([{ fault: 'error', code: '20001', subCode: 'aop.invalid-auth-token' }])
    const refused = await alipay.call('alipay.trade.query', { out_trade_no: 'P1' })
    expect(refused).toMatchObject({ refusal: null, body: { code: '20001', sub_code: 'aop.invalid-auth-token' } })
  })

  it('refuses a fault that does not exist', async () => {
    const { sandbox } = await startWechat()
    expect(() => sandbox.addFaults([{ fault: 'earthquake' as FaultName }])).toThrow(/fault/)
  })
})

describe('the connection', () => {
  it('a held call was carried out, and is answered when released', async () => {
    const { sandbox, plugin } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    const hold = sandbox.holdNext('query', 'P1')
    const held = plugin.query('P1')
    await hold.arrived
    // The answer was made before this, and is the older truth.
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    const second = plugin.query('P1')
    expect((await second).body).toMatchObject({ trade_state: 'SUCCESS' })
    hold.release()
    expect((await held).body).toMatchObject({ trade_state: 'NOTPAY' })
    expect(sandbox.calls('P1')).toMatchObject({ query: 2, queriesInFlight: 0, queriesInFlightMax: 2 })
  })

  it('a call whose caller hung up is no longer in flight', async () => {
    const { sandbox, url } = await startWechat()
    sandbox.putTrade('P1', { state: 'NOTPAY', amount: 1000 })
    sandbox.addFaults([{ fault: 'hang' }])
    const impatient = createWechatPlugin(sandbox.merchantSettings(), { timeout: 100 })
    expect((await impatient.query('P1')).refusal).toBe('ECONNABORTED')
    // A request on a new connection comes after the end of the old one.
    await sendRaw(`${url}/_sandbox/requests`)
    expect(sandbox.calls('P1')).toMatchObject({ query: 1, queriesInFlight: 0, queriesInFlightMax: 1 })
  })

  it('with the primary down, connections to it are refused and the backup answers', async () => {
    const { sandbox, backupUrl } = await startWechat({ backup: true })
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    const settings = sandbox.merchantSettings()
    expect(settings['WECHAT_BASE_URLS']).toContain(`,${backupUrl ?? ''}`)
    await sandbox.stopPrimary()
    expect((await createWechatPlugin(settings).query('P1')).refusal).toBe('ECONNREFUSED')
    const onBackup = createWechatPlugin({ ...settings, WECHAT_BASE_URLS: backupUrl ?? '' })
    expect((await onBackup.query('P1')).body).toMatchObject({ trade_state: 'SUCCESS' })
    await sandbox.startPrimary()
    expect((await createWechatPlugin(settings).query('P1')).refusal).toBeNull()
  })

  it('idle connections can be dropped at once, as the real gateway drops them after 8 s', async () => {
    const { sandbox, url } = await startWechat()
    const agent = new Agent({ keepAlive: true })
    const closed = new Promise<void>((resolve) => {
      get(`${url}/_sandbox/requests`, { agent }, (response) => {
        expect(response.headers['keep-alive']).toBe('timeout=8')
        response.resume()
        response.socket.once('close', resolve)
        response.once('end', () => setImmediate(() => sandbox.dropIdleConnections()))
      })
    })
    await closed
    agent.destroy()
  })

  it('closed and listening again, it has the same keys, trades and faults', async () => {
    const { sandbox, url, plugin } = await startWechat()
    sandbox.putTrade('P1', { state: 'SUCCESS', amount: 1000 })
    await sandbox.close()
    await sandbox.listen(Number(new URL(url).port))
    expect((await plugin.query('P1')).body).toMatchObject({ trade_state: 'SUCCESS' })
  })
})

describe('control over HTTP', () => {
  const send = async (url: string, method: string, route: string, body?: unknown) => {
    const answer = await sendRaw(`${url}${route}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: answer.status, body: answer.text === '' ? null : (JSON.parse(answer.text) as unknown) }
  }

  it('puts and gets trades, scripts faults, shows requests, forgets all', async () => {
    const { url, plugin } = await startWechat()
    const trade = { state: 'SUCCESS', amount: 1000, transactionId: 'T1', paidAt: '2024-03-15T06:47:19+08:00' }
    const put = await send(url, 'PUT', '/_sandbox/trades/P%2F1', trade)
    expect(put).toMatchObject({ status: 200, body: { outTradeNo: 'P/1', paidAt: '2024-03-14T22:47:19.000Z' } })
    expect(await send(url, 'GET', '/_sandbox/trades/P%2F1')).toEqual(put)
    // What GET gives can be put back.
    expect((await send(url, 'PUT', '/_sandbox/trades/P%2F1', put.body)).status).toBe(200)
    expect((await send(url, 'GET', '/_sandbox/trades/P2')).status).toBe(404)
    const faults = [{ on: 'query', fault: 'system_error', times: 1 }]
    expect((await send(url, 'POST', '/_sandbox/faults', faults)).status).toBe(200)
    await plugin.query('P2')
    const requests = (await send(url, 'GET', '/_sandbox/requests')).body as { signature: string; fault: string }[]
    expect(requests).toMatchObject([
      { operation: 'v3.query', outTradeNo: 'P2', signature: 'valid', verdict: 'valid', fault: 'system_error' },
    ])
    expect((await send(url, 'DELETE', '/_sandbox')).status).toBe(204)
    expect((await send(url, 'GET', '/_sandbox/requests')).body).toEqual([])
    expect((await send(url, 'GET', '/_sandbox/trades/P%2F1')).status).toBe(404)
  })

  it.each<[string, string, unknown]>([
    ['PUT', '/_sandbox/trades/P1', { state: 'SETTLED', amount: 1000 }],
    ['PUT', '/_sandbox/trades/P1', { state: 'SUCCESS' }],
    ['PUT', '/_sandbox/trades/P1', { state: 'SUCCESS', amount: 10.5 }],
    ['POST', '/_sandbox/faults', [{ fault: 'earthquake' }]],
    ['POST', '/_sandbox/faults', { fault: 'hang' }],
  ])('%s %s %j is a 400 that says why', async (method, route, body) => {
    const { url } = await startWechat()
    const answer = await send(url, method, route, body)
    expect(answer.status).toBe(400)
    expect((answer.body as { error: string }).error).not.toBe('')
  })

  it('takes the primary down for a while', async () => {
    const { sandbox, url, backupUrl } = await startWechat({ backup: true })
    const answer = await send(backupUrl ?? '', 'POST', '/_sandbox/faults', [{ fault: 'primary_down', ms: 600_000 }])
    expect(answer.status).toBe(200)
    await expect(sendRaw(`${url}/_sandbox/requests`)).rejects.toThrow('ECONNREFUSED')
    await sandbox.startPrimary()
    expect((await sendRaw(`${url}/_sandbox/requests`)).status).toBe(200)
  })
})

describe('production', () => {
  it.each([createWechatSandbox, createAlipaySandbox])('%o refuses to exist there', (create) => {
    const before = process.env['NODE_ENV']
    process.env['NODE_ENV'] = 'production'
    try {
      expect(() => create()).toThrow(/production/)
    } finally {
      process.env['NODE_ENV'] = before
    }
  })
})
