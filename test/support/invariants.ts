import type { Pool } from 'pg'

/**
 * What must hold in the database at any moment, whoever is in the middle of what (SYNC.md, "Invariants"). Each query
 * gives the rows that break its rule; `o`, `r`, `s` and `n` are the orders, repairs, syncs and notices looked at.
 */
const RULES: readonly (readonly [rule: string, sql: string])[] = [
  [
    'a repair and its sync name each other',
    `SELECT r.order_id, r.repair_no::text AS what FROM r LEFT JOIN s ON s.id = r.sync_id
     WHERE s.repair_no IS DISTINCT FROM r.repair_no OR s.order_id <> r.order_id OR s.outcome <> 'synced'`,
  ],
  [
    'a sync that names a repair has it',
    `SELECT s.order_id, s.repair_no::text FROM s WHERE s.repair_no IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM r WHERE r.repair_no = s.repair_no AND r.sync_id = s.id)`,
  ],
  [
    'every change of an order has one repair',
    `SELECT o.id, o.version || ' changes, ' || count(r.repair_no) || ' repairs' FROM o LEFT JOIN r ON r.order_id = o.id
     GROUP BY o.id, o.version HAVING count(r.repair_no) <> o.version`,
  ],
  [
    'repairs follow each other without a gap, up to the order as it is',
    `SELECT order_id, status_after || ' then ' || next FROM (
       SELECT r.order_id, r.status_after, coalesce(lead(r.status_before) OVER w, o.status) AS next
       FROM r JOIN o ON o.id = r.order_id WINDOW w AS (PARTITION BY r.order_id ORDER BY r.repair_no)
     ) chain WHERE status_after <> next`,
  ],
  [
    'nothing is settled without a verified "paid"',
    `SELECT r.order_id, s.trade_state FROM r JOIN s ON s.id = r.sync_id
     WHERE r.status_after = 'success' AND s.trade_state IS DISTINCT FROM 'paid'`,
  ],
  [
    'a paid order is never un-paid',
    `SELECT order_id, status_after FROM r
     WHERE status_before IN ('success', 'refunding', 'partial_refund', 'refunded') AND status_after <> status_before`,
  ],
  [
    'one notice for each order that became paid or closed, and no other',
    `SELECT r.order_id, r.status_before || ' to ' || r.status_after FROM r
     JOIN o ON o.id = r.order_id LEFT JOIN n ON n.repair_no = r.repair_no
     WHERE (n.id IS NOT NULL) <> (r.status_before <> r.status_after AND r.status_after IN ('success', 'close')
       AND o.notify_url IS NOT NULL) OR n.payload->>'status' <> r.status_after`,
  ],
  [
    'only the newest notice of an order is still to be delivered',
    `SELECT order_id, state FROM n WHERE state IN ('pending', 'dead')
     AND EXISTS (SELECT 1 FROM notices newer WHERE newer.order_id = n.order_id AND newer.id > n.id)`,
  ],
  [
    'settled orders have a pay time, closed ones a close time',
    `SELECT id, status FROM o WHERE version > 0
     AND (status = 'success' AND (pay_time IS NULL OR gateway_order_no IS NULL OR close_time IS NOT NULL)
       OR status = 'close' AND close_time IS NULL)`,
  ],
  [
    'of money that came after the close a human is told',
    `SELECT r.order_id, r.status_before FROM r WHERE r.status_before = 'close' AND r.status_after = 'success'
     AND NOT EXISTS (SELECT 1 FROM sync_exceptions e WHERE e.order_id = r.order_id AND e.kind = 'paid_after_close')`,
  ],
  [
    'open orders come due again',
    `SELECT id, status FROM o WHERE status IN ('progress', 'fail') AND channel IS NOT NULL AND next_sync_at IS NULL`,
  ],
]

const BREACHES = RULES.map(([rule, sql]) => `SELECT '${rule}' AS rule, * FROM (${sql}) AS b (order_id, what)`).join(
  ' UNION ALL ',
)
const sourceSql = (isScoped: boolean) => {
  const scope = (column: string) => (isScoped ? `WHERE ${column} = $1` : '')
  return `WITH o AS (SELECT * FROM orders ${scope('id')}), r AS (SELECT * FROM repair_records ${scope('order_id')}),
    s AS (SELECT * FROM sync_records ${scope('order_id')}), n AS (SELECT * FROM notices ${scope('order_id')})`
}
const IN_ALL = { name: 'breaches_in_all', text: `${sourceSql(false)} ${BREACHES} LIMIT 10` }
const IN_ONE = { name: 'breaches_in_one', text: `${sourceSql(true)} ${BREACHES} LIMIT 10` }

/** Every breach of a rule, in words, among all orders or for one; none where all is well. */
export async function breachesOf(pool: Pool, orderId?: string): Promise<readonly string[]> {
  const query = orderId === undefined ? IN_ALL : { ...IN_ONE, values: [orderId] }
  const { rows } = await pool.query<{ rule: string; order_id: string; what: string | null }>(query)
  return rows.map(({ rule, order_id: id, what }) => `${rule}: order ${id}, ${String(what)}`)
}
