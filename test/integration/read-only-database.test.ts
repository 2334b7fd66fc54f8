import { afterAll, beforeAll, expect, it } from 'vitest'
import { startService, type TestService } from '../support/service.js'

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

/** As a standby, or a primary that was put aside: it answers, and takes no writes. Everybody connects anew. */
async function setReadOnly(isReadOnly: boolean): Promise<void> {
  const { name } = service.database
  // In one message: the session that this is asked of may be a read-only one itself.
  await service.pool.query(
    `BEGIN READ WRITE; ALTER DATABASE ${name} SET default_transaction_read_only = ${isReadOnly}; COMMIT`,
  )
  await service.pool.query(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()',
    [name],
  )
}

async function readiness(): Promise<unknown> {
  const response = await fetch(`${service.url}/readyz`)
  return { status: response.status, body: await response.json() }
}

async function databaseUp(): Promise<unknown> {
  const text = await (await fetch(`${service.url}/metrics`)).text()
  return /^unipay_metrics_database_up (\d)$/m.exec(text)?.[1]
}

it('a database that takes no writes makes an instance unready, and figures absent; with writes both are back', async () => {
  expect(await readiness()).toMatchObject({ status: 200 })
  await setReadOnly(true)
  await expect
    .poll(readiness, { timeout: 10_000 })
    .toEqual({ status: 503, body: { status: 'not_ready', reason: 'database is read-only' } })
  expect(await databaseUp()).toBe('0')
  await setReadOnly(false)
  await expect.poll(readiness, { timeout: 10_000 }).toEqual({ status: 200, body: { status: 'ready' } })
  await expect.poll(databaseUp, { timeout: 10_000 }).toBe('1')
})
