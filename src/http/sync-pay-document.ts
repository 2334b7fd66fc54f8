import type { GatewayStatus } from '../domain/decide.js'
import { RESULT_CODES, type ResultName } from '../domain/result-code.js'
import { signatureOf, signText } from '../domain/sign.js'
import { errorReply, successReply } from './reply.js'

/**
 * What the document says of `POST /unipay/syncPay`. Documentation only: the body is read by hand from its untouched bytes
 * (body.ts), and a schema on the route would make Fastify read it a second time.
 */

const WHEN = {
  success: 'synced; `repair` says whether this call changed something',
  unreadable:
    'the body is not a JSON object, is larger than 64 KiB, or a field has an impossible type: the message says what and where',
  invalid:
    '`reqTime` is missing or blank, `clientIp` is no address, or `businessNo` is too long: the message says which',
  unsigned: 'the signature is missing or wrong while one is required',
  outOfWindow: '`reqTime` is outside the allowed window, where one is configured',
  orderNotNamed: 'neither id is given',
  orderNotFound: 'no such order',
  noChannel: 'the order has no asynchronous channel: nobody to ask',
  channelNotConfigured: "the order's channel is not configured here",
  busy: 'the same order is being synced',
  amountMismatch: "the gateway's amount or currency differs from the order's: nothing changed here",
  identityMismatch: "the gateway's merchant, app or order number differs from the order's: nothing changed here",
  gatewayUnknown:
    "the gateway could not be asked, or its answer proves nothing: nothing changed here; in the gateway's own words where it has any",
  tooMany: 'too many requests of one address: nothing was asked; `Retry-After` says when to come back',
  overloaded: 'too much work at the moment: nothing was asked; `Retry-After` says when to come back',
  unexpected: 'unexpected; the traceId leads to the log',
  noSuchRoute: 'a wrong method, or an unknown path under /unipay',
} as const satisfies Record<ResultName, string>

const GATEWAY_STATUS = {
  pay_success: 'paid',
  pay_progress: 'not paid yet',
  pay_closed: 'closed unpaid, revoked or failed',
  pay_refund: 'refunded, in part or whole',
  pay_not_found: 'no such trade',
  pay_not_found_unknown: 'no such trade yet (Alipay: it exists only once the buyer has scanned)',
  pay_timeout: "not paid, and the order's time is over: closed by this sync",
  pay_fail: null,
} as const satisfies Record<GatewayStatus, string | null>

const told = Object.entries(GATEWAY_STATUS).filter(([, meaning]) => meaning !== null)

const codeRows = Object.entries(RESULT_CODES).map(
  ([name, { code, message }]) => `| ${code} | ${message} | ${WHEN[name as ResultName]} |`,
)

const DESCRIPTION = `Asks the gateway what became of one order, and makes the order here agree with it. The wire is that of DaxPay 2.0.0 to
2.0.5: its Java SDK works unmodified.

**Lossless ids.** \`paymentId\` may be a JSON number of up to 19 digits, taken from its literal text, or a string. Clients whose
numbers are doubles send a string: 1753370980523384832 is above 2^53, and \`JSON.parse\` makes another order of it. The examples
here have it as a string for that reason alone.

**Signature.** The fields that are present and not null, without \`sign\`, sorted by name and joined as \`k=v&k=v\`; every \`"\` and
\`\\\` deleted; then \`&key=\` and the secret; MD5 (or HMAC-SHA256 with the secret as key) of its UTF-8, lower-case hex. Numbers in
plain decimal; the empty string counts. With the secret \`123456\` the text of the second example is
\`businessNo=P0001&reqTime=1710465239&key=123456\`. The \`sign\` of a successful answer is made by the same rule, over \`gatewayStatus\`,
\`repair\` and \`repairOrderNo\` of its \`data\`.

HTTP says 200 for every answer under /unipay; only what never becomes a request is told 400 (no HTTP, or no \`Host\`), 431 (URL
and headers above 16 KiB) or 408 (not here within 30 s). \`code\` tells, checked in this order:

| code | msg | when |
|---|---|---|
${codeRows.join('\n')}`

/** The secret of the examples: the one of the contract, and of the demo. */
const SECRET = '123456'
const REQ_TIME = 1_710_465_239
const answered = () => ({ id: 'vHugexb46msh', result: null })

const request = (fields: Readonly<{ paymentId: string } | { businessNo: string }>) => ({
  ...fields,
  reqTime: REQ_TIME,
  sign: signatureOf(signText({ ...fields, reqTime: REQ_TIME }), SECRET, 'MD5'),
})

const example = (summary: string, value: unknown) => ({ summary, value })
const answer = (summary: string, reply: string) => example(summary, JSON.parse(reply))
const signing = { secrets: [SECRET], type: 'MD5', required: true } as const
const success = (gatewayStatus: GatewayStatus, repairNo: string | null) =>
  successReply({ gatewayStatus, repairNo }, signing, answered())

export const SYNC_PAY_DOCUMENT = {
  operationId: 'syncPay',
  tags: ['merchants'],
  summary: 'Sync one order with the gateway, and repair it',
  description: DESCRIPTION,
  body: {
    type: 'object',
    required: ['reqTime'],
    properties: {
      paymentId: {
        type: ['string', 'integer', 'null'],
        description: 'id of the order, up to 19 digits; this or businessNo. Both given: this one counts, alone',
      },
      businessNo: { type: ['string', 'null'], maxLength: 100, description: "the merchant's order number" },
      clientIp: { type: ['string', 'null'], description: "the user's address, IPv4 or IPv6; recorded" },
      reqTime: { type: ['integer', 'string'], description: 'Unix time in seconds' },
      sign: { type: ['string', 'null'], description: 'required where signatures are; lower-case hex' },
    },
    additionalProperties: true,
    'x-examples': {
      byPaymentId: example('by paymentId', request({ paymentId: '1753370980523384832' })),
      byBusinessNo: example('by businessNo', request({ businessNo: 'P0001' })),
    },
  },
  response: {
    200: {
      description: 'Every answer, errors included. An error has no `data` and no `sign`.',
      content: {
        'application/json': {
          schema: {
            type: 'object',
            required: ['msg', 'code', 'data', 'traceId'],
            properties: {
              msg: { type: 'string', description: 'in Chinese, for people' },
              code: { type: 'integer', enum: [...new Set(Object.values(RESULT_CODES).map(({ code }) => code))] },
              data: {
                type: ['object', 'null'],
                required: ['gatewayStatus', 'success', 'repair', 'repairOrderNo', 'errorMsg'],
                properties: {
                  gatewayStatus: {
                    type: 'string',
                    enum: told.map(([status]) => status),
                    description: told.map(([status, meaning]) => `\`${status}\` ${meaning}`).join(' · '),
                  },
                  success: { type: 'boolean', description: 'always true here; not signed' },
                  repair: { type: 'boolean', description: 'whether this call changed the order, or its trade' },
                  repairOrderNo: { type: ['string', 'null'], description: 'null when nothing was repaired' },
                  errorMsg: { type: 'string', description: 'always empty here; not signed' },
                },
              },
              sign: { type: ['string', 'null'], description: 'over data; not on errors; null where no secret is set' },
              traceId: { type: 'string', description: 'on the log lines and the records of this request' },
            },
          },
          examples: {
            repaired: answer('paid there, and now here', success('pay_success', '1753370980523324312')),
            unchanged: answer('not paid yet: nothing changed', success('pay_progress', null)),
            busy: answer('the same order is being synced', errorReply('busy', answered())),
            unsigned: answer('the signature is wrong', errorReply('unsigned', answered())),
          },
        },
      },
    },
  },
}
