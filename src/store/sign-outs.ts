import type pg from 'pg'

/** Sessions of the operators' page that were ended before their time, for every instance to see. */
export function createSignOuts(pool: pg.Pool, options: Readonly<{ lifeS: number }>) {
  return {
    /** True where somebody ended this session. */
    async isEnded(sessionId: string): Promise<boolean> {
      const { rowCount } = await pool.query('SELECT 1 FROM console_sign_outs WHERE session_id = $1', [sessionId])
      return rowCount === 1
    },
    /** Ends it for good, and forgets those that are over anyway. */
    async end(sessionId: string): Promise<void> {
      await pool.query(
        `WITH forgotten AS (
           DELETE FROM console_sign_outs WHERE ended_at < now() - $2::int * interval '1 second' AND session_id <> $1
         )
         INSERT INTO console_sign_outs (session_id) VALUES ($1) ON CONFLICT DO NOTHING`,
        [sessionId, options.lifeS],
      )
    },
  }
}

export type SignOuts = ReturnType<typeof createSignOuts>
