import { isLosslessNumber, parse } from 'lossless-json'
import { z } from 'zod'

import { signText } from '../domain/sign.js'
import { isAddress } from './forwarded.js'

/** The body of a syncPay call, as parsed. Null: absent. */
export type SyncPayBody = Readonly<{
  paymentId: bigint | null
  businessNo: string | null
  clientIp: string | null
  reqTime: bigint
  sign: string | null
  /** The texts of which one must be signed (CONTRACT: Signature): the contract's four fields, or all that was sent. */
  signTexts: readonly string[]
}>

/** `unreadable` is 10005, `invalid` is 10006; `detail` says what and where. */
export type BodyOutcome =
  | Readonly<{ kind: 'read'; body: SyncPayBody }>
  | Readonly<{ kind: 'unreadable' | 'invalid'; detail: string }>

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n
/** Digits of a number literal after which it cannot be a 64-bit integer, leading zeros and decimals included. */
const LITERAL_LENGTH_MAX = 40

const utf8 = new TextDecoder('utf-8', { fatal: true })
/** CONTRACT: of a key given twice the last one counts, for the signature and for its reader alike. */
const LAST_WINS = { onDuplicateKey: ({ newValue }: Readonly<{ newValue: unknown }>) => newValue }

class Unreadable extends Error {}

/** What the contract asks of the values, once their types are possible (CONTRACT: 10006). The first failure is told. */
const VALID = z.object({
  reqTime: z.bigint('请求时间必填'),
  clientIp: z
    .string()
    .refine((ip) => ip === '' || isAddress(ip), '不是有效的IPv4或IPv6地址')
    .nullable(),
  businessNo: z.string().max(100, '长度不能超过100').nullable(),
})

/**
 * Reads the untouched bytes of a request: UTF-8 JSON whose numbers are taken from their literal text, so that ids above
 * 2^53 survive. What is signed and what is read are the same parsed values.
 */
export function readBody(bytes: Buffer): BodyOutcome {
  try {
    const sent = fieldsOf(bytes)
    const paymentId = integerOf(sent, 'paymentId')
    const businessNo = textOf(sent, 'businessNo')
    const clientIp = textOf(sent, 'clientIp')
    const reqTime = integerOf(sent, 'reqTime')
    const sign = textOf(sent, 'sign')
    const valid = VALID.safeParse({ reqTime, clientIp, businessNo })
    if (!valid.success) {
      const issue = valid.error.issues[0]
      return { kind: 'invalid', detail: `${String(issue?.path[0])}: ${issue?.message ?? ''}` }
    }
    const known = { paymentId, businessNo, clientIp, reqTime: asSigned(valid.data.reqTime) }
    const signTexts = [signText(known)]
    const unknown = unknownScalars(sent)
    if (Object.keys(unknown).length > 0) signTexts.push(signText({ ...unknown, ...known }))
    const body = {
      paymentId,
      businessNo: businessNo === '' ? null : businessNo,
      clientIp: clientIp === '' ? null : clientIp,
      reqTime: valid.data.reqTime,
      sign,
      signTexts,
    }
    return { kind: 'read', body }
  } catch (error) {
    if (error instanceof Unreadable) return { kind: 'unreadable', detail: error.message }
    throw error
  }
}

function fieldsOf(bytes: Buffer): ReadonlyMap<string, unknown> {
  let value: unknown
  try {
    value = parse(utf8.decode(bytes), undefined, LAST_WINS)
  } catch (error) {
    // RangeError: nested deeper than the stack; TypeError: not UTF-8.
    const what =
      error instanceof SyntaxError ? error.message : error instanceof RangeError ? 'nested too deeply' : 'not UTF-8'
    throw new Unreadable(`请求体不是有效的JSON: ${what}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value) || isLosslessNumber(value)) {
    throw new Unreadable('请求体必须是JSON对象')
  }
  return new Map(Object.entries(value))
}

/** An integer by its literal or its digits; null where absent, null or blank. Fractions are refused, never rounded. */
function integerOf(sent: ReadonlyMap<string, unknown>, name: string): bigint | null {
  const value = sent.get(name)
  if (value === undefined || value === null) return null
  const literal = isLosslessNumber(value) ? value.value : typeof value === 'string' ? value.trim() : undefined
  if (literal === '') return null
  const whole =
    literal === undefined ? undefined : isLosslessNumber(value) ? wholeNumber(literal) : wholeDigits(literal)
  if (whole === undefined || whole < INT64_MIN || whole > INT64_MAX) throw new Unreadable(`${name}: 必须是64位整数`)
  return whole
}

function wholeDigits(text: string): bigint | undefined {
  const match = /^([+-]?)(\d+)$/.exec(text)
  if (match === null || text.length > LITERAL_LENGTH_MAX) return undefined
  const digits = BigInt(match[2] ?? '')
  return match[1] === '-' ? -digits : digits
}

/** `1e3` is 1000 and `1.50e2` is 150: a JSON number is what it is worth, if that is whole. */
function wholeNumber(literal: string): bigint | undefined {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(literal)
  if (match === null || literal.length > LITERAL_LENGTH_MAX) return undefined
  const [, minus = '', units = '', decimals = '', exponent = '0'] = match
  const shift = Number(exponent) - decimals.length
  const digits = BigInt(units + decimals)
  if (digits === 0n) return 0n
  if (shift > LITERAL_LENGTH_MAX || shift < -LITERAL_LENGTH_MAX) return undefined
  const scale = 10n ** BigInt(Math.abs(shift))
  if (shift < 0 && digits % scale !== 0n) return undefined
  const value = shift < 0 ? digits / scale : digits * scale
  return minus === '-' ? -value : value
}

/** A string; a number or a boolean counts as its own text. */
function textOf(sent: ReadonlyMap<string, unknown>, name: string): string | null {
  const value = sent.get(name)
  if (value === undefined || value === null) return null
  const text = scalarText(value)
  if (text === undefined) throw new Unreadable(`${name}: 必须是字符串`)
  return text
}

function scalarText(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  return isLosslessNumber(value) ? value.value : undefined
}

const KNOWN = new Set(['paymentId', 'businessNo', 'clientIp', 'reqTime', 'sign'])

function unknownScalars(sent: ReadonlyMap<string, unknown>): Record<string, string> {
  const entries = [...sent].flatMap(([name, value]) => {
    const text = KNOWN.has(name) ? undefined : scalarText(value)
    return text === undefined ? [] : [[name, text] as const]
  })
  return Object.fromEntries(entries)
}

/**
 * The reference server keeps reqTime as 64-bit milliseconds and signs what that gives back in seconds, so a value whose
 * milliseconds overflow never verifies as it was sent.
 */
function asSigned(reqTime: bigint): bigint {
  return BigInt.asIntN(64, reqTime * 1000n) / 1000n
}
