import { Pool } from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'

import { migrate } from '../../src/store/migrate.js'
import { freePort } from '../support/free-port.js'
import { startService } from '../support/service.js'
import { startTlsPostgres } from '../support/tls-postgres.js'

let postgres: Awaited<ReturnType<typeof startTlsPostgres>>
beforeAll(async () => {
  postgres = await startTlsPostgres(await freePort())
})
afterAll(async () => {
  await postgres.stop()
})

it('with verify-full and the right authority, every connection of a service is encrypted', async () => {
  const pool = new Pool({ connectionString: postgres.trusted })
  const database = { url: postgres.trusted, name: 'unipay', pool: () => pool, drop: async () => await pool.end() }
  const service = await startService({ database })
  try {
    expect((await fetch(`${service.url}/readyz`)).status).toBe(200)
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { repair: true } })
    const { rows } = await pool.query<{ ssl: boolean }>(
      "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'unipay-sync'",
    )
    expect(rows.length).toBeGreaterThan(0)
    expect(rows.every(({ ssl }) => ssl)).toBe(true)
  } finally {
    await service.stop()
    await database.drop()
  }
})

it.each([
  ['another authority', 'distrusted', /unable to verify|self-signed certificate|unable to get/],
  ['only the public authorities', 'publiclyTrusted', /unable to verify|self-signed certificate|unable to get/],
  ['a certificate for another address', 'trustedElsewhere', /127\.0\.0\.2 is not in the cert/],
  ['no encryption, where the server insists on it', 'plain', /no encryption/],
] as const)('%s: no connection is made', async (_, which, reason) => {
  await expect(migrate({ connectionString: postgres[which] })).rejects.toThrow(reason)
})
