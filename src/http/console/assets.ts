import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

import type { FastifyInstance } from 'fastify'

import { CLIENT_SCRIPT } from './client-script.js'
import { STYLE } from './style.js'

const require = createRequire(import.meta.url)
const fileOf = (name: string): Buffer => readFileSync(require.resolve(name))

const JAVASCRIPT = 'text/javascript; charset=utf-8'
const CSS = 'text/css; charset=utf-8'

/** Everything a page loads, read once from the installed packages: the page needs no network but this service. */
function readAssets() {
  const assets = {
    'console.css': { type: CSS, body: Buffer.from(STYLE) },
    'console.js': { type: JAVASCRIPT, body: Buffer.from(CLIENT_SCRIPT) },
    'htmx.js': { type: JAVASCRIPT, body: fileOf('htmx.org/dist/htmx.min.js') },
    'htmx-sse.js': { type: JAVASCRIPT, body: fileOf('htmx.org/dist/ext/hx-sse.min.js') },
    'uplot.js': { type: JAVASCRIPT, body: fileOf('uplot/dist/uPlot.iife.min.js') },
    'uplot.css': { type: CSS, body: fileOf('uplot/dist/uPlot.min.css') },
  } as const
  const hash = createHash('sha256')
  for (const { body } of Object.values(assets)) hash.update(body)
  return { assets, version: hash.digest('base64url').slice(0, 12) }
}

/** Serves the assets under a path that changes with them, so that browsers keep each version for good. */
export function registerAssets(scope: FastifyInstance): Readonly<{ path: string }> {
  const { assets, version } = readAssets()
  for (const [name, { type, body }] of Object.entries(assets)) {
    const etag = `"${version}"`
    scope.get(`/assets/${version}/${name}`, async (request, reply) => {
      void reply.headers({ etag, 'cache-control': 'public, max-age=31536000, immutable' })
      if (request.headers['if-none-match'] === etag) return await reply.code(304).send()
      return await reply.type(type).send(body)
    })
  }
  return { path: `/console/assets/${version}` }
}
