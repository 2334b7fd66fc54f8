import { generateKeyPairSync, sign } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import { pemOf } from './alipay-answers.js'

export const MCH_ID = '1900000109'
export const APP_ID = 'wx8888888888888888'
export const SERIAL = 'PUB_KEY_ID_0119000001092026000000000000000001'
export const MERCHANT = generateKeyPairSync('rsa', { modulusLength: 2048 })
export const PLATFORM = generateKeyPairSync('rsa', { modulusLength: 2048 })

/** A paid trade of 10 yuan; `change` replaces members, undefined takes one away. */
export function paidTrade(change: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    amount: { currency: 'CNY', payer_currency: 'CNY', payer_total: 1000, total: 1000 },
    appid: APP_ID,
    mchid: MCH_ID,
    out_trade_no: 'P1',
    success_time: '2026-11-24T11:04:05+08:00',
    trade_state: 'SUCCESS',
    trade_state_desc: '支付成功',
    transaction_id: '4200000000000000000000000001',
    ...change,
  })
}

/** The four headers that vouch for a body. */
export function signed(body: string | Buffer, atMs = Date.now()): Record<string, string> {
  const timestamp = String(Math.floor(atMs / 1000))
  const text = Buffer.concat([Buffer.from(`${timestamp}\nnonce\n`), Buffer.from(body), Buffer.from('\n')])
  return {
    'Wechatpay-Timestamp': timestamp,
    'Wechatpay-Nonce': 'nonce',
    'Wechatpay-Serial': SERIAL,
    'Wechatpay-Signature': sign('sha256', text, PLATFORM.privateKey).toString('base64'),
  }
}

export type Respond = (request: IncomingMessage, response: ServerResponse, body: string) => void

/** A gateway that answers each request as the test says, byte for byte where it likes; and a merchant's settings for it. */
export async function startAnsweringWechat(respond: Respond) {
  const targets: string[] = []
  const server = createServer((request, response) => {
    targets.push(request.url ?? '')
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => respond(request, response, Buffer.concat(chunks).toString()))
    // A client that gave up is no failure of the test.
    request.on('error', () => undefined)
    response.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    targets,
    settings: {
      WECHAT_MCH_ID: MCH_ID,
      WECHAT_APP_ID: APP_ID,
      WECHAT_PRIVATE_KEY: pemOf(MERCHANT.privateKey),
      WECHAT_CERT_SERIAL: '5F1C72E2A8931B72',
      WECHAT_PUBLIC_KEY_ID: SERIAL,
      WECHAT_PUBLIC_KEY: pemOf(PLATFORM.publicKey),
      WECHAT_BASE_URLS: `http://127.0.0.1:${port}`,
    },
    stop(): void {
      server.close()
      server.closeAllConnections()
    },
  }
}
