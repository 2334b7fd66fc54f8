import type { KeyPair } from './keys.js'
import type { TradeBook } from './trades.js'
import type { V2SignType } from './wechat-crypto.js'

/** The merchant as the simulated gateway knows it. */
export type WechatAccount = Readonly<{
  mchId: string
  appId: string
  /** Partner mode: the service provider, who signs; `mchId` is then the sub-merchant. */
  spMchId: string | null
  /** Partner mode: the sub-merchant's own app, told in answers where there is one. */
  subAppId: string | null
  merchantSerial: string
  apiV3Key: string
  apiV2Key: string
  v2SignType: V2SignType
}>

/** A key that answers are signed with: a platform certificate's, or the public-key mode's. */
export type PlatformKey = Readonly<{
  /** Hexadecimal certificate serial, or `PUB_KEY_ID_…`. */
  serial: string
  pair: KeyPair
  certificatePem: string | null
  effectiveAt: number
  expiresAt: number
}>

export type WechatContext = {
  readonly account: WechatAccount
  readonly merchant: KeyPair
  /** All valid ones. */
  platformKeys: readonly PlatformKey[]
  /** The one that signs. */
  signer: PlatformKey
  /** Signs what claims to come from a key that the merchant has never heard of. */
  readonly stranger: () => Promise<KeyPair>
  readonly book: TradeBook
  readonly now: () => number
  /** Codes as some of the real ones are written: `ORDERPAID` for `ORDER_PAID`. */
  readonly plainCodes: boolean
}

export const WECHAT_STATES = [
  'NOT_EXIST',
  'NOTPAY',
  'USERPAYING',
  'ACCEPT',
  'SUCCESS',
  'REFUND',
  'CLOSED',
  'REVOKED',
  'PAYERROR',
] as const

export const WECHAT_PAID_STATES: readonly string[] = ['SUCCESS', 'REFUND']

export const WECHAT_STATE_TEXTS: Readonly<Record<string, string>> = {
  NOTPAY: '订单未支付',
  USERPAYING: '用户支付中，需要输入密码',
  ACCEPT: '已接收，等待扣款',
  SUCCESS: '支付成功',
  REFUND: '订单发生过退款，退款详情请查询退款单',
  CLOSED: '订单已关闭',
  REVOKED: '订单已撤销',
  PAYERROR: '支付失败(其他原因，如银行返回失败)',
}

// WeChat Pay: an order can be closed 5 minutes after it was made at the earliest.
export const CLOSE_AGE_MS_MIN = 5 * 60 * 1000
// And no later than 7 days after.
export const CLOSE_AGE_MS_MAX = 7 * 24 * 3600 * 1000
