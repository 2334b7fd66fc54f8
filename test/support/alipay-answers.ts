import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { loadConfig } from '../../src/config.js'
import { createAlipay } from '../../src/gateways/alipay/setup.js'
import type { Gateway } from '../../src/gateways/gateway.js'
import { createLog } from '../../src/log.js'
import { SILENT_OBSERVER } from './silent-observer.js'

export const QUERY_NODE = 'alipay_trade_query_response'
export const APP = generateKeyPairSync('rsa', { modulusLength: 2048 })
export const ALIPAY = generateKeyPairSync('rsa', { modulusLength: 2048 })

export const pemOf = (key: KeyObject): string =>
  key.export({ type: key.type === 'private' ? 'pkcs8' : 'spki', format: 'pem' }).toString()

export function signedBy(text: string | Buffer, key: KeyObject = ALIPAY.privateKey): string {
  return sign('sha256', Buffer.from(text), key).toString('base64')
}

/** A query's answer as Alipay writes it: slashes escaped, the node signed as it stands. */
export function answerOf(node: string, name = QUERY_NODE): string {
  return `{"${name}":${node},"sign":"${signedBy(node)}"}`
}

/** A paid trade of 10 yuan; `change` replaces members, undefined takes one away. */
export function paidNode(change: Readonly<Record<string, unknown>> = {}): string {
  const node = {
    code: '10000',
    msg: 'Success',
    buyer_pay_amount: '9.00',
    out_trade_no: 'P1',
    send_pay_date: '2026-11-24 11:04:05',
    subject: '订单/P1',
    total_amount: '10.00',
    trade_no: '2026112422001400000000000001',
    trade_status: 'TRADE_SUCCESS',
    ...change,
  }
  return JSON.stringify(node).replaceAll('/', '\\/')
}

export type SentForm = Readonly<Record<string, string>>

/** Alipay's client against a gateway that answers the very bytes that `answer` gives for each request's parameters. */
export async function startAnswering(
  answer: (form: SentForm) => Readonly<{ status?: number; body: string | Buffer }>,
  settings: Readonly<Record<string, string>> = {},
): Promise<{
  gateway: Gateway
  /** As another client of the same answers is given them. */
  merchantSettings: Record<string, string>
  forms: SentForm[]
  lines: Record<string, unknown>[]
  stop: () => Promise<void>
}> {
  const forms: SentForm[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      // Alipay takes parameters from either place; alipay-sdk puts all but the content into the query.
      const { searchParams } = new URL(request.url ?? '/', 'http://127.0.0.1')
      const sent = new URLSearchParams(Buffer.concat(chunks).toString('utf8'))
      const form = Object.fromEntries([...searchParams, ...sent])
      forms.push(form)
      const { status = 200, body } = answer(form)
      response.writeHead(status, { 'content-type': 'text/html;charset=utf-8' }).end(body)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const lines: Record<string, unknown>[] = []
  const merchantSettings: Record<string, string> = {
    ALIPAY_APP_ID: '9021000100000001',
    ALIPAY_PRIVATE_KEY: pemOf(APP.privateKey),
    ALIPAY_GATEWAY_URL: `http://127.0.0.1:${port}/gateway.do`,
    ...('ALIPAY_CERT' in settings ? {} : { ALIPAY_PUBLIC_KEY: pemOf(ALIPAY.publicKey) }),
    ...settings,
  }
  const { gateway, close } = createAlipay(
    loadConfig({ SIGN_REQUIRED: 'false', GATEWAY_TIMEOUT_MS: '3000', ...merchantSettings }),
    {
      log: createLog('info', { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }),
      observer: SILENT_OBSERVER,
      now: Date.now,
      random: () => 0,
    },
  )
  return {
    gateway,
    merchantSettings,
    forms,
    lines,
    async stop() {
      close()
      server.closeAllConnections()
      await new Promise((resolve) => {
        server.close(resolve)
      })
    },
  }
}
