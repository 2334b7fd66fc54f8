import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'

import { afterAll, beforeAll, expect, it } from 'vitest'

import { CLI, commandSettings } from '../support/cli.js'
import { startService, type TestService } from '../support/service.js'
import { startServiceProcess } from '../support/service-process.js'

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})

it.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('a sync that %s interrupts gives its order back at once, and says so', async (signal, status) => {
  const order = await service.registerPaid()
  service.wechat.addFaults([{ on: 'query', fault: 'hang', times: 1, outTradeNo: order }])
  const child = spawn(process.execPath, [CLI, 'sync', order], {
    env: { PATH: process.env['PATH'] ?? '', ...commandSettings(service) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const ended = Promise.all([text(child.stderr), once(child, 'exit')])
  // The gateway has been asked, and keeps it waiting.
  await expect.poll(() => service.wechat.calls(order).query, { timeout: 20_000 }).toBe(1)
  child.kill(signal)
  const [stderr, [code]] = await ended
  expect(stderr).toBe(`Interrupted by ${signal}. Orders given back, for others to sync: 1\n`)
  expect(code).toBe(status)
  expect(await service.sync(order)).toMatchObject({ code: 0, data: { repair: true } })
})

it('a service says at its start what it is and does', async () => {
  const running = await startServiceProcess({ ...commandSettings(service), ROLES: 'api', PORT: '0' })
  expect(running.lines().map((line) => JSON.parse(line) as unknown)).toContainEqual(
    expect.objectContaining({
      event: 'started',
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      roles: ['api'],
      channels: ['wechat_pay', 'ali_pay'],
    }),
  )
  await running.stop()
})
