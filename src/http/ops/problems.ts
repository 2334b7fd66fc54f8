import { z } from 'zod'

const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string().optional(),
    errors: z.array(z.string()).optional(),
    traceId: z.string().describe('leads to the log'),
  })
  .meta({ id: 'Problem' })

const PROBLEM = {
  400: 'The request is not understood; `errors` says where.',
  401: 'No token, or a wrong one.',
  404: 'There is no such thing.',
  409: 'It is not in a state for this.',
  413: 'The body is larger than 1 MiB.',
  414: 'The id is too long.',
  415: 'The body is of a type that is not read here.',
  422: 'It cannot be done for this order.',
  429: 'Too many wrong tokens from this address; Retry-After says when to come back.',
  500: 'Our fault; the log has the reason under the traceId.',
  502: 'The gateway could not be asked, or its answer proves nothing. Nothing changed here; `detail` says whether it was asked to close the trade.',
  503: 'Too much work at the moment; Retry-After says when to come back.',
} as const

/** The RFC 9457 answers of a route, for its schema: those that every route has, and the named ones. */
export function problems(...more: readonly (keyof typeof PROBLEM)[]) {
  const statuses = [400, 401, 429, 500, 503, ...more] as const
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      { description: PROBLEM[status], content: { 'application/problem+json': { schema: problemSchema } } },
    ]),
  ) as Record<number, { description: string; content: Record<string, { schema: typeof problemSchema }> }>
}
