import type { FastifyRequest } from 'fastify'

import type { Session, Sessions } from './session.js'
import type { Language, Words } from './words.js'

/** One request of a signed-in operator. */
export type Visit = Readonly<{ session: Session; language: Language; words: Words }>

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks, on the operators' page; null before the guard and outside it. */
    visit: Visit | null
  }
}

/** The visit of a guarded route. */
export function visitOf(request: FastifyRequest): Visit {
  if (request.visit === null) throw new Error('a route of the console was reached without its guard')
  return request.visit
}

/**
 * True where the browser says that one of our own pages sent this form. It knows the address it sees, which a proxy may
 * have changed in Host, and no page can write Sec-Fetch-Site for it. Over plain http it does not say so, and older ones
 * never do: then Origin must be Host. A page that hides its origin is not ours.
 */
export function isSameOrigin(request: FastifyRequest): boolean {
  const { origin, 'sec-fetch-site': site } = request.headers
  if (site !== undefined) return site === 'same-origin'
  if (typeof origin !== 'string' || !URL.canParse(origin)) return false
  return new URL(origin).host === request.host
}

/** True where a form came from a page of this very session, and from no other origin. */
export function isOwnForm(request: FastifyRequest, sessions: Sessions): boolean {
  return (
    isSameOrigin(request) &&
    request.visit !== null &&
    sessions.isOwnForm(request.visit.session, fieldOf(request, 'csrf'))
  )
}

/** One field of a form, as text; empty where it was not sent, or sent more than once. */
export function fieldOf(request: FastifyRequest, name: string): string {
  return textOf(request.body, name)
}

/** The same, of the address. */
export function queryOf(request: FastifyRequest, name: string): string {
  return textOf(request.query, name)
}

function textOf(fields: unknown, name: string): string {
  const value = typeof fields === 'object' && fields !== null ? (fields as Record<string, unknown>)[name] : undefined
  return typeof value === 'string' ? value.trim() : ''
}

/** A page of this console to go back to; anything else leads to its first view. */
export function ownPage(address: string): string {
  return /^\/console(?:[/?][\x21-\x5b\x5d-\x7e]*)?$/.test(address) ? address : '/console'
}
