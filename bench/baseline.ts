// What one sync costs at the least: the same durable work as the service's, and nothing around it. The same two
// statements, the same signed query and verified answer, the same answer to the merchant. No checks of amounts and
// identities, no budget, breaker, retry, deadline, masking, log or metric. Its SQL is written here by hand, on purpose:
// the service's may not become slower without the comparison showing it.
import { createHash, createPrivateKey, createPublicKey, randomBytes, randomUUID, sign, verify } from 'node:crypto'
import http, { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { promisify } from 'node:util'

import pg from 'pg'

const signAsync = promisify(sign)
const environment = (name: string) => process.env[name] ?? ''

const SECRET = environment('SIGN_SECRETS')
const LEASE_MS = 34_000
const WECHAT_URL = new URL(environment('WECHAT_BASE_URLS'))
const ALIPAY_URL = new URL(environment('ALIPAY_GATEWAY_URL'))
const WECHAT_MCH_ID = environment('WECHAT_MCH_ID')
const WECHAT_CERT_SERIAL = environment('WECHAT_CERT_SERIAL')
const WECHAT_PUBLIC_KEY_ID = environment('WECHAT_PUBLIC_KEY_ID')
const ALIPAY_APP_ID = environment('ALIPAY_APP_ID')
const wechatKey = createPrivateKey(environment('WECHAT_PRIVATE_KEY'))
const wechatPlatformKey = createPublicKey(environment('WECHAT_PUBLIC_KEY'))
const alipayAppKey = createPrivateKey(environment('ALIPAY_PRIVATE_KEY'))
const alipayKey = createPublicKey(environment('ALIPAY_PUBLIC_KEY'))

const pool = new pg.Pool({
  connectionString: environment('DATABASE_URL'),
  max: Number(environment('DATABASE_POOL_MAX')),
})
const agent = new http.Agent({ keepAlive: true, maxSockets: 1000, maxFreeSockets: 1000 })
const loopDelay = monitorEventLoopDelay({ resolution: 10 })
loopDelay.enable()

const ORDER_COLUMNS = `id, business_no, title, channel, pay_way, amount_fen, currency, status, out_trade_no,
  gateway_order_no, created_at, expires_at, pay_time, close_time, notify_url, attach, version, sync_failures, reversed_at,
  reversal_begun_at`

const LEASE = {
  name: 'lease_by_id',
  text: `
WITH leased AS (
  UPDATE orders SET lease_token = $2, lease_expires_at = clock_timestamp() + $3::int * interval '1 millisecond',
    next_sync_at = CASE WHEN $5 AND status = 'close'
      THEN least(next_sync_at, clock_timestamp() + ($3::int + 2000) * interval '1 millisecond') ELSE next_sync_at END
  WHERE id = $1 AND channel = ANY($4::text[]) AND (lease_token IS NULL OR lease_expires_at <= clock_timestamp())
  RETURNING ${ORDER_COLUMNS}, lease_expires_at
), seen AS (
  SELECT ${ORDER_COLUMNS}, true AS acquired, true AS askable FROM leased
  UNION ALL
  SELECT ${ORDER_COLUMNS}, false, channel = ANY($4::text[]) FROM orders
  WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM leased)
)
SELECT seen.*, t.now AS taken_at, expires_at <= t.now AS expired,
  extract(epoch FROM t.now - created_at)::float8 AS age_s,
  extract(epoch FROM expires_at - t.now)::float8 AS expires_in_s,
  extract(epoch FROM t.now - close_time)::float8 AS closed_for_s,
  extract(epoch FROM t.now - reversed_at)::float8 AS reversed_for_s,
  extract(epoch FROM t.now - greatest(reversed_at, reversal_begun_at))::float8 AS reversal_for_s,
  CASE WHEN acquired AND status <> 'close' THEN set_config('synchronous_commit', 'off', true) END AS synchronous_commit
FROM seen, (SELECT clock_timestamp() AS now) AS t`,
}

const COMMIT_UNCHANGED = {
  name: 'commit_sync_unchanged',
  text: `
WITH guard AS (
  UPDATE orders SET next_sync_at = clock_timestamp() + $4::float8 * interval '1 second', sync_failures = $5,
    lease_token = NULL, lease_expires_at = NULL
  WHERE id = $1 AND lease_token = $2 AND version = $3 RETURNING id, channel
)
INSERT INTO sync_records (order_id, trace_id, source, actor, client_ip, outcome, gateway_status, trade_state, decision,
  error_code, error_msg, exchanges, duration_ms, gateway_ms, channel)
SELECT id, $6::text, $7, $8::text, $9, $10, $11::text, $12, $13, $14, $15, $16::jsonb, $17, $18, channel FROM guard
RETURNING id AS sync_id, repair_no, false AS exception_opened`,
}

const COMMIT_CHANGE = {
  name: 'commit_sync',
  text: `
WITH guard AS (
  UPDATE orders SET next_sync_at = clock_timestamp() + $4::float8 * interval '1 second', sync_failures = $5,
    lease_token = NULL, lease_expires_at = NULL, status = $19::text, gateway_order_no = $20, pay_time = $21, close_time = $22,
    version = version + CASE WHEN $23::text IS NULL THEN 0 ELSE 1 END,
    reversed_at = CASE WHEN $24::text = 'accepted' THEN clock_timestamp() ELSE reversed_at END,
    reversal_begun_at = CASE WHEN $24::text = 'not_done' THEN $25::timestamptz ELSE reversal_begun_at END
  WHERE id = $1 AND lease_token = $2 AND version = $3
  RETURNING id, amount_fen, channel
), numbered AS MATERIALIZED (
  SELECT id, amount_fen, channel, CASE WHEN $23::text IS NOT NULL THEN next_repair_no() END AS repair_no FROM guard
), sync AS (
  INSERT INTO sync_records (order_id, trace_id, source, actor, client_ip, outcome, gateway_status, trade_state, decision,
    error_code, error_msg, exchanges, duration_ms, gateway_ms, channel, repair_no)
  SELECT id, $6::text, $7, $8::text, $9, $10, $11::text, $12, $13, $14, $15, $16::jsonb, $17, $18, channel, repair_no
  FROM numbered
  RETURNING id, order_id, repair_no
), repair AS (
  INSERT INTO repair_records (repair_no, order_id, sync_id, way, gateway_status, status_before, status_after, amount_fen, actor)
  SELECT sync.repair_no, sync.order_id, sync.id, $23::text, $11::text, $26, $19::text, numbered.amount_fen, $8::text
  FROM sync, numbered WHERE sync.repair_no IS NOT NULL
  RETURNING repair_no, order_id
), older AS MATERIALIZED (
  SELECT id, state, claim_token IS NOT NULL AND next_attempt_at > clock_timestamp() AS is_being_sent
  FROM notices WHERE order_id = $1 AND $27::text IS NOT NULL AND EXISTS (SELECT 1 FROM repair) FOR UPDATE
), superseded AS (
  UPDATE notices SET state = 'superseded', next_attempt_at = NULL, delivered_at = NULL
  WHERE order_id = $1 AND id = ANY(ARRAY(SELECT id FROM older WHERE state IN ('pending', 'dead')))
), notice AS (
  INSERT INTO notices (order_id, repair_no, trace_id, url, host, payload, traceparent, next_attempt_at)
  SELECT order_id, repair_no, $6::text, $27::text, $28, $29::jsonb, $30, clock_timestamp() + CASE
    WHEN EXISTS (SELECT 1 FROM older WHERE is_being_sent) THEN 10 ELSE 0 END * interval '1 second'
  FROM repair WHERE $27::text IS NOT NULL
), opened AS (
  INSERT INTO sync_exceptions AS e (order_id, sync_id, kind, at_risk_fen, fingerprint, evidence)
  SELECT order_id, id, $31::text, $32, $33::text, $34::jsonb FROM sync
  WHERE $31::text IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sync_exceptions r
    WHERE r.order_id = $1 AND r.kind = $31::text AND r.fingerprint = $33::text AND r.state = 'resolved')
  ON CONFLICT (order_id, kind, fingerprint) WHERE state = 'open'
    DO UPDATE SET last_seen_at = clock_timestamp(), seen_count = e.seen_count + 1
  RETURNING seen_count
)
SELECT sync.id AS sync_id, sync.repair_no, coalesce((SELECT seen_count = 1 FROM opened), false) AS exception_opened FROM sync`,
}

type OrderRow = {
  id: string
  business_no: string
  channel: string
  amount_fen: string
  status: string
  out_trade_no: string
  gateway_order_no: string | null
  created_at: Date
  pay_time: Date | null
  close_time: Date | null
  notify_url: string | null
  attach: string | null
  version: number
  acquired: boolean
  taken_at: Date
  expired: boolean
}
type State = 'paid' | 'paying' | 'closed'
type Trade = { state: State; gatewayOrderNo: string | null; paidAt: Date | null }
type Exchange = { method: string; host: string; path: string; status: number; durationMs: number; body: string }
type Reply = { status: number; headers: IncomingHttpHeaders; body: Buffer }

const server = http.createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    answer(request, Buffer.concat(chunks).toString('utf8')).then(
      (body) => send(response, body),
      (error: unknown) => {
        console.error(error)
        send(response, JSON.stringify({ msg: '系统错误', code: 10001, data: null, traceId: newTraceId() }))
      },
    )
  })
})
server.keepAliveTimeout = 72_000
server.listen(Number(environment('PORT')), '127.0.0.1')
process.once('SIGTERM', () => process.exit(0))

function send(response: ServerResponse, body: string): void {
  response.writeHead(200, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  })
  response.end(body)
}

async function answer(request: IncomingMessage, body: string): Promise<string> {
  if (request.url === '/readyz') return '{}'
  if (request.url === '/metrics') {
    const p99S = loopDelay.percentile(99) / 1e9
    loopDelay.reset()
    return `unipay_nodejs_eventloop_lag_p99_seconds ${p99S}\n`
  }
  const traceId = newTraceId()
  // The id has 19 digits, which JSON.parse would round.
  const paymentId = /"paymentId":(\d+)/.exec(body)?.[1] ?? ''
  const { reqTime, sign: given } = JSON.parse(body) as { reqTime: number; sign: string }
  if (md5(`paymentId=${paymentId}&reqTime=${reqTime}&key=${SECRET}`) !== given)
    return JSON.stringify({ msg: '未通过签名验证', code: 20000, data: null, traceId })
  return await sync(paymentId, traceId)
}

async function sync(paymentId: string, traceId: string): Promise<string> {
  const startedMs = performance.now()
  const token = randomUUID()
  const leased = await pool.query<OrderRow>({
    ...LEASE,
    values: [paymentId, token, LEASE_MS, ['wechat_pay', 'ali_pay'], true],
  })
  const order = leased.rows[0]
  if (order === undefined) return JSON.stringify({ msg: '未查询到支付订单', code: 20000, data: null, traceId })
  if (!order.acquired) return JSON.stringify({ msg: '支付同步处理中，请勿重复操作', code: 10007, data: null, traceId })

  const exchanges: Exchange[] = []
  const ask = order.channel === 'ali_pay' ? askAlipay : askWechat
  let trade = await ask(order.out_trade_no, 'query', exchanges)
  let decision = trade.state === 'paid' ? (order.status === 'success' ? 'none' : 'settle') : 'wait'
  if (trade.state === 'paying' && order.expired) {
    await ask(order.out_trade_no, 'close', exchanges)
    trade = await ask(order.out_trade_no, 'query', exchanges)
    decision = 'close_gateway'
  }
  const gatewayStatus =
    decision === 'close_gateway' ? 'pay_timeout' : trade.state === 'paid' ? 'pay_success' : 'pay_progress'
  const durationMs = performance.now() - startedMs
  const result = { decision, gatewayStatus, exchanges, traceId, durationMs }
  const record = recordValues(order, token, trade, result)
  const change = changeValues(order, trade, result)
  const committed = await pool.query<{ repair_no: string | null }>(
    change === null ? { ...COMMIT_UNCHANGED, values: record } : { ...COMMIT_CHANGE, values: [...record, ...change] },
  )
  const row = committed.rows[0]
  if (row === undefined) throw new Error('lease lost')
  const repair = row.repair_no !== null
  const data = { gatewayStatus, success: true, repair, repairOrderNo: row.repair_no, errorMsg: '' }
  const repairText = repair ? `&repairOrderNo=${row.repair_no}` : ''
  const sign = md5(`gatewayStatus=${gatewayStatus}&repair=${String(repair)}${repairText}&key=${SECRET}`)
  return JSON.stringify({ msg: 'success', code: 0, data, sign, traceId })
}

type Result = {
  decision: string
  gatewayStatus: string
  exchanges: Exchange[]
  traceId: string
  durationMs: number
}

function recordValues(order: OrderRow, token: string, trade: Trade, result: Result): unknown[] {
  return [
    order.id,
    token,
    order.version,
    result.decision === 'wait' ? 300 : null,
    0,
    result.traceId,
    'merchant',
    null,
    null,
    'synced',
    result.gatewayStatus,
    trade.state,
    result.decision,
    null,
    null,
    JSON.stringify(result.exchanges),
    Math.round(result.durationMs),
    result.exchanges.reduce((sum, { durationMs }) => sum + durationMs, 0),
  ]
}

function changeValues(order: OrderRow, trade: Trade, { decision }: Result): unknown[] | null {
  if (decision !== 'settle' && decision !== 'close_gateway') return null
  const status = decision === 'settle' ? 'success' : 'close'
  const payTime = decision === 'settle' ? trade.paidAt : order.pay_time
  const closeTime = decision === 'close_gateway' ? order.taken_at : order.close_time
  const seconds = (time: Date | null) => (time === null ? null : Math.floor(time.getTime() / 1000))
  const payload = {
    paymentId: order.id,
    businessNo: order.business_no,
    asyncPay: true,
    asyncChannel: order.channel,
    amount: Number(order.amount_fen),
    payChannels: [{ channel: order.channel, way: 'qrcode', amount: Number(order.amount_fen) }],
    status,
    createTime: seconds(order.created_at),
    payTime: seconds(payTime),
    closeTime: seconds(closeTime),
    attach: order.attach,
  }
  return [
    status,
    trade.gatewayOrderNo ?? order.gateway_order_no,
    payTime,
    closeTime,
    decision === 'settle' ? 'pay_success' : 'pay_close_gateway',
    'none',
    null,
    order.status,
    order.notify_url,
    order.notify_url === null ? null : new URL(order.notify_url).host,
    order.notify_url === null ? null : JSON.stringify(payload),
    null,
    null,
    null,
    null,
    null,
  ]
}

async function askWechat(outTradeNo: string, what: 'query' | 'close', exchanges: Exchange[]): Promise<Trade> {
  const path = `/v3/pay/transactions/out-trade-no/${outTradeNo}${what === 'close' ? '/close' : `?mchid=${WECHAT_MCH_ID}`}`
  const body = what === 'close' ? JSON.stringify({ mchid: WECHAT_MCH_ID }) : ''
  const method = what === 'close' ? 'POST' : 'GET'
  const timestamp = Math.floor(Date.now() / 1000)
  const nonce = randomBytes(16).toString('hex')
  const message = Buffer.from(`${method}\n${path}\n${timestamp}\n${nonce}\n${body}\n`)
  const signature = (await signAsync('sha256', message, wechatKey)).toString('base64')
  const startedMs = performance.now()
  const reply = await exchange(WECHAT_URL, method, path, body, {
    accept: 'application/json',
    'user-agent': 'bench',
    'wechatpay-serial': WECHAT_PUBLIC_KEY_ID,
    authorization: `WECHATPAY2-SHA256-RSA2048 mchid="${WECHAT_MCH_ID}",nonce_str="${nonce}",signature="${signature}",timestamp="${timestamp}",serial_no="${WECHAT_CERT_SERIAL}"`,
    ...(body === '' ? {} : { 'content-type': 'application/json' }),
  })
  const text = reply.body.toString('utf8')
  const { 'wechatpay-timestamp': at, 'wechatpay-nonce': answerNonce, 'wechatpay-signature': proof } = reply.headers
  const signed = Buffer.from(`${String(at)}\n${String(answerNonce)}\n${text}\n`)
  if (!verify('sha256', signed, wechatPlatformKey, Buffer.from(String(proof), 'base64'))) throw new Error('forged')
  exchanges.push(exchangeOf(method, WECHAT_URL, path, reply.status, startedMs, text))
  if (what === 'close') return { state: 'closed', gatewayOrderNo: null, paidAt: null }
  const told = JSON.parse(text) as { trade_state: string; transaction_id?: string; success_time?: string }
  const state = told.trade_state === 'SUCCESS' ? 'paid' : told.trade_state === 'CLOSED' ? 'closed' : 'paying'
  const paidAt = told.success_time === undefined ? null : new Date(told.success_time)
  return { state, gatewayOrderNo: told.transaction_id ?? null, paidAt }
}

async function askAlipay(outTradeNo: string, what: 'query' | 'close', exchanges: Exchange[]): Promise<Trade> {
  const parameters: Record<string, string> = {
    app_id: ALIPAY_APP_ID,
    biz_content: JSON.stringify({ out_trade_no: outTradeNo }),
    charset: 'utf-8',
    format: 'JSON',
    method: `alipay.trade.${what}`,
    sign_type: 'RSA2',
    timestamp: new Date(Date.now() + 28_800_000).toISOString().slice(0, 19).replace('T', ' '),
    version: '1.0',
  }
  const text = Object.entries(parameters)
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
  const signature = (await signAsync('sha256', Buffer.from(text), alipayAppKey)).toString('base64')
  const form = new URLSearchParams({ ...parameters, sign: signature }).toString()
  const startedMs = performance.now()
  const reply = await exchange(ALIPAY_URL, 'POST', ALIPAY_URL.pathname, form, {
    accept: 'application/json',
    'user-agent': 'bench',
    'content-type': 'application/x-www-form-urlencoded;charset=utf-8',
  })
  const body = reply.body.toString('utf8')
  const start = `{"alipay_trade_${what}_response":`.length
  const end = body.lastIndexOf(',"sign":"')
  const node = body.slice(start, end)
  if (!verify('sha256', Buffer.from(node), alipayKey, Buffer.from(body.slice(end + 9, -2), 'base64')))
    throw new Error('forged')
  exchanges.push(exchangeOf('POST', ALIPAY_URL, ALIPAY_URL.pathname, reply.status, startedMs, body))
  const told = JSON.parse(node) as { trade_status?: string; trade_no: string; send_pay_date?: string }
  const state =
    told.trade_status === 'TRADE_SUCCESS' ? 'paid' : told.trade_status === 'TRADE_CLOSED' ? 'closed' : 'paying'
  const paidAt = told.send_pay_date === undefined ? null : new Date(`${told.send_pay_date.replace(' ', 'T')}+08:00`)
  return { state, gatewayOrderNo: told.trade_no, paidAt }
}

function exchangeOf(method: string, url: URL, path: string, status: number, startedMs: number, body: string): Exchange {
  return { method, host: url.host, path, status, durationMs: Math.round(performance.now() - startedMs), body }
}

async function exchange(
  url: URL,
  method: string,
  path: string,
  body: string,
  headers: Record<string, string>,
): Promise<Reply> {
  return await new Promise((resolve, reject) => {
    const length = body === '' ? {} : { 'content-length': String(Buffer.byteLength(body)) }
    const options = { host: url.hostname, port: url.port, method, path, agent, headers: { ...headers, ...length } }
    const request = http.request(options, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      )
    })
    request.on('error', reject)
    request.end(body)
  })
}

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex')
}

function newTraceId(): string {
  return randomBytes(6).toString('hex')
}
