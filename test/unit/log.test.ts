import { describe, expect, it } from 'vitest'

import { createLog } from '../../src/log.js'

function written(write: (log: ReturnType<typeof createLog>) => void, level = 'info'): string[] {
  const lines: string[] = []
  write(createLog(level, { write: (line) => void lines.push(line) }))
  return lines
}
const one = (line: Record<string, unknown>) => written((log) => log.info(line))[0] ?? ''

describe('what must not be logged', () => {
  it.each([
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
    'openid',
    'sub_openid',
    'sp_openid',
    'buyer_id',
    'buyer_user_id',
    'buyer_open_id',
    'buyer_logon_id',
    'payer_logon_id',
    'buyer_user_name',
  ])('%s is left out wherever it stands, whatever it is', (name) => {
    for (const value of ['hidden', { in: 'hidden' }, ['hidden']]) {
      expect(one({ [name]: value })).not.toContain('hidden')
      expect(one({ a: { b: { c: { [name]: value } } } })).not.toContain('hidden')
      expect(one({ a: [{ b: [[{ [name]: value }]] }] })).not.toContain('hidden')
    }
    expect(JSON.parse(one({ [name]: 'hidden', kept: 1 }))).toMatchObject({ [name]: '[redacted]', kept: 1 })
  })

  it('what is nested too deeply to be looked at is left out whole', () => {
    expect(one({ a: { b: { c: { d: { e: { f: { g: { deep: 'hidden' } } } } } } } })).not.toContain('hidden')
  })

  it('the object itself is left as it was', () => {
    const line = { a: { token: 'kept here' } }
    one(line)
    expect(line.a.token).toBe('kept here')
  })
})

describe('errors', () => {
  it('are told by their type, code, message, stack and causes, and by nothing that hangs on them', () => {
    const cause = Object.assign(new TypeError('inner'), { code: 'E_INNER', body: 'hidden' })
    const error = Object.assign(new RangeError('outer', { cause }), {
      code: 'E_OUTER',
      constraint: 'orders_pkey',
      config: { headers: { 'x-api': 'hidden' }, data: 'hidden' },
    })
    const line = one({ event: 'failed', err: error })
    expect(line).not.toContain('hidden')
    expect(JSON.parse(line)).toMatchObject({
      event: 'failed',
      err: {
        type: 'RangeError',
        code: 'E_OUTER',
        constraint: 'orders_pkey',
        message: 'outer',
        stack: expect.stringContaining('RangeError: outer') as string,
        causes: [{ type: 'TypeError', code: 'E_INNER', message: 'inner' }],
      },
    })
  })

  it('have the type that their package gave them, not the one that a bundler told apart from its namesakes', () => {
    class DatabaseError2 extends Error {}
    expect(JSON.parse(one({ err: new DatabaseError2('away') }))).toMatchObject({ err: { type: 'DatabaseError' } })
  })

  it('a password in an address or a text, and a bearer token, are not repeated anywhere in the line', () => {
    const texts = [
      'cannot connect to postgresql://app:hidden@db.example:5432/pay?sslmode=require',
      'password=hidden for user "app"',
      'refused: Authorization: Bearer hidden',
    ]
    for (const text of texts) {
      expect(one({ err: new Error(text) })).not.toContain('hidden')
      expect(one({ err: new AggregateError([new Error(text)], 'all failed') })).not.toContain('hidden')
      expect(one({ err: new Error('outer', { cause: new Error(text) }) })).not.toContain('hidden')
      expect(one({ deep: { err: new Error(text) } })).not.toContain('hidden')
    }
  })

  it('causes that go round in a circle end', () => {
    const error = new Error('round')
    error.cause = error
    expect(JSON.parse(one({ err: error }))).toMatchObject({ err: { message: 'round' } })
  })
})

it('a line is one line of JSON with a level by name and a time, also of a child, and below the level nothing', () => {
  const lines = written((log) => {
    log.debug({ event: 'too low' })
    log.child({ traceId: 't' }).warn({ event: 'seen', token: 'hidden' })
  })
  expect(lines).toHaveLength(1)
  expect(lines[0]).toMatch(/^\{.*\}\n$/)
  expect(JSON.parse(lines[0] ?? '')).toEqual({
    level: 'warn',
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string,
    traceId: 't',
    event: 'seen',
    token: '[redacted]',
  })
})
