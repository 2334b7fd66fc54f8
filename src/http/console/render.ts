import { Eta } from 'eta/core'
import type { FastifyReply, FastifyRequest } from 'fastify'

import { toneOf } from './codes.js'
import { escapeHtml, fenFor, jsonText, moneyFor, timeText, waitFor, yuanDigits, yuanFor } from './format.js'
import { TEMPLATES, type TemplateName } from './templates.js'
import type { Visit } from './visit.js'
import { LANGUAGES, type Language, languageOf, wordOf } from './words.js'

export const LANGUAGE_COOKIE = 'unipay_language'

/** What every template can say, in the language of who looks. */
function vocabulary(language: Language) {
  return {
    t: LANGUAGES[language],
    language,
    word: (code: string) => wordOf(language, code),
    tone: toneOf,
    yuan: (fen: bigint, currency?: string) => yuanFor(language, fen, currency),
    digits: yuanDigits,
    fen: (fen: bigint) => fenFor(language, fen),
    money: (fen: bigint, currency?: string) => moneyFor(language, fen, currency),
    time: timeText,
    wait: (seconds: number) => waitFor(language, seconds),
    json: jsonText,
  }
}

/**
 * Turns a view into HTML. Every value is escaped by the engine; the raw tag stands before other templates and, in the
 * layout, before its body, and a test holds that.
 */
export function createRender(assets: Readonly<{ path: string }>) {
  const eta = new Eta({ autoEscape: true, escapeFunction: escapeHtml, cache: true })
  for (const [name, template] of Object.entries(TEMPLATES)) eta.loadTemplate(`@${name}`, template)

  function html(request: FastifyRequest, name: TemplateName, view: object): string {
    const visit: Visit | null = request.visit
    const language = visit?.language ?? languageOf(request.cookies[LANGUAGE_COOKIE], request.headers['accept-language'])
    return eta.render(`@${name}`, {
      ...view,
      ...vocabulary(language),
      assets: assets.path,
      operator: visit?.session.operator ?? null,
      csrf: visit?.session.csrf ?? '',
      // Where the language is switched: this page, or, of one that a form led to, the page that the form was on.
      here: request.method === 'GET' ? request.url : 'back' in view ? view.back : '/console',
      section: /^\/+console(\/[a-z-]*)?/.exec(request.url)?.[1]?.replace('/orders', '/find') ?? '/',
    })
  }

  return {
    html,
    page: async (request: FastifyRequest, reply: FastifyReply, name: TemplateName, view: object = {}) =>
      await reply.type('text/html; charset=utf-8').send(html(request, name, view)),
    /** An answer with nothing but words. */
    message: async (request: FastifyRequest, reply: FastifyReply, status: number, heading: string, say: string) =>
      await reply
        .code(status)
        .type('text/html; charset=utf-8')
        .send(html(request, 'message', { heading, say })),
  }
}

export type Render = ReturnType<typeof createRender>

/** Asks before acting: what is done, about how much money, and the fields that are sent with the answer. */
export type Confirmation = Readonly<{
  question: string
  amountFen: bigint
  currency: string
  /** Null where there is nothing to do: then nothing is asked. */
  action: string | null
  back: string
  facts: readonly (readonly [string, string])[]
  fields: Readonly<Record<string, string>>
  /** True where the answer needs a reason, in a field named `note`. */
  withNote: boolean
}>
