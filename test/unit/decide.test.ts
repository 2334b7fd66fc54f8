import { describe, expect, it } from 'vitest'

import {
  type Closing,
  checkTrade,
  decide,
  decideAfterClose,
  gatewayStatusOf,
  isGoingBack,
  REPAIR_OF_ACTION,
  type Situation,
} from '../../src/domain/decide.js'
import { type Fen, fenFrom } from '../../src/domain/money.js'
import { ORDER_STATUSES, type OrderStatus } from '../../src/domain/order.js'
import { TRADE_STATES, type Trade, type TradeState } from '../../src/domain/trade.js'

// Written from the specification, not from the code: each cell says what happens, `|` in a cell parts its conditions,
// and `!kind` is the exception it opens.
const TABLE = `
order          ; trade         ; neither          ; expired          ; young
progress       ; paid          ; settle           ; settle           ; settle
progress       ; paying        ; wait             ; close_gateway@   ; wait
progress       ; closed        ; close_local      ; close_local      ; close_local
progress       ; refunded      ; none !refunded_unsettled ; none !refunded_unsettled ; none !refunded_unsettled
progress       ; not_found     ; close_local      ; close_local      ; wait
progress       ; not_found_yet ; wait             ; close_gateway@   ; wait
success        ; paid          ; none             ; none             ; none
success        ; paying        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
success        ; closed        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
success        ; refunded      ; none             ; none             ; none
success        ; not_found     ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
success        ; not_found_yet ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
close          ; paid          ; settle !paid_after_close ; settle !paid_after_close ; settle !paid_after_close
close          ; paying        ; close_gateway    ; close_gateway    ; close_gateway
close          ; closed        ; none             ; none             ; none
close          ; refunded      ; none             ; none             ; none
close          ; not_found     ; none             ; none             ; none
close          ; not_found_yet ; none             ; none             ; none
fail           ; paid          ; settle           ; settle           ; settle
fail           ; paying        ; reopen           ; close_gateway@   ; reopen
fail           ; closed        ; close_local      ; close_local      ; close_local
fail           ; refunded      ; none !refunded_unsettled ; none !refunded_unsettled ; none !refunded_unsettled
fail           ; not_found     ; close_local      ; close_local      ; close_local
fail           ; not_found_yet ; close_gateway    ; close_gateway    ; close_gateway
refunding      ; paid          ; none             ; none             ; none
refunding      ; paying        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
refunding      ; closed        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
refunding      ; refunded      ; none             ; none             ; none
refunding      ; not_found     ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
refunding      ; not_found_yet ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
partial_refund ; paid          ; none             ; none             ; none
partial_refund ; paying        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
partial_refund ; closed        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
partial_refund ; refunded      ; none             ; none             ; none
partial_refund ; not_found     ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
partial_refund ; not_found_yet ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
refunded       ; paid          ; none             ; none             ; none
refunded       ; paying        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
refunded       ; closed        ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
refunded       ; refunded      ; none             ; none             ; none
refunded       ; not_found     ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
refunded       ; not_found_yet ; none !paid_here_not_there ; none !paid_here_not_there ; none !paid_here_not_there
`

const rows = TABLE.trim()
  .split('\n')
  .slice(1)
  .map((line) => line.split(';').map((cell) => cell.trim()) as [OrderStatus, TradeState, string, string, string])

function situation(status: OrderStatus, over: Partial<Situation> = {}): Situation {
  return {
    status,
    expired: false,
    young: false,
    gatewayOrderNo: null,
    latePayment: 'settle',
    reversalForS: null,
    ...over,
  }
}

function said(status: OrderStatus, state: TradeState, over: Partial<Situation>): string {
  const { action, exception, byExpiry } = decide(situation(status, over), { state, gatewayOrderNo: 'T1' })
  return `${action}${byExpiry && action === 'close_gateway' ? '@' : ''}${exception === null ? '' : ` !${exception}`}`
}

describe('the decision table', () => {
  it('is tested in every cell', () => {
    const cells = rows.map(([status, state]) => `${status} ${state}`)
    expect(cells.toSorted()).toEqual(
      ORDER_STATUSES.flatMap((status) => TRADE_STATES.map((state) => `${status} ${state}`)).toSorted(),
    )
  })

  it.each(rows)('%s order, %s trade: %s, expired: %s, young: %s', (status, state, neither, expired, young) => {
    expect(said(status, state, {})).toBe(neither)
    expect(said(status, state, { expired: true })).toBe(expired)
    expect(said(status, state, { young: true })).toBe(young)
  })

  it('only expiry is told as the reason, and only where it was', () => {
    const reason = (state: TradeState, over: Partial<Situation>) =>
      decide(situation('progress', over), { state, gatewayOrderNo: null }).byExpiry
    expect(reason('paying', { expired: true })).toBe(true)
    expect(reason('paying', {})).toBe(false)
    expect(reason('not_found', { expired: true })).toBe(false)
    expect(reason('not_found', { young: true })).toBe(false)
    expect(reason('paid', { expired: true })).toBe(false)
  })

  it('holds a late payment where the policy says so, and opens the exception all the same', () => {
    expect(said('close', 'paid', { latePayment: 'hold' })).toBe('none !paid_after_close')
    expect(said('progress', 'paid', { latePayment: 'hold' })).toBe('settle')
  })

  it('a reversed trade that is paid is late, as one of a closed order is; until ten minutes after, it is going back', () => {
    for (const status of ['progress', 'fail', 'close'] as const) {
      expect(said(status, 'paid', { reversalForS: 600 })).toBe('settle !paid_after_close')
      expect(said(status, 'paid', { reversalForS: 600, latePayment: 'hold' })).toBe('none !paid_after_close')
    }
    expect(said('success', 'paid', { reversalForS: 600 })).toBe('none')
    const goesBack = (state: TradeState, reversalForS: number | null) =>
      isGoingBack(situation('progress', { reversalForS }), { state })
    expect(goesBack('paid', 0)).toBe(true)
    expect(goesBack('paid', 599.9)).toBe(true)
    expect(goesBack('paid', 600)).toBe(false)
    expect(goesBack('paid', null)).toBe(false)
    expect(goesBack('refunded', 0)).toBe(false)
  })

  it.each(['success', 'refunding', 'partial_refund', 'refunded'] as const)(
    'sees a second transaction on a %s order',
    (status) => {
      expect(said(status, 'paid', { gatewayOrderNo: 'T2' })).toBe('none !double_payment')
      expect(said(status, 'paid', { gatewayOrderNo: 'T1' })).toBe('none')
      expect(said(status, 'refunded', { gatewayOrderNo: 'T2' })).toBe('none')
      expect(
        decide(situation(status, { gatewayOrderNo: 'T1' }), { state: 'paid', gatewayOrderNo: null }).exception,
      ).toBeNull()
    },
  )

  it('a live order known under another transaction is settled by the one that was paid', () => {
    expect(said('progress', 'paid', { gatewayOrderNo: 'T2' })).toBe('settle')
  })

  it('never un-pays an order', () => {
    for (const status of ['success', 'refunding', 'partial_refund', 'refunded'] as const) {
      for (const state of TRADE_STATES) {
        for (const expired of [true, false]) {
          for (const young of [true, false]) {
            expect(
              REPAIR_OF_ACTION[decide(situation(status, { expired, young }), { state, gatewayOrderNo: null }).action],
            ).toBeNull()
          }
        }
      }
    }
  })
})

// Written from the specification: what the second query says, against what the close was answered; `@` is told as
// pay_timeout, `?` means that nothing changes because the two contradict each other, `-` that the close was refused.
const AFTER_CLOSE = `
order    ; now           ; accepted                   ; refused                    ; reversed                   ; refunded
progress ; paid          ; settle                     ; settle                     ; ?                          ; ?
progress ; paying        ; ?                          ; -                          ; ?                          ; ?
progress ; closed        ; close_gateway@             ; close_local                ; close_gateway@             ; ?
progress ; refunded      ; none !refunded_unsettled   ; none !refunded_unsettled   ; none !refunded_unsettled   ; none !refunded_unsettled
progress ; not_found     ; close_gateway@             ; close_local                ; close_gateway@             ; ?
progress ; not_found_yet ; close_gateway@             ; close_gateway@             ; close_gateway@             ; ?
fail     ; paid          ; settle                     ; settle                     ; ?                          ; ?
fail     ; paying        ; ?                          ; -                          ; ?                          ; ?
fail     ; closed        ; close_gateway@             ; close_local                ; close_gateway@             ; ?
fail     ; refunded      ; none !refunded_unsettled   ; none !refunded_unsettled   ; none !refunded_unsettled   ; none !refunded_unsettled
fail     ; not_found     ; close_gateway@             ; close_local                ; close_gateway@             ; ?
fail     ; not_found_yet ; close_gateway@             ; close_gateway@             ; close_gateway@             ; ?
close    ; paid          ; settle !paid_after_close   ; settle !paid_after_close   ; ?                          ; ?
close    ; paying        ; ?                          ; -                          ; ?                          ; ?
close    ; closed        ; close_gateway@             ; none                       ; close_gateway@             ; ?
close    ; refunded      ; none                       ; none                       ; none                       ; none
close    ; not_found     ; close_gateway@             ; none                       ; close_gateway@             ; ?
close    ; not_found_yet ; close_gateway@             ; close_gateway@             ; close_gateway@             ; ?
`
const CLOSINGS = ['accepted', 'refused', 'reversed', 'refunded'] as const
const afterCloseRows = AFTER_CLOSE.trim()
  .split('\n')
  .slice(1)
  .map((line) => line.split(';').map((cell) => cell.trim()) as [OrderStatus, TradeState, ...string[]])

describe('the decision after a close', () => {
  function saidAfter(status: OrderStatus, closing: Closing, state: TradeState, byExpiry: boolean): string {
    const first = { action: 'close_gateway', exception: null, byExpiry } as const
    const after = decideAfterClose(situation(status, { expired: true }), first, closing, {
      state,
      gatewayOrderNo: null,
    })
    if (!after.confirmed) return after.why === 'refused' ? '-' : '?'
    const { action, exception } = after
    return `${action}${after.byExpiry ? '@' : ''}${exception === null ? '' : ` !${exception}`}`
  }

  it('is tested for every trade state, of every order that is ever closed at the gateway', () => {
    const closable = ORDER_STATUSES.filter((status) =>
      TRADE_STATES.some((state) => said(status, state, { expired: true }).startsWith('close_gateway')),
    )
    expect(afterCloseRows.map(([status, state]) => `${status} ${state}`).toSorted()).toEqual(
      closable.flatMap((status) => TRADE_STATES.map((state) => `${status} ${state}`)).toSorted(),
    )
  })

  it.each(afterCloseRows)(
    '%s order, now %s: accepted %s, refused %s, reversed %s, refunded %s',
    (status, state, ...cells) => {
      for (const [column, closing] of CLOSINGS.entries()) {
        expect(saidAfter(status, closing, state, true), closing).toBe(cells[column])
        // Closed for another reason than its time, it is not told as pay_timeout.
        expect(saidAfter(status, closing, state, false), closing).toBe(cells[column]?.replace('@', ''))
      }
    },
  )
})

describe('gatewayStatus', () => {
  it.each([
    ['paid', 'pay_success'],
    ['paying', 'pay_progress'],
    ['closed', 'pay_closed'],
    ['refunded', 'pay_refund'],
    ['not_found', 'pay_not_found'],
    ['not_found_yet', 'pay_not_found_unknown'],
  ] as const)('%s is told as %s', (state, told) => {
    expect(gatewayStatusOf({ state }, { action: 'none', byExpiry: false })).toBe(told)
    expect(gatewayStatusOf({ state }, { action: 'close_local', byExpiry: true })).toBe(told)
    expect(gatewayStatusOf({ state }, { action: 'close_gateway', byExpiry: false })).toBe(told)
  })

  it('an order closed at the gateway because its time is over is told as pay_timeout', () => {
    expect(gatewayStatusOf({ state: 'closed' }, { action: 'close_gateway', byExpiry: true })).toBe('pay_timeout')
  })
})

describe('repairs', () => {
  it('each action has its status and way', () => {
    expect(REPAIR_OF_ACTION).toEqual({
      settle: { status: 'success', way: 'pay_success' },
      close_local: { status: 'close', way: 'pay_close_local' },
      close_gateway: { status: 'close', way: 'pay_close_gateway' },
      reopen: { status: 'progress', way: 'pay_progress' },
      wait: null,
      none: null,
    })
  })
})

describe('identity and amount', () => {
  const order = { outTradeNo: 'A1', amountFen: fenFrom(1000) as Fen, currency: 'CNY' }
  const account = { merchantId: 'M', appId: 'APP' }
  const paid: Trade = {
    state: 'paid',
    gatewayState: 'SUCCESS',
    outTradeNo: 'A1',
    merchantId: 'M',
    appId: 'APP',
    gatewayOrderNo: 'T1',
    amountFen: fenFrom(1000) as Fen,
    currency: 'CNY',
    paidAt: null,
  }

  it('the same in everything is the same order', () => {
    expect(checkTrade(order, paid, account)).toBeNull()
  })

  it.each([
    ['outTradeNo', 'A2', { kind: 'identity_mismatch', field: 'out_trade_no', expected: 'A1', actual: 'A2' }],
    ['merchantId', 'X', { kind: 'identity_mismatch', field: 'merchant', expected: 'M', actual: 'X' }],
    ['appId', 'X', { kind: 'identity_mismatch', field: 'app', expected: 'APP', actual: 'X' }],
    ['amountFen', fenFrom(999), { kind: 'amount_mismatch', field: 'amount', expected: '1000', actual: '999' }],
    ['currency', 'USD', { kind: 'amount_mismatch', field: 'currency', expected: 'CNY', actual: 'USD' }],
  ])('another %s is told', (field, value, mismatch) => {
    expect(checkTrade(order, { ...paid, [field]: value }, account)).toEqual(mismatch)
    expect(checkTrade(order, { ...paid, state: 'paying', [field]: value }, account)).toEqual(mismatch)
  })

  it('identity is told before money', () => {
    expect(checkTrade(order, { ...paid, outTradeNo: 'A2', amountFen: null }, account)?.field).toBe('out_trade_no')
  })

  it('a paid trade must name the order and the amount', () => {
    expect(checkTrade(order, { ...paid, outTradeNo: null }, account)).toMatchObject({
      field: 'out_trade_no',
      actual: '',
    })
    expect(checkTrade(order, { ...paid, amountFen: null }, account)).toMatchObject({ field: 'amount', actual: '' })
  })

  it('what an unpaid trade leaves out is not held against it', () => {
    const bare = {
      ...paid,
      state: 'not_found',
      outTradeNo: null,
      merchantId: null,
      appId: null,
      amountFen: null,
      currency: null,
    } as const
    expect(checkTrade(order, bare, account)).toBeNull()
  })

  it('a channel whose answers name no merchant is not asked for one', () => {
    expect(checkTrade(order, { ...paid, merchantId: 'anything' }, { merchantId: null, appId: null })).toBeNull()
  })
})
