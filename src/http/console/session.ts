import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'

import type { OpsToken } from '../ops/operator.js'

/** An operator who does nothing for this long signs in again. */
const IDLE_MS_MAX = 30 * 60_000
/** And in any case after a shift. */
const LIFE_MS_MAX = 12 * 3_600_000

export const SESSION_COOKIE = 'unipay_console'
export const SESSION_MAX_AGE_S = LIFE_MS_MAX / 1000

/** Who is signed in. `csrf` stands in each form of this session and nowhere else. */
export type Session = Readonly<{ id: string; operator: string; startedAtMs: number; seenAtMs: number; csrf: string }>

/**
 * Sessions without a store: the cookie is what is known, sealed with a key made of the operators' tokens, so that every
 * instance reads it, and whoever's token is taken away loses the session with it. Only those that were signed out of before
 * their time are kept anywhere (`store/sign-outs.ts`).
 */
export function createSessions(tokens: readonly OpsToken[]) {
  // While a token is exchanged for another, one name has two: a session is its token's, not its name's.
  const keys = tokens.map(({ name, token }) => ({ name, digest: digest(token), key: keyOf(name, token) }))
  const keyWith = (name: string, isItsKey: (key: Buffer) => boolean): Buffer | undefined =>
    keys.find((known) => known.name === name && isItsKey(known.key))?.key

  function seal(session: Omit<Session, 'csrf'>, key: Buffer): string {
    const body = Buffer.from(
      JSON.stringify([session.id, session.operator, session.startedAtMs, session.seenAtMs]),
    ).toString('base64url')
    return `${body}.${mac(key, `session ${body}`)}`
  }

  return {
    /** A new session's cookie for whoever has this token; null for nobody. Every token is compared, in constant time. */
    signIn(token: string, nowMs: number): Readonly<{ operator: string; sealed: string }> | null {
      let found: (typeof keys)[number] | undefined
      for (const known of keys) if (isSame(known.digest, digest(token))) found = known
      if (found === undefined) return null
      const { name: operator, key } = found
      const id = randomBytes(16).toString('base64url')
      const session = { id, operator, startedAtMs: nowMs, seenAtMs: nowMs }
      return { operator, sealed: seal(session, key) }
    },

    /** The session of a cookie, if it is one of ours and neither idle nor old. */
    read(cookie: string | undefined, nowMs: number): Session | null {
      const [body = '', seen = ''] = (cookie ?? '').split('.')
      const claimed = claimsOf(body)
      if (claimed === null) return null
      const key = keyWith(claimed.operator, (candidate) => isSame(mac(candidate, `session ${body}`), seen))
      if (key === undefined) return null
      if (nowMs - claimed.seenAtMs > IDLE_MS_MAX || nowMs - claimed.startedAtMs > LIFE_MS_MAX) return null
      return { ...claimed, csrf: mac(key, `csrf ${claimed.id}`) }
    },

    /** The cookie of a session that was used just now. */
    renew(session: Session, nowMs: number): string {
      const key = keyWith(session.operator, (candidate) => isSame(mac(candidate, `csrf ${session.id}`), session.csrf))
      if (key === undefined) throw new Error('a session of an unknown operator was renewed')
      return seal({ ...session, seenAtMs: nowMs }, key)
    },

    /** True where a form came from a page of this session. */
    isOwnForm(session: Session, csrf: unknown): boolean {
      return typeof csrf === 'string' && isSame(session.csrf, csrf)
    },
  }
}

export type Sessions = ReturnType<typeof createSessions>

function keyOf(name: string, token: string): Buffer {
  return Buffer.from(hkdfSync('sha256', token, name, 'unipay-sync console session', 32))
}

function mac(key: Buffer, text: string): string {
  return createHmac('sha256', key).update(text).digest('base64url')
}

function digest(text: string): string {
  return createHmac('sha256', 'compare').update(text).digest('base64url')
}

function isSame(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}

function claimsOf(body: string): Omit<Session, 'csrf'> | null {
  try {
    const claims: unknown = JSON.parse(Buffer.from(body, 'base64url').toString('utf8'))
    if (!Array.isArray(claims)) return null
    const [id, operator, startedAtMs, seenAtMs] = claims as unknown[]
    const isWhole =
      typeof id === 'string' &&
      typeof operator === 'string' &&
      typeof startedAtMs === 'number' &&
      typeof seenAtMs === 'number'
    return isWhole ? { id, operator, startedAtMs, seenAtMs } : null
  } catch {
    // Not ours: whoever sends it is not signed in.
    return null
  }
}
