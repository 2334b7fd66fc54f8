import type { Readable } from 'node:stream'

import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'

import type { RegisterMany } from '../../store/import.js'
import { allowLongUpload } from '../client-errors.js'
import { sendProblem } from '../problem.js'
import { HeadLineError, readCsv, readNdjson } from './import-lines.js'
import { importOrders } from './import-orders.js'
import { EXAMPLE_ORDER } from './order-schema.js'
import { problems } from './problems.js'

export type ImportRouteDeps = Readonly<{ registerMany: RegisterMany }>

const importedSchema = z.object({
  total: z.int(),
  created: z.int(),
  same: z.int().describe('were registered already'),
  conflict: z.int().describe('another order has their id or number'),
  invalid: z.int(),
  errors: z.array(z.object({ line: z.int(), reason: z.string() })).describe('the first 1000 bad lines'),
})

/** Documentation only: the stream is read line by line, and each line checked as one order is. */
const BODY_DOCUMENT = {
  content: {
    'application/x-ndjson': {
      schema: {
        type: 'string',
        description: 'One order a line, as `POST /ops/orders` takes it; a line of at most 16 KiB.',
        examples: [`${JSON.stringify(EXAMPLE_ORDER)}\n`],
      },
    },
    'text/csv': {
      schema: {
        type: 'string',
        description:
          'A head line with the names of the fields, those that are required among them; if it is missing, lacks one of these, or names another field or one twice, nothing is registered (400). An empty cell is an absent field; of `channel`, it means none. A record ends with its line, whatever is quoted.',
        examples: ['paymentId,businessNo,channel,amount\n1753370980523384832,P0001,wechat_pay,1000\n'],
      },
    },
  },
}

/** `POST /ops/orders/import`: read as it arrives; the sender is slowed to what the database takes. */
export function registerImportRoutes(scope: FastifyInstance, deps: ImportRouteDeps): void {
  void scope.register((inner, _options, done) => {
    // The stream is handed on as it is: no limit of size, since nothing of it is kept.
    inner.addContentTypeParser(['application/x-ndjson', 'text/csv'], (_request, stream, parsed) => parsed(null, stream))
    inner.withTypeProvider<ZodTypeProvider>().post(
      '/orders/import',
      {
        schema: {
          operationId: 'importOrders',
          tags: ['orders'],
          summary: 'Register many orders, as NDJSON or CSV; bad lines are listed and stop nothing',
          consumes: ['application/x-ndjson', 'text/csv'],
          response: { 200: importedSchema, ...problems(413, 415) },
        },
        config: { documentation: { body: BODY_DOCUMENT } },
      },
      async (request, reply) => {
        const isCsv = /^text\/csv\b/i.test(request.headers['content-type'] ?? '')
        if (!isCsv && !/^application\/x-ndjson\b/i.test(request.headers['content-type'] ?? '')) {
          return sendProblem(
            reply,
            415,
            'Unsupported Media Type',
            'Send Content-Type: application/x-ndjson or text/csv.',
          )
        }
        allowLongUpload(request.raw)
        const stream = request.body as Readable
        const report = await importOrders(isCsv ? readCsv(stream) : readNdjson(stream), deps.registerMany).catch(
          orRefusal,
        )
        if (report instanceof HeadLineError) {
          // The rest is read and thrown away: whoever still sends it would not look at the answer.
          stream.resume()
          return sendProblem(reply, 400, 'Bad Request', report.message)
        }
        const { errors, ...counts } = report
        request.log.info({ event: 'imported', operator: request.operator, ...counts, errorsTold: errors.length })
        return report
      },
    )
    done()
  })
}

function orRefusal(error: unknown): HeadLineError {
  if (error instanceof HeadLineError) return error
  throw error
}
