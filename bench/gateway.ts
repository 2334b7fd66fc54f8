// Both gateways as one cheap process: every request's signature is really verified and every answer really signed, so
// that the clients do all of their work. An answer that was signed is used again while its timestamp is good, since the
// gateway's own CPU is not what is measured. What an order number stands for is told by its first letter:
//   N not paid   P paid   X not paid until it is closed   S not paid, answered slowly
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { promisify } from 'node:util'

import type { GatewaySettings } from './keys.js'

const signAsync = promisify(sign)

/** WeChat's clients take an answer for 300 s; ours is signed anew well before, and when warmed, earlier. Seconds. */
const WECHAT_ANSWER_LIFE_S = 200
const WECHAT_WARM_LIFE_S = 60
const ANSWERS_KEPT_MAX = 400_000
/** What one S order's answer takes beyond the others'. Milliseconds. */
const SLOW_MS = 500

export const AMOUNT_FEN = 1000

type Answer = Readonly<{ status: number; headers: Readonly<Record<string, string>>; body: string; signedAtS: number }>

const settings = JSON.parse(process.env['BENCH_GATEWAY'] ?? '{}') as GatewaySettings
const wechatMerchantKey = createPublicKey(settings.wechatMerchantPublicKey)
const wechatPlatformKey = createPrivateKey(settings.wechatPlatformPrivateKey)
const alipayAppKey = createPublicKey(settings.alipayAppPublicKey)
const alipayKey = createPrivateKey(settings.alipayPrivateKey)

const answers = new Map<string, Answer>()
const closed = new Set<string>()
/** How long each order's requests were held here, in microseconds, since last asked. */
let heldUs = new Map<string, number>()
let isHeldKept = false
let latencyMs = 0

const server = createServer((request, response) => {
  const receivedMs = performance.now()
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    route(request, response, Buffer.concat(chunks), receivedMs).catch((error: unknown) => {
      console.error(error)
      response.writeHead(500).end()
    })
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  console.log(JSON.stringify({ port: typeof address === 'object' && address !== null ? address.port : 0 }))
})

async function route(request: IncomingMessage, response: ServerResponse, body: Buffer, receivedMs: number) {
  const url = request.url ?? ''
  if (url.startsWith('/_bench/')) return control(url, response, body)
  const { outTradeNo, answer } = url.startsWith('/v3/')
    ? await wechat(request, url, body)
    : await alipay(body.toString('utf8'))
  const holdMs = latencyMs + (outTradeNo.startsWith('S') ? SLOW_MS : 0)
  const reply = () => {
    response.writeHead(answer.status, answer.headers).end(answer.body)
    if (isHeldKept)
      heldUs.set(outTradeNo, (heldUs.get(outTradeNo) ?? 0) + Math.round((performance.now() - receivedMs) * 1000))
  }
  if (holdMs === 0) reply()
  else setTimeout(reply, holdMs)
}

/** `latency` sets it, `holds` says how long each order was held, `reset` forgets closes, `warm` signs in advance. */
async function control(url: string, response: ServerResponse, body: Buffer): Promise<void> {
  const asked = new URL(url, 'http://gateway')
  let told: unknown = null
  if (asked.pathname === '/_bench/latency') {
    latencyMs = Number(asked.searchParams.get('ms'))
    isHeldKept = asked.searchParams.get('holds') === 'true'
    heldUs = new Map()
  } else if (asked.pathname === '/_bench/holds') told = Object.fromEntries(heldUs)
  else if (asked.pathname === '/_bench/reset') closed.clear()
  else if (asked.pathname === '/_bench/warm') {
    for (const outTradeNo of body.toString('utf8').split('\n')) {
      for (const state of outTradeNo.startsWith('X') ? ['open', 'closed'] : ['open']) {
        if (asked.searchParams.get('channel') === 'ali_pay') await alipayQueryAnswer(outTradeNo, state)
        else await wechatQueryAnswer(outTradeNo, state, WECHAT_WARM_LIFE_S)
      }
    }
  }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(told))
}

const AUTHORIZATION =
  /^WECHATPAY2-SHA256-RSA2048 mchid="([^"]*)",nonce_str="([^"]*)",signature="([^"]*)",timestamp="(\d+)",serial_no="([^"]*)"$/

async function wechat(request: IncomingMessage, url: string, body: Buffer) {
  const [, mchId, nonce, signature, timestamp] = AUTHORIZATION.exec(request.headers.authorization ?? '') ?? []
  const signed = `${request.method ?? ''}\n${url}\n${timestamp ?? ''}\n${nonce ?? ''}\n${body.toString('utf8')}\n`
  const isGenuine =
    mchId === settings.wechatMchId &&
    isSignedBy(wechatMerchantKey, signed, signature) &&
    Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300
  const outTradeNo = decodeURIComponent(/out-trade-no\/([^/?]+)/.exec(url)?.[1] ?? '')
  if (!isGenuine) return { outTradeNo, answer: await wechatAnswer('sign', 401, '{"code":"SIGN_ERROR","message":""}') }
  if (request.method === 'POST') {
    closed.add(outTradeNo)
    return { outTradeNo, answer: await wechatAnswer('close', 204, '') }
  }
  return { outTradeNo, answer: await wechatQueryAnswer(outTradeNo, stateOf(outTradeNo)) }
}

function stateOf(outTradeNo: string): string {
  return closed.has(outTradeNo) ? 'closed' : 'open'
}

async function wechatQueryAnswer(outTradeNo: string, state: string, lifeS = WECHAT_ANSWER_LIFE_S): Promise<Answer> {
  const isPaid = outTradeNo.startsWith('P')
  const trade = {
    ...(isPaid
      ? { amount: { currency: 'CNY', payer_currency: 'CNY', payer_total: AMOUNT_FEN, total: AMOUNT_FEN } }
      : {}),
    ...(isPaid ? {} : { amount: { total: AMOUNT_FEN } }),
    appid: settings.wechatAppId,
    attach: '',
    ...(isPaid ? { bank_type: 'OTHERS' } : {}),
    mchid: settings.wechatMchId,
    out_trade_no: outTradeNo,
    ...(isPaid ? { payer: { openid: 'oBenchBuyerOpenId00000000001' }, success_time: '2026-01-02T03:04:05+08:00' } : {}),
    promotion_detail: [],
    trade_state: isPaid ? 'SUCCESS' : state === 'closed' ? 'CLOSED' : 'NOTPAY',
    trade_state_desc: isPaid ? '支付成功' : '订单未支付',
    trade_type: 'NATIVE',
    ...(isPaid ? { transaction_id: `42000${outTradeNo.slice(1)}` } : {}),
  }
  return await wechatAnswer(`wechat ${outTradeNo} ${state}`, 200, () => JSON.stringify(trade), lifeS)
}

async function wechatAnswer(
  name: string,
  status: number,
  body: string | (() => string),
  lifeS = WECHAT_ANSWER_LIFE_S,
): Promise<Answer> {
  const nowS = Math.floor(Date.now() / 1000)
  const known = answers.get(name)
  if (known !== undefined && nowS - known.signedAtS < lifeS) return known
  const text = typeof body === 'string' ? body : body()
  const nonce = '00112233445566778899aabbccddeeff'
  const signature = await signed(wechatPlatformKey, `${nowS}\n${nonce}\n${text}\n`)
  const headers = {
    ...(text === '' ? {} : { 'content-type': 'application/json; charset=utf-8' }),
    ...(status === 204 ? {} : { 'content-length': String(Buffer.byteLength(text)) }),
    'wechatpay-timestamp': String(nowS),
    'wechatpay-nonce': nonce,
    'wechatpay-signature': signature,
    'wechatpay-serial': settings.wechatPublicKeyId,
    'request-id': '0B00000000000000000000000000000000000000000-0',
  }
  return keep(name, { status, headers, body: text, signedAtS: nowS })
}

async function alipay(form: string) {
  const parameters = new URLSearchParams(form)
  const signature = parameters.get('sign') ?? ''
  parameters.delete('sign')
  parameters.sort()
  const signed = [...parameters].map(([name, value]) => `${name}=${value}`).join('&')
  const method = parameters.get('method') ?? ''
  const { out_trade_no: outTradeNo } = JSON.parse(parameters.get('biz_content') ?? '{}') as { out_trade_no: string }
  if (parameters.get('app_id') !== settings.alipayAppId || !isSignedBy(alipayAppKey, signed, signature))
    return {
      outTradeNo,
      answer: await alipayAnswer('sign', 'error', { code: '40002', sub_code: 'isv.invalid-signature' }),
    }
  if (method === 'alipay.trade.close') {
    closed.add(outTradeNo)
    const node = { code: '10000', msg: 'Success', out_trade_no: outTradeNo, trade_no: `2026${outTradeNo.slice(1)}` }
    return { outTradeNo, answer: await alipayAnswer(`close ${outTradeNo}`, 'alipay_trade_close', node) }
  }
  return { outTradeNo, answer: await alipayQueryAnswer(outTradeNo, stateOf(outTradeNo)) }
}

async function alipayQueryAnswer(outTradeNo: string, state: string): Promise<Answer> {
  const isPaid = outTradeNo.startsWith('P')
  const node = {
    code: '10000',
    msg: 'Success',
    buyer_logon_id: '135****0000',
    buyer_pay_amount: isPaid ? '10.00' : '0.00',
    buyer_user_id: '2088000000000001',
    invoice_amount: '0.00',
    out_trade_no: outTradeNo,
    point_amount: '0.00',
    receipt_amount: isPaid ? '10.00' : '0.00',
    ...(isPaid ? { send_pay_date: '2026-01-02 03:04:05' } : {}),
    total_amount: '10.00',
    trade_no: `2026${outTradeNo.slice(1)}`,
    trade_status: isPaid ? 'TRADE_SUCCESS' : state === 'closed' ? 'TRADE_CLOSED' : 'WAIT_BUYER_PAY',
  }
  return await alipayAnswer(`alipay ${outTradeNo} ${state}`, 'alipay_trade_query', node)
}

async function alipayAnswer(name: string, method: string, node: object): Promise<Answer> {
  const known = answers.get(name)
  if (known !== undefined) return known
  const text = JSON.stringify(node)
  const body = `{"${method}_response":${text},"sign":"${await signed(alipayKey, text)}"}`
  const headers = { 'content-type': 'text/html;charset=utf-8', 'content-length': String(Buffer.byteLength(body)) }
  return keep(name, { status: 200, headers, body, signedAtS: 0 })
}

function keep(name: string, answer: Answer): Answer {
  if (answers.size >= ANSWERS_KEPT_MAX) answers.clear()
  answers.set(name, answer)
  return answer
}

function isSignedBy(key: KeyObject, text: string, signature: string | undefined): boolean {
  return verify('sha256', Buffer.from(text), key, Buffer.from(signature ?? '', 'base64'))
}

async function signed(key: KeyObject, text: string): Promise<string> {
  return (await signAsync('sha256', Buffer.from(text), key)).toString('base64')
}
