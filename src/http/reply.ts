import type { GatewayStatus } from '../domain/decide.js'
import { RESULT_CODES, type ResultName } from '../domain/result-code.js'
import { signatureOf, signText } from '../domain/sign.js'
import type { MerchantSigning } from './verify-sign.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** What a merchant's request was answered, for metrics and logs; nothing until then, and for everybody else's. */
    result?: ResultName | null
  }
}

/** The request that is answered: its id is the answer's traceId, and it keeps what the answer was. */
type Answered = { readonly id: string; result?: ResultName | null }

/** The envelope of every answer under /unipay, serialised once. HTTP says 200 whatever the code: the SDK needs it. */
export function successReply(
  result: Readonly<{ gatewayStatus: GatewayStatus; repairNo: string | null }>,
  signing: MerchantSigning,
  request: Answered,
): string {
  request.result = 'success'
  const { gatewayStatus, repairNo } = result
  const repair = repairNo !== null
  const { code, message } = RESULT_CODES.success
  // success and errorMsg are there for clients that follow the documentation's sample; they are not signed.
  const data = { gatewayStatus, success: true, repair, repairOrderNo: repairNo, errorMsg: '' }
  const secret = signing.secrets[0]
  const text = signText({ gatewayStatus, repair, repairOrderNo: repairNo })
  const sign = secret === undefined ? null : signatureOf(text, secret, signing.type)
  return JSON.stringify({ msg: message, code, data, sign, traceId: request.id })
}

/** An error's envelope: no data, no signature. `detail` follows the message after a colon. */
export function errorReply(name: ResultName, request: Answered, detail?: string): string {
  request.result = name
  const { code, message } = RESULT_CODES[name]
  const msg = detail === undefined ? message : `${message}: ${detail}`
  return JSON.stringify({ msg, code, data: null, traceId: request.id })
}

/** The gateway's own words in place of ours (CONTRACT: 20000, the gateway could not be asked or proves nothing). */
export function gatewayUnknownReply(message: string, request: Answered): string {
  request.result = 'gatewayUnknown'
  const { code, message: plain } = RESULT_CODES.gatewayUnknown
  return JSON.stringify({ msg: message === '' ? plain : message, code, data: null, traceId: request.id })
}
