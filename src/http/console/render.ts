import { Eta } from 'eta/core'
import type { FastifyReply, FastifyRequest } from 'fastify'

import { jsonText, moneyText, timeText, waitText } from './format.js'
import { TEMPLATES, type TemplateName } from './templates.js'
import type { Visit } from './visit.js'
import { LANGUAGES, languageOf, wordOf } from './words.js'

export const LANGUAGE_COOKIE = 'unipay_language'

/**
 * Turns a view into HTML. Every value is escaped by the engine; the raw tag stands in the layout alone, for its body, and
 * a test holds that.
 */
export function createRender(assets: Readonly<{ path: string }>) {
  const eta = new Eta({ autoEscape: true, cache: true })
  for (const [name, template] of Object.entries(TEMPLATES)) eta.loadTemplate(`@${name}`, template)

  function html(request: FastifyRequest, name: TemplateName, view: object): string {
    const visit: Visit | null = request.visit
    const language = visit?.language ?? languageOf(request.cookies[LANGUAGE_COOKIE], request.headers['accept-language'])
    return eta.render(`@${name}`, {
      ...view,
      t: LANGUAGES[language],
      language,
      word: (code: string) => wordOf(language, code),
      money: moneyText,
      time: timeText,
      wait: waitText,
      json: jsonText,
      assets: assets.path,
      operator: visit?.session.operator ?? null,
      csrf: visit?.session.csrf ?? '',
      here: request.method === 'GET' ? request.url : '/console',
      section: /^\/+console(\/[a-z-]*)?/.exec(request.url)?.[1] ?? '/',
    })
  }

  return {
    html,
    page: async (request: FastifyRequest, reply: FastifyReply, name: TemplateName, view: object = {}) =>
      await reply.type('text/html; charset=utf-8').send(html(request, name, view)),
    /** An answer with nothing but words: `say` is a key of the words. */
    message: async (request: FastifyRequest, reply: FastifyReply, status: number, heading: string, say: string) =>
      await reply
        .code(status)
        .type('text/html; charset=utf-8')
        .send(html(request, 'message', { heading, say, status })),
  }
}

export type Render = ReturnType<typeof createRender>

/** Asks before acting: what is done, about how much money, and the fields that the second form repeats. */
export type Confirmation = Readonly<{
  question: string
  fen: bigint
  currency: string
  action: string
  back: string
  facts: readonly (readonly [string, string])[]
  fields: Readonly<Record<string, string>>
}>
