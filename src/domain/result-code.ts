/** The codes of the wire, in the order in which they are checked (CONTRACT: Codes). */
export const RESULT_CODES = {
  success: { code: 0, message: 'success' },
  unreadable: { code: 10005, message: '参数处理失败' },
  invalid: { code: 10006, message: '验证参数错误' },
  unsigned: { code: 20000, message: '未通过签名验证' },
  outOfWindow: { code: 10008, message: '请求已过期' },
  orderNotNamed: { code: 20000, message: '未查询到支付订单' },
  orderNotFound: { code: 20000, message: '未查询到支付订单' },
  noChannel: { code: 20000, message: '订单没有异步支付方式，不需要同步' },
  channelNotConfigured: { code: 20000, message: '支付通道未配置' },
  busy: { code: 10007, message: '支付同步处理中，请勿重复操作' },
  amountMismatch: { code: 28100, message: '支付金额异常' },
  identityMismatch: { code: 28100, message: '网关订单信息不一致' },
  gatewayUnknown: { code: 20000, message: '支付网关未能确认订单状态' },
  // Not of the contract's table: the gateway was not asked, for a reason of ours that passes by itself.
  tooMany: { code: 20000, message: '请求过于频繁，请稍后再试' },
  overloaded: { code: 20000, message: '系统繁忙，请稍后再试' },
  unexpected: { code: 10001, message: '系统错误' },
  noSuchRoute: { code: 10010, message: '未找到接口信息' },
} as const satisfies Record<string, { code: number; message: string }>

export type ResultName = keyof typeof RESULT_CODES
