import { createHash } from 'node:crypto'

import type pg from 'pg'

import { type Shot, syncPayBytes } from './load.js'

export const SECRET = 'bench-secret'
export type Channel = 'wechat_pay' | 'ali_pay'
/** What the gateway says of an order, by the first letter of its number (bench/gateway.ts). */
export type Kind = 'N' | 'P' | 'X' | 'S'

/** Orders of one kind, with ids in steps through a range of their own. */
export type Block = Readonly<{ kind: Kind; channel: Channel; firstId: bigint; count: number; step: bigint }>

/** Above 2^53, as the merchants' ids are. */
const FIRST_ID = 1_700_000_000_000_000_000n
/** Those of the tables whose size is compared: databases of their own. */
export const SCALE_FIRST_ID = FIRST_ID
const BLOCK_SIZE = 1_000_000_000n
let blocks = 0n

/** Room for `count` orders that nobody else has. */
export function newBlock(kind: Kind, channel: Channel, count: number): Block {
  const firstId = FIRST_ID + blocks * BLOCK_SIZE
  blocks += 1n
  return { kind, channel, firstId, count, step: 1n }
}

/** Inserts a block's orders; those of kind X are expired, all are ten minutes old. */
export async function seed(pool: pg.Pool, block: Block): Promise<void> {
  const batch = 500_000
  for (let from = 0; from < block.count; from += batch) {
    const to = Math.min(block.count, from + batch) - 1
    await pool.query(
      `INSERT INTO orders (id, business_no, title, channel, pay_way, amount_fen, status, out_trade_no, created_at,
         expires_at, notify_url, attach, next_sync_at)
       SELECT $1::bigint + n, 'B' || ($1::bigint + n), 'bench', $2, 'qr_code', 1000, 'progress', $3 || ($1::bigint + n),
         now() - interval '10 minutes', now() + $4::float8 * interval '1 minute', 'http://127.0.0.1:9/notice', 'bench',
         now() + interval '1 hour'
       FROM generate_series($5::bigint, $6::bigint) AS n`,
      [block.firstId.toString(), block.channel, block.kind, block.kind === 'X' ? -1 : 600, from, to],
    )
  }
}

/** Makes a block's orders unsettled again, so that they can be repaired once more. */
export async function reset(pool: pg.Pool, block: Block): Promise<void> {
  await pool.query(
    `UPDATE orders SET status = 'progress', gateway_order_no = NULL, pay_time = NULL, close_time = NULL,
       next_sync_at = now() + interval '1 hour', lease_token = NULL, lease_expires_at = NULL
     WHERE id BETWEEN $1 AND $2 AND (status <> 'progress' OR lease_token IS NOT NULL)`,
    [block.firstId.toString(), (block.firstId + BigInt(block.count) * block.step).toString()],
  )
}

export function outTradeNos(block: Block): string[] {
  return Array.from({ length: block.count }, (_, n) => `${block.kind}${block.firstId + BigInt(n) * block.step}`)
}

/** The block's signed requests, in order; `isEndless` begins again after the last one. */
export function shots(port: number, block: Block, options: Readonly<{ isEndless: boolean; isForged?: boolean }>) {
  const made = outTradeNos(block).map((outTradeNo): Shot => {
    const paymentId = outTradeNo.slice(1)
    const reqTime = 1_700_000_000
    const text = `paymentId=${paymentId}&reqTime=${reqTime}&key=${options.isForged === true ? 'wrong' : SECRET}`
    const sign = createHash('md5').update(text).digest('hex')
    return { outTradeNo, bytes: syncPayBytes(port, `{"paymentId":${paymentId},"reqTime":${reqTime},"sign":"${sign}"}`) }
  })
  let at = 0
  return (): Shot | null => {
    if (at >= made.length) {
      if (!options.isEndless) return null
      at = 0
    }
    return made[at++] ?? null
  }
}
