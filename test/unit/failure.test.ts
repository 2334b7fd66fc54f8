import { expect, it } from 'vitest'

import { startFailure } from '../../src/compose.js'
import { failureOfSurroundings } from '../../src/failure.js'

const coded = (code: string, message = 'what it says', name = 'Error') =>
  Object.assign(new Error(message), { code, name })

it.each([
  ['of a file', coded('EACCES'), 'what it says'],
  ['of a name', coded('ENOTFOUND'), 'what it says'],
  ['of a name server', coded('EAI_AGAIN'), 'what it says'],
  ['of TLS', coded('DEPTH_ZERO_SELF_SIGNED_CERT'), 'what it says'],
  ['of the name in a certificate', coded('ERR_TLS_CERT_ALTNAME_INVALID'), 'what it says'],
  ['of a missing database', coded('3D000'), 'The database: what it says'],
  ['of a privilege', coded('42501'), 'The database: what it says'],
  ['of a database that is too slow', new Error('timeout expired'), 'The database: timeout expired'],
  [
    'told by Prisma',
    coded(
      'P2039',
      '\nInvalid `prisma.order.findMany()` invocation:\n\n\nDatabase error. Code: `42501`. Message: `permission denied`',
      'PrismaClientKnownRequestError',
    ),
    'The database: permission denied',
  ],
  [
    'of each address of a name',
    Object.assign(new AggregateError([new Error('connect ::1'), new Error('connect 127.0.0.1')]), {
      code: 'ECONNREFUSED',
    }),
    'connect ::1; connect 127.0.0.1',
  ],
])('a failure %s is one line', (_of, error, line) => {
  expect(failureOfSurroundings(error)).toBe(line)
  expect(startFailure(error)).toBe(`${line}. What to do about it: unipay doctor`)
})

it.each([
  ['a wrong argument', coded('ERR_INVALID_ARG_TYPE')],
  ['a wrong statement', coded('42601')],
  ['a broken constraint', coded('23505')],
  ['a bug', new TypeError('x is not a function')],
  [
    'a broken constraint, told by Prisma',
    coded('P2002', 'Invalid invocation\nUnique constraint failed', 'PrismaClientKnownRequestError'),
  ],
])('%s keeps its stack: nobody but us can mend it', (_of, error) => {
  expect(failureOfSurroundings(error)).toBeNull()
  expect(startFailure(error)).toBe(error.stack)
})
