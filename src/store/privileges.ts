import type { ClientBase } from 'pg'

/** What the service does to each of its tables; reading goes without saying. */
const WRITES: Readonly<Record<string, readonly ('INSERT' | 'UPDATE' | 'DELETE')[]>> = {
  orders: ['INSERT', 'UPDATE'],
  sync_records: ['INSERT'],
  repair_records: ['INSERT'],
  sync_exceptions: ['INSERT', 'UPDATE'],
  notices: ['INSERT', 'UPDATE'],
  notice_attempts: ['INSERT'],
  batches: ['INSERT', 'UPDATE'],
  batch_items: ['INSERT', 'UPDATE'],
  console_sign_outs: ['INSERT', 'DELETE'],
}

/** Ids and repair numbers come from these; whoever may write to a table may not use its sequence yet. */
const SEQUENCES = [
  'repair_no_seq',
  'sync_records_id_seq',
  'sync_exceptions_id_seq',
  'notices_id_seq',
  'notice_attempts_id_seq',
  'batches_id_seq',
]

/** What statements call that PUBLIC may call unless somebody revoked it, as hardened databases do. */
const FUNCTIONS = ['next_repair_no()', 'set_config(text, text, boolean)']

const MISSING = `
SELECT privilege || ' ON ' || name AS missing FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
WHERE NOT has_table_privilege(name, privilege)
UNION ALL
SELECT 'USAGE ON SEQUENCE ' || name FROM unnest($3::text[]) AS name WHERE NOT has_sequence_privilege(name, 'USAGE')
UNION ALL
SELECT 'EXECUTE ON FUNCTION ' || name FROM unnest($4::text[]) AS name WHERE NOT has_function_privilege(name, 'EXECUTE')`

/** What the role lacks to do the service's work in a migrated database, as GRANT names it. Changes nothing. For doctor. */
export async function missingPrivileges(client: Pick<ClientBase, 'query'>): Promise<string[]> {
  const needed = Object.entries(WRITES).flatMap(([name, writes]) =>
    ['SELECT', ...writes].map((privilege) => ({ name, privilege })),
  )
  const { rows } = await client.query<{ missing: string }>(MISSING, [
    needed.map(({ name }) => name),
    needed.map(({ privilege }) => privilege),
    SEQUENCES,
    FUNCTIONS,
  ])
  return rows.map(({ missing }) => missing)
}
