import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { afterAll, beforeAll, expect, it } from 'vitest'

import { unipay } from '../support/cli.js'
import { SECRET } from '../support/service.js'
import { type ServiceProcess, startServiceProcess } from '../support/service-process.js'

/** Enough to see what goes wrong in one run of four. */
const ROUNDS = 8

let dataDir: string
let running: ServiceProcess
beforeAll(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'unipay-joined-'))
  await chmod(dataDir, 0o711)
  running = await startServiceProcess({ DATA_DIR: dataDir, SIGN_SECRETS: SECRET })
})
afterAll(async () => {
  expect(await running.stop()).toBe(0)
  await rm(dataDir, { recursive: true, force: true })
})

it.each([
  ['done', ['exceptions', '--json'], { status: 0, stdout: '{"items":[],"nextCursor":null}\n', stderr: '' }],
  ['failed', ['show', '404'], { status: 1, stdout: '', stderr: 'No order has the id or number 404.\n' }],
  ['misused', ['resolve', 'x', 'note'], { status: 2, stdout: '', stderr: 'x is not a number.\n' }],
])('a command beside a service with its own PostgreSQL says each time that it is %s', async (_, args, told) => {
  for (let round = 0; round < ROUNDS; round++) {
    expect(await unipay({ DATA_DIR: dataDir, SIGN_SECRETS: SECRET }, args)).toEqual(told)
  }
  expect(running.isRunning()).toBe(true)
})
