import { type KeyObject, sign, verify } from 'node:crypto'
import { promisify } from 'node:util'

const signAsync = promisify(sign)

/** As in WeChat's codec: 2048 to 4096 bits, in canonical base64. */
const SIGNATURE_FORM = /^(?:[A-Za-z0-9+/]{4}){80,200}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
const BEIJING_OFFSET_MS = 8 * 3_600_000

export type AppKey = Readonly<{
  appId: string
  privateKey: KeyObject
  /** Certificate mode: the serial numbers of our certificate and of Alipay's roots. */
  certificates: Readonly<{ appCertSn: string; rootCertSn: string }> | null
}>

/** The form body of one call, signed (Alipay, RSA2): sorted raw parameters, none empty, without sign. */
export async function formOf(
  method: string,
  bizContent: Readonly<Record<string, string>>,
  key: AppKey,
  nowMs: number,
): Promise<string> {
  const parameters: Record<string, string> = {
    app_id: key.appId,
    method,
    format: 'JSON',
    charset: 'utf-8',
    sign_type: 'RSA2',
    timestamp: new Date(nowMs + BEIJING_OFFSET_MS).toISOString().slice(0, 19).replace('T', ' '),
    version: '1.0',
    biz_content: JSON.stringify(bizContent),
    ...(key.certificates === null
      ? {}
      : { app_cert_sn: key.certificates.appCertSn, alipay_root_cert_sn: key.certificates.rootCertSn }),
  }
  const signed = Object.keys(parameters)
    .sort()
    .map((name) => `${name}=${parameters[name] ?? ''}`)
    .join('&')
  const signature = (await signAsync('sha256', Buffer.from(signed, 'utf8'), key.privateKey)).toString('base64')
  return new URLSearchParams({ ...parameters, sign: signature }).toString()
}

export type Envelope =
  | Readonly<{ kind: 'verified'; node: Buffer }>
  | Readonly<{
      kind: 'untrusted'
      reason: 'unreadable' | 'unsigned' | 'bad_signature' | 'other_certificate'
      node: Buffer | null
    }>

/**
 * The response node's exact bytes, once the signature over them holds. Re-serialising would break it (`\/`), so the node
 * is found by a scan of the envelope that knows one form only: an object of exactly one response node and one sign.
 */
export function openEnvelope(body: Buffer, responseName: string, key: KeyObject, certSn: string | null): Envelope {
  const members = scanMembers(body)
  if (members === undefined) return { kind: 'untrusted', reason: 'unreadable', node: null }
  const node = members.get(responseName) ?? null
  const signText = stringOf(members.get('sign'))
  if (node === null) return { kind: 'untrusted', reason: 'unsigned', node: members.get('error_response') ?? null }
  if (signText === undefined || signText === '') return { kind: 'untrusted', reason: 'unsigned', node }
  if (certSn !== null && stringOf(members.get('alipay_cert_sn')) !== certSn)
    return { kind: 'untrusted', reason: 'other_certificate', node }
  if (!SIGNATURE_FORM.test(signText)) return { kind: 'untrusted', reason: 'bad_signature', node }
  const isGenuine = verify('sha256', node, key, Buffer.from(signText, 'base64'))
  return isGenuine ? { kind: 'verified', node } : { kind: 'untrusted', reason: 'bad_signature', node }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const COMMA = 0x2c
const OPEN = new Set([0x7b, 0x5b])
const CLOSE = new Set([0x7d, 0x5d])
const SPACE = new Set([0x20, 0x09, 0x0a, 0x0d])

/** The members of a top-level object, as raw bytes; undefined where it is not one, or names anything twice. */
function scanMembers(body: Buffer): ReadonlyMap<string, Buffer> | undefined {
  const members = new Map<string, Buffer>()
  let at = skipSpace(body, 0)
  if (body[at] !== 0x7b) return undefined
  at = skipSpace(body, at + 1)
  if (body[at] === 0x7d) return skipSpace(body, at + 1) === body.length ? members : undefined
  for (;;) {
    const nameEnd = stringEnd(body, at)
    const name = nameEnd === undefined ? undefined : stringOf(body.subarray(at, nameEnd))
    // A key given twice, in whatever spelling, is a forger's tool: which of the two counts depends on the reader.
    if (nameEnd === undefined || name === undefined || members.has(name)) return undefined
    at = skipSpace(body, nameEnd)
    if (body[at] !== COLON) return undefined
    const valueStart = skipSpace(body, at + 1)
    const valueEnd = valueEndOf(body, valueStart)
    if (valueEnd === undefined) return undefined
    members.set(name, body.subarray(valueStart, valueEnd))
    at = skipSpace(body, valueEnd)
    if (body[at] === 0x7d) return skipSpace(body, at + 1) === body.length ? members : undefined
    if (body[at] !== COMMA) return undefined
    at = skipSpace(body, at + 1)
  }
}

function skipSpace(body: Buffer, from: number): number {
  let at = from
  while (SPACE.has(body[at] ?? 0)) at++
  return at
}

/** The end of the string that begins here, after its closing quote. */
function stringEnd(body: Buffer, start: number): number | undefined {
  if (body[start] !== QUOTE) return undefined
  for (let at = start + 1; at < body.length; at++) {
    if (body[at] === BACKSLASH) at++
    else if (body[at] === QUOTE) return at + 1
  }
  return undefined
}

/** The end of the value that begins here. Brackets are counted outside strings; what is inside is parsed later. */
function valueEndOf(body: Buffer, start: number): number | undefined {
  const first = body[start] ?? 0
  if (first === QUOTE) return stringEnd(body, start)
  if (!OPEN.has(first)) return bareEnd(body, start)
  let depth = 0
  for (let at = start; at < body.length; at++) {
    const byte = body[at] ?? 0
    if (byte === QUOTE) {
      const end = stringEnd(body, at)
      if (end === undefined) return undefined
      at = end - 1
    } else if (OPEN.has(byte)) depth++
    else if (CLOSE.has(byte) && --depth === 0) return at + 1
  }
  return undefined
}

function bareEnd(body: Buffer, start: number): number | undefined {
  let at = start
  while (at < body.length && body[at] !== COMMA && !CLOSE.has(body[at] ?? 0) && !SPACE.has(body[at] ?? 0)) at++
  return at === start ? undefined : at
}

function stringOf(raw: Buffer | undefined): string | undefined {
  if (raw === undefined || raw[0] !== QUOTE) return undefined
  try {
    const value: unknown = JSON.parse(raw.toString('utf8'))
    return typeof value === 'string' ? value : undefined
  } catch {
    // An escape or a control character that no JSON string has: the member has no value that anyone may act on.
    return undefined
  }
}
