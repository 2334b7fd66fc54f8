import type { Action, ExceptionKind, GatewayStatus, RepairWay } from '../../domain/decide.js'
import type { Channel, OrderStatus } from '../../domain/order.js'
import type { TradeState } from '../../domain/trade.js'
import type { GatewayAvailability } from '../../gateways/gateway.js'
import type { BatchResult, BatchState } from '../../store/batches.js'
import type { ExceptionState } from '../../store/exceptions.js'
import type { NoticeState } from '../../store/notices.js'
import type { AttemptOutcome } from '../../store/outbox.js'
import type { AgeSpan } from '../../store/overview.js'
import type { SyncCommit, SyncSource } from '../../store/sync-commit.js'

/** Everything that records call things by. What stands alone under another meaning has a prefix of its own. */
type Code =
  | Channel
  | OrderStatus
  | TradeState
  | GatewayStatus
  | RepairWay
  | Action
  | ExceptionKind
  | ExceptionState
  | NoticeState
  | AttemptOutcome
  | BatchResult
  | BatchState
  | SyncCommit['record']['outcome']
  | `by_${SyncSource}`
  | `breaker_${GatewayAvailability}`
  | `age_${AgeSpan}`
  | 'no_channel'
  | 'written'
  | 'dry_run'
  | 'all'

/** In Chinese, as DaxPay and the gateways' documents name them. A code that is added anywhere does not compile without. */
export const CODES_ZH = {
  wechat_pay: '微信支付',
  ali_pay: '支付宝',
  no_channel: '无通道',
  progress: '支付中',
  success: '支付成功',
  close: '支付关闭',
  fail: '支付失败',
  refunding: '退款中',
  partial_refund: '部分退款',
  refunded: '全部退款',
  paid: '已支付',
  paying: '未支付',
  closed: '已关闭',
  not_found: '交易不存在',
  not_found_yet: '交易尚不存在',
  synced: '已同步',
  mismatch: '不符',
  unknown: '未知',
  failed: '失败',
  pay_success: '支付成功',
  pay_progress: '支付中',
  pay_closed: '支付关闭',
  pay_refund: '支付退款',
  pay_not_found: '交易不存在',
  pay_not_found_unknown: '交易尚不存在',
  pay_timeout: '支付超时',
  pay_fail: '查询失败',
  pay_close_local: '本地关闭',
  pay_close_gateway: '网关关闭',
  settle: '确认支付成功',
  close_local: '本地关闭',
  close_gateway: '网关关闭',
  reopen: '恢复为支付中',
  wait: '继续等待',
  none: '无需改动',
  amount_mismatch: '金额不符',
  identity_mismatch: '订单信息不符',
  paid_after_close: '关闭后支付',
  paid_here_not_there: '本地已支付而网关未支付',
  refunded_unsettled: '未确认支付即退款',
  double_payment: '重复支付',
  open: '未处理',
  resolved: '已处理',
  all: '全部',
  pending: '待发送',
  delivered: '已送达',
  dead: '已放弃',
  superseded: '已被更新的通知取代',
  refused: '商户未确认',
  timeout: '超时',
  unreachable: '无法连接',
  not_allowed: '地址不在允许范围',
  written: '已生成',
  by_merchant: '商户发起',
  by_sweeper: '自动巡检',
  by_operator: '运维操作',
  by_batch: '批量同步',
  breaker_closed: '正常',
  breaker_half_open: '试探中',
  breaker_open: '已熔断',
  age_15m: '15 分钟内',
  age_1h: '1 小时内',
  age_6h: '6 小时内',
  age_24h: '24 小时内',
  age_older: '超过 24 小时',
  settled: '已确认支付成功',
  closed_local: '已本地关闭',
  closed_gateway: '已网关关闭',
  reopened: '已恢复为支付中',
  waiting: '等待支付',
  unchanged: '无改动',
  gone: '无法同步',
  busy: '正在被同步',
  running: '进行中',
  paused: '已暂停',
  cancelled: '已取消',
  done: '已完成',
  dry_run: '试运行',
} as const satisfies Readonly<Record<Code, string>>

/** English keeps the records' own words, so that they can be searched for; here are those that say too little. */
export const CODES_EN = {
  no_channel: 'no channel',
  none: 'no change',
  by_merchant: 'for a merchant',
  by_sweeper: 'by the sweeper',
  by_operator: 'for an operator',
  by_batch: 'for a batch',
  breaker_closed: 'normal',
  breaker_half_open: 'probing',
  breaker_open: 'open: not asked',
  age_15m: '≤ 15 min',
  age_1h: '≤ 1 h',
  age_6h: '≤ 6 h',
  age_24h: '≤ 24 h',
  age_older: '> 24 h',
  dry_run: 'dry run',
} as const satisfies Partial<Readonly<Record<Code, string>>>

export type Tone = 'good' | 'warn' | 'bad' | 'plain'

/** What a state means to somebody who looks for trouble. Most mean nothing: only what is over or wrong has a colour. */
const TONES: Partial<Readonly<Record<Code, Tone>>> = {
  success: 'good',
  settled: 'good',
  delivered: 'good',
  done: 'good',
  resolved: 'good',
  breaker_closed: 'good',
  unknown: 'warn',
  busy: 'warn',
  paused: 'warn',
  breaker_half_open: 'warn',
  refused: 'warn',
  timeout: 'warn',
  unreachable: 'warn',
  fail: 'bad',
  mismatch: 'bad',
  failed: 'bad',
  open: 'bad',
  dead: 'bad',
  not_allowed: 'bad',
  breaker_open: 'bad',
}

export function toneOf(code: string): Tone {
  return (TONES as Readonly<Record<string, Tone>>)[code] ?? 'plain'
}
