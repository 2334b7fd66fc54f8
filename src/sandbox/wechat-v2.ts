import type { GatewayCall } from './exchange.js'
import { type CallKind, type Fault, type FaultName, isPerformed } from './faults.js'
import type { Answer, Received } from './server.js'
import type { SandboxTrade } from './trades.js'
import type { WechatContext } from './wechat-account.js'
import { signV2, type V2SignType } from './wechat-crypto.js'
import {
  altered,
  closeOrder,
  forged,
  notUnderstood,
  queryOrder,
  reverseOrder,
  V2_REFUSALS,
  type V2Reply,
} from './wechat-v2-replies.js'
import { parseXml, writeXml, type XmlFields } from './wechat-v2-xml.js'

type Run = (context: WechatContext, trade: SandboxTrade | undefined) => V2Reply

const OPERATIONS: ReadonlyMap<string, Readonly<{ kind: CallKind; run: Run }>> = new Map([
  ['/pay/orderquery', { kind: 'query', run: queryOrder }],
  ['/pay/closeorder', { kind: 'close', run: closeOrder }],
  ['/secapi/pay/reverse', { kind: 'reverse', run: reverseOrder }],
])

type Refusal = Readonly<{ verdict: string; message: string }>
type Fields = ReadonlyMap<string, string>

function checkRequest(context: WechatContext, fields: Fields, signType: V2SignType): Refusal | null {
  const { appId, mchId, spMchId, apiV2Key } = context.account
  if (fields.get('appid') !== appId || fields.get('mch_id') !== (spMchId ?? mchId)) {
    return { verdict: 'wrong_merchant', message: 'appid和mch_id不匹配' }
  }
  if (spMchId !== null && fields.get('sub_mch_id') !== mchId) {
    return { verdict: 'wrong_sub_merchant', message: '受理关系不存在' }
  }
  if ((fields.get('nonce_str') ?? '') === '') {
    return { verdict: 'no_nonce', message: 'nonce_str不能为空' }
  }
  if (!['MD5', 'HMAC-SHA256'].includes(fields.get('sign_type') ?? 'MD5')) {
    return { verdict: 'bad_sign_type', message: '签名类型错误' }
  }
  return fields.get('sign') === signV2(Object.fromEntries(fields), apiV2Key, signType)
    ? null
    : { verdict: 'bad_signature', message: '签名错误' }
}

function xmlAnswer(text: string): Answer {
  return { status: 200, headers: { Server: 'nginx', 'Content-Type': 'text/plain' }, body: Buffer.from(text) }
}

// nginx's own page: the request never reached the gateway.
const NO_CERTIFICATE: Answer = {
  status: 400,
  headers: { Server: 'nginx', 'Content-Type': 'text/html' },
  body: Buffer.from('<html><head><title>400 No required SSL certificate was sent</title></head></html>\r\n'),
}

function signatureOf(context: WechatContext, fields: XmlFields, signType: V2SignType, fault: FaultName | undefined) {
  if (fault === 'empty_sign' || fault === 'signtest') {
    return fault === 'signtest' ? 'SIGNTEST' : ''
  }
  // There is no time and no key's number in APIv2: so another answer's signature, and another key's.
  const signed = fault === 'stale' ? { return_code: 'SUCCESS' } : Object.fromEntries(fields)
  return signV2(signed, fault === 'unknown_serial' ? '0'.repeat(32) : context.account.apiV2Key, signType)
}

const HUGE_CHARS = 2 * 1024 * 1024
const DEEP_LEVELS = 20_000

const SHAPES: Readonly<Partial<Record<FaultName, (xml: string) => string>>> = {
  empty: () => '',
  bad_json: (xml) => xml.slice(0, -4),
  deep: (xml) => xml.replace('</xml>', `${'<a>'.repeat(DEEP_LEVELS)}${'</a>'.repeat(DEEP_LEVELS)}</xml>`),
  huge: (xml) => xml.replace('</xml>', `<detail>${'x'.repeat(HUGE_CHARS)}</detail></xml>`),
  doctype: (xml) => `<!DOCTYPE xml [<!ENTITY lie "SUCCESS">]>${xml.replace('</xml>', '<detail>&lie;</detail></xml>')}`,
}

function encode(context: WechatContext, reply: V2Reply, signType: V2SignType, fault: FaultName | undefined): Answer {
  if (!reply.signed || fault === 'unsigned') {
    return xmlAnswer(writeXml(reply.fields))
  }
  const honest = altered(reply.fields, fault)
  const sign: XmlFields = [['sign', signatureOf(context, honest, signType, fault)]]
  const lie = fault === 'duplicate_key' ? forged(honest).filter(([name]) => name === 'trade_state') : []
  const sent = fault === 'tampered' ? forged(honest) : honest
  const xml = writeXml([...sent, ...sign, ...lie])
  return xmlAnswer((fault === undefined ? undefined : SHAPES[fault]?.(xml)) ?? xml)
}

const SYSTEM_ERROR = notUnderstood('SYSTEMERROR')

/** WeChat Pay APIv2 as the gateway speaks it. */
export function createWechatV2(context: WechatContext) {
  return {
    speaks: (path: string): boolean => path.startsWith('/pay/') || path.startsWith('/secapi/'),
    understand(received: Received): GatewayCall {
      const operation = received.method === 'POST' ? OPERATIONS.get(received.path) : undefined
      const fields = parseXml(received.body.toString('utf8'))
      const signType: V2SignType = fields?.get('sign_type') === 'HMAC-SHA256' ? 'HMAC-SHA256' : 'MD5'
      const refusal =
        fields === null ? { verdict: 'bad_xml', message: 'XML格式错误' } : checkRequest(context, fields, signType)
      const number = fields?.get('out_trade_no') ?? ''
      const transactionId = fields?.get('transaction_id') ?? ''
      const trade = transactionId === '' ? context.book.find(number) : context.book.findByTransactionId(transactionId)
      const lacksCertificate = received.path.startsWith('/secapi/') && received.clientCertified === false

      function answer(fault: Fault | undefined): Answer {
        if (lacksCertificate) {
          return NO_CERTIFICATE
        }
        if (operation === undefined || refusal !== null) {
          return encode(context, notUnderstood(refusal?.message ?? '请求的URL不存在'), signType, undefined)
        }
        const performed = isPerformed(fault) ? operation.run(context, trade) : SYSTEM_ERROR
        const refused = fault === undefined ? undefined : V2_REFUSALS[fault.fault]?.(context, fault)
        return encode(context, refused ?? performed, signType, fault?.fault)
      }

      return {
        kind: operation?.kind ?? null,
        operation: `v2.${received.path}`,
        outTradeNo: trade?.outTradeNo ?? (number === '' ? null : number),
        verdict: lacksCertificate ? 'no_client_certificate' : (refusal?.verdict ?? 'valid'),
        answer: async (fault) => answer(fault),
      }
    },
  }
}
