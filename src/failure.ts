/** Of the system: a file, a name, a connection. */
const SYSTEM = /^E(?:AI_)?[A-Z\d]+$/
/** Of TLS to the database: its certificate, or its name in it. */
const TLS = /CERT|^UNABLE_TO_VERIFY|^ERR_(?:TLS|SSL)_/
/**
 * SQLSTATEs that somebody can mend: connection, read-only, authorization, no such database, privilege, resources, locks,
 * an operator's doing, the system. A statement that is wrong, or breaks a constraint, is a bug.
 */
const SQLSTATE = /^(?:08...|25006|28...|3D...|42501|53...|55...|57...|58...)$/
/** What `pg` itself says, which has no code. */
const CLIENT = /^(?:timeout |Query read timeout|Connection terminated|The server does not support SSL|SASL:)/

/** What there is to do about whatever stands in the way of a command, or of a start. */
export const ASK_DOCTOR = 'What to do about it: unipay doctor'

/** One line about a failure of the system or the database, which somebody can mend; null for a bug. */
export function failureOfSurroundings(error: unknown): string | null {
  if (!(error instanceof Error)) return null
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (error.name.startsWith('PrismaClient')) return failureToldByPrisma(error, code)
  // Of each address that a name has, there is an error, and none of its own.
  if (error instanceof AggregateError && SYSTEM.test(code)) return error.errors.map(messageOf).join('; ')
  if (SYSTEM.test(code) || TLS.test(code)) return error.message
  return SQLSTATE.test(code) || CLIENT.test(error.message) ? `The database: ${error.message}` : null
}

/** Prisma tells the place in the code first, and the database's own words at the end. */
function failureToldByPrisma(error: Error, code: string): string | null {
  const last = error.message.trimEnd().split('\n').at(-1) ?? ''
  const [, sqlState, words] = /Code: `(\w{5})`\. Message: `(.*)`$/.exec(last) ?? []
  if (sqlState !== undefined) return SQLSTATE.test(sqlState) ? `The database: ${words}` : null
  // P1…: it cannot be reached, or not be entered.
  return /^P1\d{3}$/.test(code) ? `The database: ${last}` : null
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
