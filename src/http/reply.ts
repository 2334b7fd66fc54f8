import type { GatewayStatus } from '../domain/decide.js'
import { RESULT_CODES, type ResultName } from '../domain/result-code.js'
import { signatureOf, signText } from '../domain/sign.js'
import type { MerchantSigning } from './verify-sign.js'

/** The envelope of every answer under /unipay, serialised once. HTTP says 200 whatever the code: the SDK needs it. */
export function successReply(
  result: Readonly<{ gatewayStatus: GatewayStatus; repairNo: string | null }>,
  signing: MerchantSigning,
  traceId: string,
): string {
  const { gatewayStatus, repairNo } = result
  const repair = repairNo !== null
  const { code, message } = RESULT_CODES.success
  // success and errorMsg are there for clients that follow the documentation's sample; they are not signed.
  const data = { gatewayStatus, success: true, repair, repairOrderNo: repairNo, errorMsg: '' }
  const secret = signing.secrets[0]
  const text = signText({ gatewayStatus, repair, repairOrderNo: repairNo })
  const sign = secret === undefined ? null : signatureOf(text, secret, signing.type)
  return JSON.stringify({ msg: message, code, data, sign, traceId })
}

/** An error's envelope: no data, no signature. `detail` follows the message after a colon. */
export function errorReply(name: ResultName, traceId: string, detail?: string): string {
  const { code, message } = RESULT_CODES[name]
  return JSON.stringify({ msg: detail === undefined ? message : `${message}: ${detail}`, code, data: null, traceId })
}

/** The gateway's own words in place of ours (CONTRACT: 20000, the gateway could not be asked or proves nothing). */
export function gatewayUnknownReply(message: string, traceId: string): string {
  const { code, message: plain } = RESULT_CODES.gatewayUnknown
  return JSON.stringify({ msg: message === '' ? plain : message, code, data: null, traceId })
}
