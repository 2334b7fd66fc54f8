import type { Fen } from '../domain/money.js'
import { type NoticePayload, noticePayload, signedNotice } from '../domain/notice.js'
import type { OrderId } from '../domain/order.js'
import { NOTICE_DELAYS_S } from '../domain/schedule.js'

/** What the document says of the notice that merchants get: the one call that this service makes to others' interfaces. */

const waits = NOTICE_DELAYS_S.map((seconds) =>
  seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${seconds / 60} min` : `${seconds / 3600} h`,
)

const DESCRIPTION = `Sent to the order's \`notifyUrl\` when the order became \`success\` or \`close\`; of nothing else. It is taken when the
answer's body, trimmed, is \`SUCCESS\`, within 5 s, whatever the HTTP status. Else it is sent again, ${NOTICE_DELAYS_S.length + 1} times in all: after ${waits.join(', ')}.
At least once: the same notice may come twice. Redirects are not followed. Once a newer one of the order is written, an older one
is not sent any more.

**Signature.** By the rule of \`POST /unipay/syncPay\`, over all fields but \`sign\`; null is left out. A list stands in the text as
JSON whose objects have their keys sorted and every value as a string, the \`"\` deleted with the rest:
\`…&payChannels=[{amount:1000,channel:wechat_pay,way:qrcode}]&…\``

/** The secret of the examples: the one of the contract, and of the demo. */
const SECRET = '123456'

const EXAMPLE = signedNotice(
  noticePayload({
    id: 1_753_370_980_523_384_832n as OrderId,
    businessNo: 'P0001',
    channel: 'wechat_pay',
    payWay: 'qr_code',
    amountFen: 1000n as Fen,
    status: 'success',
    createdAt: new Date(1_710_465_239_000),
    payTime: new Date(1_710_465_299_000),
    closeTime: null,
    attach: null,
  }),
  SECRET,
  'MD5',
)

const PROPERTIES = {
  paymentId: { type: 'string', description: 'a string: a JSON number would lose digits in many clients' },
  businessNo: { type: 'string' },
  asyncPay: { type: 'boolean', description: 'whether the order has a channel' },
  asyncChannel: { type: ['string', 'null'] },
  amount: { type: 'integer', description: 'fen' },
  payChannels: {
    type: 'array',
    items: {
      type: 'object',
      required: ['channel', 'way', 'amount'],
      properties: {
        channel: { type: 'string' },
        way: { type: ['string', 'null'], description: 'normal, wap, app, web, qrcode, barcode or jsapi' },
        amount: { type: 'integer', description: 'fen' },
      },
    },
  },
  status: { type: 'string', enum: ['success', 'close'] },
  createTime: { type: 'integer', description: 'Unix time in seconds' },
  payTime: { type: ['integer', 'null'], description: 'Unix time in seconds' },
  closeTime: { type: ['integer', 'null'], description: 'Unix time in seconds' },
  attach: { type: ['string', 'null'], description: 'as it was registered' },
  sign: { type: ['string', 'null'], description: 'lower-case hex; null where no secret is set' },
} as const satisfies Record<keyof NoticePayload | 'sign', object>

export const NOTICE_DOCUMENT = {
  post: {
    operationId: 'notice',
    tags: ['merchants'],
    summary: 'What a merchant is told after a repair',
    description: DESCRIPTION,
    requestBody: {
      required: true,
      content: {
        'application/json': {
          schema: { type: 'object', required: Object.keys(PROPERTIES), properties: PROPERTIES },
          example: JSON.parse(EXAMPLE) as unknown,
        },
      },
    },
    responses: {
      200: {
        description: 'It is taken.',
        content: { 'text/plain': { schema: { type: 'string', const: 'SUCCESS' } } },
      },
    },
  },
}
