import { loadConfig } from '../config.js'
import { orderIdFrom } from '../domain/order.js'
import { signatureOf, signText } from '../domain/sign.js'
import { CommandFailed, Misused, type Output, say } from './output.js'

export type SignOptions = Output & Readonly<{ url?: string; number?: boolean }>

/** A ready-signed curl line for one order, by its id or, where it is no number or is said to be one, by the merchant's. */
export function sign(order: string, options: SignOptions): void {
  const config = loadConfig(process.env)
  const secret = config.SIGN_SECRETS[0]
  if (secret === undefined) throw new CommandFailed('SIGN_SECRETS is not set: nothing to sign with.')
  if (order === '' || order.length > 100)
    throw new Misused('An order is its id, or a number of at most 100 characters.')
  const reqTime = Math.floor(Date.now() / 1000)
  const id = options.number !== true && /^\d{1,19}$/.test(order) ? orderIdFrom(BigInt(order)) : undefined
  const fields = id === undefined ? { businessNo: order, reqTime } : { paymentId: id, reqTime }
  const signature = signatureOf(signText(fields), secret, config.SIGN_TYPE)
  const key = id === undefined ? `"businessNo":${JSON.stringify(order)}` : `"paymentId":${id}`
  const url = `${options.url ?? `http://127.0.0.1:${config.PORT}`}/unipay/syncPay`
  const body = `{${key},"reqTime":${reqTime},"sign":"${signature}"}`
  const curl = `curl -s ${quoted(url)} -H 'Content-Type: application/json' -d '${escaped(body)}'`
  const named = id === undefined ? { businessNo: order } : { paymentId: id.toString() }
  // A shell reads the line: what `show` would spell out for people must stay as it is.
  say(options.json === true ? JSON.stringify({ ...named, url, body, curl }) : curl)
}

/** As a shell takes it: quoted only where it must be. */
function quoted(text: string): string {
  return /^[\w:/.@%+-]+$/.test(text) ? text : `'${escaped(text)}'`
}

function escaped(text: string): string {
  return text.replaceAll("'", `'\\''`)
}
