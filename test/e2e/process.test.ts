// The built service as a process: it starts or it ends.
import { type AddressInfo, createServer } from 'node:net'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { createDatabase, type TestDatabase } from '../support/database.js'
import { type Sandboxes, SECRET, startSandboxes, startService, type TestService } from '../support/service.js'
import { type ServiceProcess, startServiceProcess } from '../support/service-process.js'

let database: TestDatabase
let sandboxes: Sandboxes
let control: TestService
beforeAll(async () => {
  ;[database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
  control = await startService({ database, sandboxes })
})
afterAll(async () => {
  await control.stop()
  await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  await database.drop()
})

async function startProcess(environment: Record<string, string> = {}): Promise<ServiceProcess> {
  return await startServiceProcess({
    DATABASE_URL: database.url,
    SIGN_SECRETS: SECRET,
    ROLES: 'api',
    ...sandboxes.wechat.merchantSettings(),
    ...sandboxes.alipay.merchantSettings(),
    ...environment,
  })
}

describe('a start that is refused', () => {
  it('because its port is taken ends the process: nothing sweeps on without being seen', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    try {
      const { port } = other.address() as AddressInfo
      await expect(startProcess({ PORT: String(port), ROLES: 'api,sweeper,courier' })).rejects.toMatchObject({
        message: expect.stringContaining('EADDRINUSE'),
        cause: { message: 'the service ended at its start' },
      })
    } finally {
      other.close()
    }
  })
})
