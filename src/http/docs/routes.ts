import { Eta } from 'eta/core'
import type { FastifyInstance } from 'fastify'

import { STYLE } from '../console/style.js'
import { once } from '../openapi.js'
import { DOCS_STYLE, TEMPLATES } from './templates.js'
import { type Document, viewOf } from './view.js'

/** `GET /docs`: the document as a page for people, made once. It needs no script and nothing from elsewhere. */
export function registerDocs(scope: FastifyInstance): void {
  const page = once(() => render(scope.swagger() as unknown as Document))
  scope.get('/docs', async (_request, reply) => await reply.type('text/html; charset=utf-8').send(page()))
  scope.get('/docs/docs.css', async (_request, reply) => {
    return await reply.type('text/css; charset=utf-8').send(STYLE + DOCS_STYLE)
  })
}

/** Every value is escaped by the engine; unescaped stand other templates alone. */
function render(document: Document): string {
  const eta = new Eta({ autoEscape: true, cache: true })
  for (const [name, template] of Object.entries(TEMPLATES)) eta.loadTemplate(`@${name}`, template)
  return eta.render('@page', viewOf(document))
}
