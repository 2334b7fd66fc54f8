import pino from 'pino'

/** Never in a log, whatever object they stand in. */
const REDACTED = [
  'sign',
  'authorization',
  'Authorization',
  'secret',
  'token',
  'password',
  'privateKey',
  'apiV3Key',
  'apiV2Key',
  'openid',
  'buyer_id',
  'buyer_user_id',
  'req.headers.authorization',
  'headers.authorization',
]

/** Structured JSON lines; read by people only in a terminal. `destination` serves tests that read what was written. */
export function createLog(level: string, destination?: pino.DestinationStream) {
  const options: pino.LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: REDACTED.flatMap((path) => (path.includes('.') ? [path] : [path, `*.${path}`])),
      censor: '[redacted]',
    },
    serializers: { err: pino.stdSerializers.err },
  }
  return destination === undefined ? pino(options) : pino(options, destination)
}

export type Log = ReturnType<typeof createLog>
