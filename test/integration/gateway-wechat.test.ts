import { exerciseGateway } from '../support/exercise-gateway.js'
import { startWechat } from '../support/wechat-gateway.js'

const STATES = {
  SUCCESS: 'paid',
  REFUND: 'refunded',
  NOTPAY: 'paying',
  USERPAYING: 'paying',
  ACCEPT: 'paying',
  CLOSED: 'closed',
  REVOKED: 'closed',
  PAYERROR: 'paying',
} as const
const EXERCISE = { states: STATES, absent: 'not_found', open: 'NOTPAY', paid: 'SUCCESS' } as const

exerciseGateway('WeChat Pay APIv3, public-key mode', {
  ...EXERCISE,
  start: async (timeoutMs) => await startWechat({ timeoutMs }),
})
exerciseGateway('WeChat Pay APIv3, certificate mode', {
  ...EXERCISE,
  start: async (timeoutMs) => await startWechat({ timeoutMs, sandbox: { mode: 'certificate' } }),
})
exerciseGateway('WeChat Pay APIv2', {
  ...EXERCISE,
  start: async (timeoutMs) => await startWechat({ timeoutMs, sandbox: { mode: 'v2' } }),
})
