import type { FastifyReply } from 'fastify'

/** An error outside the merchants' wire, as RFC 9457 has it. `detail` says what to do about it. */
export function sendProblem(
  reply: FastifyReply,
  status: number,
  title: string,
  detail?: string,
  errors?: readonly string[],
): FastifyReply {
  return reply
    .code(status)
    .type('application/problem+json')
    .send({ type: 'about:blank', title, status, detail, errors, traceId: reply.request.id })
}
