import { randomBytes } from 'node:crypto'
import { rfc3339 } from './beijing-time.js'
import type { GatewayCall } from './exchange.js'
import { type Fault, type FaultName, isPerformed } from './faults.js'
import { type JsonObject, parseObject } from './json.js'
import { misshape } from './misshape.js'
import type { Answer, Received } from './server.js'
import type { SandboxTrade } from './trades.js'
import type { WechatContext } from './wechat-account.js'
import {
  answerMessage,
  encryptCertificate,
  parseAuthorization,
  requestMessage,
  signMessage,
  verifyMessage,
} from './wechat-crypto.js'
import {
  altered,
  closeTrade,
  forged,
  ORDER_NOT_EXIST,
  refundReply,
  stateOf,
  tradeBody,
  type V3Reply,
  v3Error,
} from './wechat-v3-replies.js'

const TIMESTAMP_SKEW_S_MAX = 300
// A nonce older than the timestamp window is refused by its timestamp.
const NONCES_MAX = 200_000

type Operation = Pick<GatewayCall, 'kind' | 'operation' | 'outTradeNo'> & Readonly<{ run: () => V3Reply }>

const NO_OPERATION: Operation = {
  kind: null,
  operation: 'unknown',
  outTradeNo: null,
  run: () => v3Error(404, 'NOT_FOUND', '请求的URL不存在'),
}

/** Remembers the nonces of the window, the oldest going first. */
function createNonceBook() {
  const seen = new Set<string>()
  return {
    /** True the first time. */
    enter: (nonce: string): boolean => {
      if (seen.has(nonce)) {
        return false
      }
      if (seen.size >= NONCES_MAX) {
        for (const oldest of seen) {
          seen.delete(oldest)
          break
        }
      }
      seen.add(nonce)
      return true
    },
  }
}

type Refusal = Readonly<{ verdict: string; reply: V3Reply }>

function refusal(verdict: string, status: number, code: string, message: string, detail?: JsonObject): Refusal {
  const body: JsonObject = detail === undefined ? { code, message } : { code, detail, message }
  // A 401 goes to somebody the gateway does not know, so nothing vouches for it.
  return { verdict, reply: { status, body, signed: status !== 401 } }
}

function headerText(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}

function checkHeaders(context: WechatContext, received: Received): Refusal | null {
  const { headers } = received
  const accept = headers.accept ?? ''
  if (headers['user-agent'] === undefined || !/application\/json|\*\/\*/.test(accept)) {
    return refusal('no_accept_or_user_agent', 400, 'PARAM_ERROR', 'Http头缺少Accept或User-Agent')
  }
  if (received.method === 'POST' && !(headers['content-type'] ?? '').startsWith('application/json')) {
    return refusal('bad_content_type', 400, 'PARAM_ERROR', 'Http头Content-Type必须为application/json')
  }
  const wanted = headerText(headers['wechatpay-serial'])
  if (wanted !== undefined && !context.platformKeys.some((key) => key.serial === wanted)) {
    return refusal('unknown_wechatpay_serial', 400, 'PARAM_ERROR', '平台证书序列号Wechatpay-Serial错误')
  }
  return null
}

function checkAuthorization(
  context: WechatContext,
  received: Received,
  enterNonce: (nonce: string) => boolean,
): Refusal | null {
  const authorization = parseAuthorization(received.headers.authorization)
  if (authorization === null) {
    const message = 'Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》'
    return refusal('bad_authorization', 401, 'SIGN_ERROR', message)
  }
  if (authorization.mchid !== (context.account.spMchId ?? context.account.mchId)) {
    return refusal('wrong_merchant', 401, 'SIGN_ERROR', 'Http头Authorization值中的mchid错误')
  }
  if (authorization.serial_no !== context.account.merchantSerial) {
    const message = '商户证书序列号有误。请使用签名私钥匹配的证书序列号'
    return refusal('unknown_serial', 401, 'SIGN_ERROR', message)
  }
  const skewS = Math.abs(context.now() / 1000 - Number(authorization.timestamp))
  if (!/^\d{1,12}$/.test(authorization.timestamp) || skewS > TIMESTAMP_SKEW_S_MAX) {
    const message = 'Http头Authorization值中的timestamp与发起请求的时间不能超过5分钟'
    return refusal('stale_timestamp', 401, 'SIGN_ERROR', message)
  }
  const message = requestMessage(received, authorization)
  if (!verifyMessage(context.merchant.publicKey, message, authorization.signature)) {
    return refusal('bad_signature', 401, 'SIGN_ERROR', '错误的签名，验签失败', {
      detail: { issue: 'sign not match' },
      field: 'signature',
      location: 'authorization',
      sign_information: { method: received.method, sign_message_length: message.length, url: received.target },
    })
  }
  if (!enterNonce(authorization.nonce_str)) {
    return refusal('replayed_nonce', 401, 'SIGN_ERROR', 'Http头Authorization值中的nonce_str重复')
  }
  return null
}

function checkMerchant(context: WechatContext, given: (name: string) => unknown): Refusal | null {
  const { mchId, spMchId } = context.account
  const expected = spMchId === null ? { mchid: mchId } : { sp_mchid: spMchId, sub_mchid: mchId }
  for (const [name, value] of Object.entries(expected)) {
    if (given(name) === undefined || given(name) === null) {
      return refusal(`no_${name}`, 400, 'PARAM_ERROR', `参数错误：缺少${name}`)
    }
    if (given(name) !== value) {
      return refusal(`wrong_${name}`, 400, 'PARAM_ERROR', `${name}与签名中的商户号不匹配`)
    }
  }
  return null
}

function queryReply(context: WechatContext, trade: SandboxTrade | undefined): V3Reply {
  if (trade === undefined || trade.state === 'NOT_EXIST') {
    context.book.turn(trade, 'query')
    return ORDER_NOT_EXIST
  }
  const reply: V3Reply = { status: 200, body: tradeBody(context.account, trade), signed: true }
  context.book.turn(trade, 'query')
  return reply
}

function certificatesReply(context: WechatContext): V3Reply {
  const certificates = context.platformKeys.flatMap((key) =>
    key.certificatePem === null
      ? []
      : [
          {
            serial_no: key.serial,
            effective_time: rfc3339(key.effectiveAt),
            expire_time: rfc3339(key.expiresAt),
            encrypt_certificate: encryptCertificate(context.account.apiV3Key, key.certificatePem),
          },
        ],
  )
  return certificates.length === 0
    ? v3Error(404, 'RESOURCE_NOT_EXISTS', '无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥')
    : { status: 200, body: { data: certificates }, signed: true }
}

/** A path segment's text; one that is wrongly escaped names no order, so it may stay as it is. */
function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

/** The path decides; a path of the other mode (partner or not) is one the merchant has no right to. */
function route(context: WechatContext, received: Received): Operation {
  const transactions = context.account.spMchId === null ? '/v3/pay/transactions' : '/v3/pay/partner/transactions'
  const { path, method } = received
  if (path === '/v3/certificates' && method === 'GET') {
    const run = () => certificatesReply(context)
    return { kind: 'certificates', operation: 'v3.certificates', outTradeNo: null, run }
  }
  const refundNo = /^\/v3\/refund\/domestic\/refunds\/([^/]+)$/.exec(path)?.[1]
  if (refundNo !== undefined && method === 'GET') {
    const trade = context.book.findByRefundNo(decoded(refundNo))
    const run = () => (trade === undefined ? v3Error(404, 'RESOURCE_NOT_EXISTS', '退款单不存在') : refundReply(trade))
    return { kind: 'refund_query', operation: 'v3.refund_query', outTradeNo: trade?.outTradeNo ?? null, run }
  }
  if (!path.startsWith(`${transactions}/`)) {
    return NO_OPERATION
  }
  const [by, rawNumber, close, ...more] = path.slice(transactions.length + 1).split('/')
  const number = decoded(rawNumber ?? '')
  if (number === '' || more.length > 0) {
    return NO_OPERATION
  }
  if (by === 'out-trade-no' && close === 'close' && method === 'POST') {
    return { kind: 'close', operation: 'v3.close', outTradeNo: number, run: () => closeTrade(context, number) }
  }
  if (by === 'out-trade-no' && close === undefined && method === 'GET') {
    const run = () => queryReply(context, context.book.find(number))
    return { kind: 'query', operation: 'v3.query', outTradeNo: number, run }
  }
  if (by === 'id' && close === undefined && method === 'GET') {
    const trade = context.book.findByTransactionId(number)
    const run = () => queryReply(context, trade)
    return { kind: 'query', operation: 'v3.query', outTradeNo: trade?.outTradeNo ?? null, run }
  }
  return NO_OPERATION
}

function checkParameters(context: WechatContext, received: Received, operation: Operation): Refusal | null {
  if (operation.kind === 'query') {
    return checkMerchant(context, (name) => received.query.get(name))
  }
  if (operation.kind === 'close') {
    const body = parseObject(received.body.toString('utf8'))
    return body === null
      ? refusal('bad_body', 400, 'PARAM_ERROR', '请求体不是JSON')
      : checkMerchant(context, (name) => body[name])
  }
  if (operation.kind === 'refund_query' && context.account.spMchId !== null) {
    return received.query.get('sub_mchid') === context.account.mchId
      ? null
      : refusal('wrong_sub_mchid', 400, 'PARAM_ERROR', 'sub_mchid错误')
  }
  return null
}

const SYSTEM_ERROR = v3Error(500, 'SYSTEM_ERROR', '系统繁忙，请稍后重试')

const RATE_LIMITED = v3Error(429, 'FREQUENCY_LIMITED', '频率限制，请稍后重试')

// What the gateway says in place of the true answer, under the faults that refuse.
const REFUSALS: Readonly<Partial<Record<FaultName, (fault: Fault) => V3Reply>>> = {
  rate_limit: () => RATE_LIMITED,
  rate_limit_unsigned: () => ({ ...RATE_LIMITED, signed: false }),
  system_error: () => SYSTEM_ERROR,
  system_error_unsigned: () => ({ ...SYSTEM_ERROR, signed: false }),
  not_exist: () => ORDER_NOT_EXIST,
  not_exist_unsigned: () => ({ ...ORDER_NOT_EXIST, signed: false }),
  error: (fault) =>
    v3Error(fault.status ?? 400, fault.code ?? 'PARAM_ERROR', fault.message ?? '参数错误', fault.signed ?? true),
}

const STALE_S = 3600

async function signatureHeaders(
  context: WechatContext,
  fault: Fault | undefined,
  body: Buffer,
): Promise<Record<string, string>> {
  const timestamp = String(Math.floor(context.now() / 1000) - (fault?.fault === 'stale' ? STALE_S : 0))
  const nonce = randomBytes(16).toString('hex')
  const isStrange = fault?.fault === 'unknown_serial'
  const key = isStrange ? (await context.stranger()).privateKey : context.signer.pair.privateKey
  const isPublicKeyMode = context.signer.certificatePem === null
  const strangeSerial = isPublicKeyMode ? `PUB_KEY_ID_${'9'.repeat(34)}` : 'F'.repeat(40)
  const signature = await signMessage(key, answerMessage(timestamp, nonce, body))
  const shown = fault?.fault === 'empty_sign' ? '' : signature
  return {
    'Wechatpay-Timestamp': timestamp,
    'Wechatpay-Nonce': nonce,
    'Wechatpay-Serial': isStrange ? strangeSerial : context.signer.serial,
    'Wechatpay-Signature': fault?.fault === 'signtest' ? `WECHATPAY/SIGNTEST/${shown}` : shown,
    'Wechatpay-Signature-Type': 'WECHATPAY2-SHA256-RSA2048',
  }
}

function duplicated(body: JsonObject): string {
  const text = JSON.stringify(body)
  // The second member is the lie: JSON.parse believes the last one.
  const lie = 'trade_state' in body ? `"trade_state":"${stateOf(forged(body))}"` : '"code":"FORGED"'
  return `${text.slice(0, -1)},${lie}}`
}

function bodyText(body: JsonObject | null, fault: Fault | undefined): string {
  if (fault?.fault === 'duplicate_key' && body !== null) {
    return duplicated(body)
  }
  const shaped = fault === undefined ? null : misshape(fault.fault, JSON.stringify(body ?? {}))
  return shaped ?? (body === null ? '' : JSON.stringify(body))
}

async function encode(context: WechatContext, reply: V3Reply, fault: Fault | undefined): Promise<Answer> {
  const code = reply.body?.['code']
  const plain = context.plainCodes && typeof code === 'string' ? { code: code.replaceAll('_', '') } : {}
  const body = reply.body === null ? null : { ...reply.body, ...plain }
  const signedBytes = Buffer.from(bodyText(body, fault))
  const isTampered = fault?.fault === 'tampered'
  const sentBytes = isTampered && body !== null ? Buffer.from(JSON.stringify(forged(body))) : signedBytes
  // An empty body has no byte to change, so there the signature is the one of something else.
  const vouched = isTampered && body === null ? Buffer.from('{}') : signedBytes
  const unsigned = !reply.signed || fault?.fault === 'unsigned'
  const signature = unsigned ? {} : await signatureHeaders(context, fault, vouched)
  return {
    // A 204 cannot carry a misshapen body.
    status: reply.status === 204 && sentBytes.length > 0 ? 200 : reply.status,
    headers: {
      Server: 'nginx',
      'Content-Type': 'application/json; charset=utf-8',
      'Content-Language': 'zh-CN',
      'Cache-Control': 'no-cache, must-revalidate',
      'X-Content-Type-Options': 'nosniff',
      'Request-ID': `08${randomBytes(16).toString('hex').toUpperCase()}`,
      ...signature,
    },
    body: sentBytes,
  }
}

/** WeChat Pay APIv3 as the gateway speaks it. */
export function createWechatV3(context: WechatContext) {
  const nonces = createNonceBook()

  return {
    understand(received: Received): GatewayCall {
      const operation = route(context, received)
      const refused =
        checkHeaders(context, received) ??
        checkAuthorization(context, received, nonces.enter) ??
        checkParameters(context, received, operation)
      return {
        kind: operation.kind,
        operation: operation.operation,
        outTradeNo: operation.outTradeNo,
        verdict: refused?.verdict ?? 'valid',
        async answer(fault) {
          if (refused !== null) {
            return await encode(context, refused.reply, undefined)
          }
          const performed = isPerformed(fault) ? operation.run() : null
          const refusedByFault = fault === undefined ? undefined : REFUSALS[fault.fault]?.(fault)
          const reply = refusedByFault ?? performed ?? SYSTEM_ERROR
          return await encode(context, altered(reply, fault?.fault), fault)
        },
      }
    },
  }
}
