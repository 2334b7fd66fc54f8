import { randomBytes } from 'node:crypto'
import type { AlipayContext } from './alipay-account.js'
import { requestText, serialise, signText, verifyText } from './alipay-crypto.js'
import {
  ALIPAY_REFUSALS,
  type AlipayReply,
  alipayError,
  altered,
  cancelTrade,
  closeTrade,
  forged,
  queryRefund,
  queryTrade,
} from './alipay-replies.js'
import { parseSpaced } from './beijing-time.js'
import type { GatewayCall } from './exchange.js'
import { type CallKind, type Fault, type FaultName, isPerformed } from './faults.js'
import { parseObject } from './json.js'
import { misshape } from './misshape.js'
import type { Answer, Received } from './server.js'
import type { SandboxTrade } from './trades.js'

// Narrow enough to catch a timestamp in any other time zone than Asia/Shanghai.
const TIMESTAMP_SKEW_MS_MAX = 10 * 60 * 1000

const METHODS: ReadonlyMap<string, CallKind> = new Map([
  ['alipay.trade.query', 'query'],
  ['alipay.trade.close', 'close'],
  ['alipay.trade.cancel', 'reverse'],
  ['alipay.trade.fastpay.refund.query', 'refund_query'],
])

type Parameters = ReadonlyMap<string, string>

/** The parameters of query string and form body together; null where one comes twice. */
function parametersOf(received: Received): Parameters | null {
  const found = new Map<string, string>()
  for (const [name, value] of [...received.query, ...new URLSearchParams(received.body.toString('utf8'))]) {
    if (found.has(name)) {
      return null
    }
    found.set(name, value)
  }
  return found
}

type Refusal = Readonly<{ verdict: string; reply: AlipayReply }>

function invalid(what: string, message: string): Refusal {
  return { verdict: `invalid_${what}`, reply: alipayError('40002', `isv.invalid-${what}`, message) }
}

function missing(what: string, message: string): Refusal {
  return { verdict: `missing_${what}`, reply: alipayError('40001', `isv.missing-${what}`, message) }
}

function checkApp(context: AlipayContext, parameters: Parameters): Refusal | null {
  const method = parameters.get('method')
  if (method === undefined || !METHODS.has(method)) {
    const { verdict, reply } =
      method === undefined ? missing('method', '缺少方法名参数') : invalid('method', '不存在的方法名')
    return { verdict, reply: { ...reply, isErrorNode: true } }
  }
  if (parameters.get('app_id') !== context.appId) {
    const { verdict, reply } = invalid('app-id', '无效的AppID参数')
    // Alipay does not know whose key it should sign with.
    return { verdict, reply: { ...reply, signature: 'empty' } }
  }
  return null
}

function checkCommon(context: AlipayContext, parameters: Parameters): Refusal | null {
  const timestamp = parameters.get('timestamp')
  if (timestamp === undefined) {
    return missing('timestamp', '缺少时间戳参数')
  }
  const at = parseSpaced(timestamp)
  if (at === null || Math.abs(context.now() - at) > TIMESTAMP_SKEW_MS_MAX) {
    return invalid('timestamp', '非法的时间戳参数')
  }
  if (parameters.get('charset')?.toLowerCase() !== 'utf-8') {
    return invalid('charset', '字符集错误')
  }
  if ((parameters.get('format') ?? 'JSON').toUpperCase() !== 'JSON') {
    return invalid('format', '无效的数据格式')
  }
  if (parameters.get('version') !== '1.0') {
    return invalid('version', '无效的接口版本')
  }
  if (parameters.get('sign_type') !== 'RSA2') {
    return invalid('signature-type', '无效的签名类型')
  }
  return null
}

function checkSignature(context: AlipayContext, parameters: Parameters): Refusal | null {
  const numbers = context.certificates?.numbers ?? null
  if (numbers !== null && parameters.get('app_cert_sn') !== numbers.app) {
    return invalid('app-cert-sn', '应用公钥证书序列号错误')
  }
  if (numbers !== null && parameters.get('alipay_root_cert_sn') !== numbers.root) {
    return invalid('alipay-root-cert-sn', '支付宝根证书序列号错误')
  }
  const sign = parameters.get('sign')
  if (sign === undefined || sign === '') {
    return missing('signature', '缺少签名参数')
  }
  const text = requestText(parameters)
  return verifyText(context.app.publicKey, text, sign)
    ? null
    : invalid('signature', `验签出错，建议检查签名字符串或签名私钥与应用公钥是否匹配，网关生成的验签字符串为：${text}`)
}

function checkTransport(received: Received): Refusal | null {
  if (received.method === 'POST') {
    const type = received.headers['content-type'] ?? ''
    // Without the charset, Alipay reads the form as GBK, and the signature breaks on the first Chinese character.
    if (!/^application\/x-www-form-urlencoded\s*;\s*charset=utf-8$/i.test(type)) {
      return invalid('content-type', 'Content-Type错误')
    }
  }
  return null
}

type Subject = Readonly<{ outTradeNo: string; trade: SandboxTrade | undefined; outRequestNo: string }>

function subjectOf(context: AlipayContext, parameters: Parameters): Subject | null {
  const content = parseObject(parameters.get('biz_content') ?? '')
  const { out_trade_no: outTradeNo, trade_no: tradeNo, out_request_no: outRequestNo } = content ?? {}
  const requestNo = typeof outRequestNo === 'string' ? outRequestNo : ''
  // Where both numbers are given, Alipay's own counts.
  if (typeof tradeNo === 'string' && tradeNo !== '') {
    const trade = context.book.findByTransactionId(tradeNo)
    const given = typeof outTradeNo === 'string' ? outTradeNo : ''
    return { outTradeNo: trade?.outTradeNo ?? given, trade, outRequestNo: requestNo }
  }
  return typeof outTradeNo === 'string' && outTradeNo !== ''
    ? { outTradeNo, trade: context.book.find(outTradeNo), outRequestNo: requestNo }
    : null
}

const INVALID_PARAMETER = alipayError('40004', 'ACQ.INVALID_PARAMETER', '参数无效')

function run(context: AlipayContext, kind: CallKind, subject: Subject): AlipayReply {
  const { trade, outTradeNo } = subject
  switch (kind) {
    case 'query':
      return queryTrade(context, trade, outTradeNo)
    case 'close':
      return closeTrade(context, trade, outTradeNo)
    case 'reverse':
      return cancelTrade(context, trade, outTradeNo)
    case 'refund_query':
      return queryRefund(trade, outTradeNo, subject.outRequestNo)
    case 'certificates':
      return INVALID_PARAMETER
  }
}

// An app's answers are signed with that app's own key, so another app's or seller's cannot be told from a forgery.
const STRANGERS: ReadonlySet<FaultName> = new Set(['unknown_serial', 'wrong_merchant', 'wrong_app'])

async function signatureOf(context: AlipayContext, reply: AlipayReply, text: string, fault: FaultName | undefined) {
  if (reply.signature === 'unsigned' || fault === 'unsigned') {
    return null
  }
  if (reply.signature === 'empty' || fault === 'empty_sign') {
    return ''
  }
  const isStrange = fault !== undefined && STRANGERS.has(fault)
  const { privateKey } = isStrange ? await context.stranger() : context.alipay
  // There is no time in Alipay's answers: a stale signature is that of another answer.
  const signature = await signText(privateKey, fault === 'stale' ? serialise({ code: '10000', msg: 'Success' }) : text)
  return fault === 'signtest' ? `SIGNTEST/${signature}` : signature
}

function envelope(
  members: Readonly<{ node: string; text: string; certificateNumber: string | null; sign: string | null }>,
  signFirst: boolean,
): string {
  const node = [`"${members.node}":${members.text}`]
  const number = members.certificateNumber === null ? [] : [`"alipay_cert_sn":"${members.certificateNumber}"`]
  const sign = members.sign === null ? [] : [`"sign":"${members.sign}"`]
  return `{${(signFirst ? [...sign, ...node, ...number] : [...node, ...number, ...sign]).join(',')}}`
}

async function bodyText(
  context: AlipayContext,
  method: string,
  reply: AlipayReply,
  fault: FaultName | undefined,
  signFirst: boolean,
): Promise<string> {
  const node = altered(reply.node, fault)
  const honest = serialise(node)
  const text = (fault === undefined ? null : misshape(fault, honest)) ?? honest
  if (fault === 'empty') {
    return ''
  }
  const name = reply.isErrorNode ? 'error_response' : `${method.replaceAll('.', '_')}_response`
  const number = context.certificates?.numbers.alipay ?? null
  const body = envelope(
    {
      node: name,
      text: fault === 'tampered' ? serialise(forged(node)) : text,
      certificateNumber: number !== null && fault === 'unknown_serial' ? '0'.repeat(32) : number,
      sign: await signatureOf(context, reply, text, fault),
    },
    signFirst,
  )
  // The genuine node and its signature first, then a lie of the same name: JSON.parse believes the last one.
  return fault === 'duplicate_key' ? `${body.slice(0, -1)},"${name}":${serialise(forged(node))}}` : body
}

/** Alipay's `gateway.do` as the gateway speaks it. */
export function createAlipayGateway(context: AlipayContext) {
  function answerOf(method: string, refused: AlipayReply | null, kind: CallKind | null, subject: Subject | null) {
    return async (fault: Fault | undefined): Promise<Answer> => {
      const signFirst = subject?.trade?.signFirst ?? context.signFirst
      let reply = refused ?? INVALID_PARAMETER
      if (refused === null && kind !== null && subject !== null) {
        const performed = isPerformed(fault)
          ? run(context, kind, subject)
          : alipayError('20000', 'aop.unknow-error', '')
        reply = (fault === undefined ? undefined : ALIPAY_REFUSALS[fault.fault]?.(fault)) ?? performed
      }
      const body = Buffer.from(await bodyText(context, method, reply, fault?.fault, signFirst))
      return {
        status: 200,
        headers: {
          Server: 'Tengine',
          'Content-Type': 'text/html;charset=utf-8',
          trace_id: randomBytes(14).toString('hex'),
        },
        body,
      }
    }
  }

  return {
    understand(received: Received): GatewayCall {
      const parameters = received.path === '/gateway.do' ? parametersOf(received) : null
      const method = parameters?.get('method') ?? ''
      const kind = METHODS.get(method) ?? null
      const refused =
        parameters === null
          ? { ...invalid('parameter', '参数有误') }
          : (checkApp(context, parameters) ??
            checkTransport(received) ??
            checkCommon(context, parameters) ??
            checkSignature(context, parameters))
      const subject = parameters === null ? null : subjectOf(context, parameters)
      const verdict = refused?.verdict ?? (subject === null ? 'invalid_biz_content' : 'valid')
      return {
        kind,
        operation: method === '' ? 'unknown' : method,
        outTradeNo: subject?.outTradeNo ?? null,
        verdict,
        answer: answerOf(method, refused?.reply ?? null, kind, subject),
      }
    },
  }
}
