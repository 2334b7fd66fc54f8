import { connect } from 'node:net'

import { afterAll, beforeAll, expect, it } from 'vitest'

import { startService, type TestService } from '../support/service.js'

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => await service.stop())

it('a request whose headers take more than 10 s, or that takes more than 30 s, is answered 408 and cut', async () => {
  const [headers, body] = await Promise.all([cutAfterMs(SLOW_HEADERS), cutAfterMs(SLOW_BODY)])
  expect(headers).toMatchObject({ answer: expect.stringMatching(/^HTTP\/1\.1 408 /) })
  expect(body).toMatchObject({ answer: expect.stringMatching(/^HTTP\/1\.1 408 /) })
  // Node looks once a second, and a busy machine is late.
  expect(Math.floor(headers.tookMs / 1000)).toBeGreaterThanOrEqual(10)
  expect(headers.tookMs).toBeLessThan(20_000)
  expect(Math.floor(body.tookMs / 1000)).toBeGreaterThanOrEqual(30)
  expect(body.tookMs).toBeLessThan(40_000)
})

const SLOW_HEADERS = 'POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nX-Slow: '
const SLOW_BODY =
  'POST /unipay/syncPay HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{'

/** What comes back for these bytes, and when, while one more byte is sent each second. */
async function cutAfterMs(bytes: string): Promise<Readonly<{ answer: string; tookMs: number }>> {
  const { hostname, port } = new URL(service.url)
  const socket = connect(Number(port), hostname)
  const startedMs = performance.now()
  let answer = ''
  socket
    .on('error', () => undefined)
    .on('data', (chunk) => {
      answer += chunk.toString('latin1')
    })
  socket.write(bytes)
  const timer = setInterval(() => socket.write('x'), 1_000)
  await new Promise<void>((resolve) => socket.once('close', () => resolve()))
  clearInterval(timer)
  return { answer, tookMs: performance.now() - startedMs }
}
