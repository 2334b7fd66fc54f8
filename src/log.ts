import pino from 'pino'

/** Who paid, by every name that the gateways have for it. */
export const PERSONAL_NAMES = [
  'openid',
  'sp_openid',
  'sub_openid',
  'buyer_id',
  'buyer_user_id',
  'buyer_open_id',
  'buyer_logon_id',
  'payer_logon_id',
  'buyer_user_name',
] as const

/** Never in a log, at whatever depth they stand: secrets, proofs, and who paid. */
const REDACTED: ReadonlySet<string> = new Set([
  'sign',
  'signature',
  'authorization',
  'Authorization',
  'cookie',
  'set-cookie',
  'secret',
  'token',
  'password',
  'privateKey',
  'apiV3Key',
  'apiV2Key',
  ...PERSONAL_NAMES,
])
const CENSOR = '[redacted]'
/** What is nested deeper than this is left out whole; our own lines have three levels. */
const DEPTH_MAX = 6
/** Causes of causes, and the parts of an AggregateError, that are told. */
const ERRORS_MAX = 4

/** Structured JSON lines; read by people only in a terminal. `destination` serves tests that read what was written. */
export function createLog(level: string, destination?: pino.DestinationStream) {
  const options: pino.LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    // pino's own `redact` copies every line first, which costs ten times as much as writing it, and has a fixed depth.
    formatters: { level: (label) => ({ level: label }), log: (line) => masked(line, 0) },
    // Errors come out of the formatter as they are to be shown; under its own key, pino would repeat their message unmasked.
    serializers: { err: (shown: unknown) => shown },
    errorKey: 'error',
  }
  return destination === undefined ? pino(options) : pino(options, destination)
}

export type Log = ReturnType<typeof createLog>

/** The same object where there is nothing to hide, which is so for nearly every line; else a copy. */
function masked(line: Record<string, unknown>, depth: number): Record<string, unknown> {
  let copy: Record<string, unknown> | null = null
  for (const name in line) {
    const value = line[name]
    if (value === undefined || value === null) continue
    const shown = REDACTED.has(name) ? CENSOR : typeof value === 'object' ? maskedPart(value, depth + 1) : value
    if (shown === value) continue
    copy ??= { ...line }
    copy[name] = shown
  }
  return copy ?? line
}

function maskedPart(part: object, depth: number): unknown {
  if (part instanceof Error) return errorView(part, depth)
  if (depth > DEPTH_MAX) return CENSOR
  if (Array.isArray(part)) {
    return part.map((item: unknown) => (typeof item === 'object' && item !== null ? maskedPart(item, depth + 1) : item))
  }
  // Others are no data of ours: a Date, or a reply of Fastify's, which has a serialiser for it.
  return Object.getPrototypeOf(part) === Object.prototype ? masked(part as Record<string, unknown>, depth) : part
}

/**
 * An error by its well-known members only. Others hang whole requests on theirs, with headers and bodies, and the text of
 * some repeats the address they were given, with its password.
 */
function errorView(error: Error, depth: number): Record<string, unknown> {
  const { code, constraint } = error as { code?: unknown; constraint?: unknown }
  const parts = error instanceof AggregateError ? error.errors : error.cause === undefined ? [] : [error.cause]
  const causes = parts.slice(0, ERRORS_MAX).filter((part) => part instanceof Error)
  return {
    // The build counts classes of one name through: DatabaseError2.
    type: error.constructor.name.replace(/\d+$/, ''),
    code: typeof code === 'string' || typeof code === 'number' ? code : undefined,
    constraint: typeof constraint === 'string' ? constraint : undefined,
    message: withoutCredentials(error.message),
    stack: withoutCredentials(error.stack ?? ''),
    causes: causes.length > 0 && depth < ERRORS_MAX ? causes.map((cause) => errorView(cause, depth + 1)) : undefined,
  }
}

/** `//user:password@host`, `password=…` and bearer tokens, wherever a message repeats them. */
function withoutCredentials(text: string): string {
  return text
    .replace(/(\/\/[^\s:/@]*):[^\s@]*@/g, '$1:***@')
    .replace(/(password['"]?\s*[=:]\s*['"]?)[^\s'"&,;]+/gi, '$1***')
    .replace(/(Bearer )\S+/gi, '$1***')
}
