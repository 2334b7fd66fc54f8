import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

import openapiTypescript, { astToString } from 'openapi-typescript'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { newPaymentId, OPS_TOKEN, signedBody, startService, type TestService } from '../support/service.js'

const require = createRequire(import.meta.url)

/** What a program of somebody else's looks like that uses the document and nothing of ours. */
const PROGRAM = `
import createClient from 'openapi-fetch'
import type { paths } from './api.js'

type Order = paths['/ops/orders']['post']['requestBody']['content']['application/json']
type SyncPay = paths['/unipay/syncPay']['post']['requestBody']['content']['application/json']

function given<Value>(answer: { data?: Value; error?: unknown; response: Response }): Value {
  if (answer.data === undefined) throw new Error(answer.response.status + ' ' + JSON.stringify(answer.error))
  return answer.data
}

export async function play(
  service: { baseUrl: string; token: string; runBatches: () => Promise<void> },
  paid: Order,
  signed: SyncPay,
  wrong: Order,
) {
  const { baseUrl, token } = service
  const client = createClient<paths>({ baseUrl, headers: { authorization: 'Bearer ' + token } })
  const registered = await client.POST('/ops/orders', { body: paid })
  const status: 'progress' | 'success' | 'close' | 'refunding' | 'partial_refund' | 'refunded' | 'fail' =
    given(registered).status
  const answer = given(await client.POST('/unipay/syncPay', { body: signed }))
  const orderPath = { params: { path: { paymentId: paid.paymentId } } }
  const history = given(await client.GET('/ops/orders/{paymentId}', orderPath))
  const noticeId = history.notices[0]?.id ?? ''
  const notice = given(await client.POST('/ops/notices/{id}/redeliver', { params: { path: { id: noticeId } } }))

  given(await client.POST('/ops/orders', { body: wrong }))
  const synced = given(
    await client.POST('/ops/orders/{paymentId}/sync', {
      params: { path: { paymentId: wrong.paymentId }, query: { dryRun: 'false' } },
    }),
  )
  const open = given(
    await client.GET('/ops/exceptions', { params: { query: { state: 'open', kind: 'amount_mismatch', limit: 1 } } }),
  )
  const resolved = given(
    await client.POST('/ops/exceptions/{id}/resolve', {
      params: { path: { id: open.items[0]?.id ?? '' } },
      body: { note: 'asked the merchant' },
    }),
  )

  const made = given(await client.POST('/ops/batches', { body: { status: 'progress', dryRun: true } }))
  await service.runBatches()
  const batch = given(await client.GET('/ops/batches/{id}', { params: { path: { id: made.id } } }))

  const nobody = await client.GET('/ops/orders/{paymentId}', { params: { path: { paymentId: '1' } } })
  return {
    registered: [registered.response.status, status] as const,
    answer: { code: answer.code, gatewayStatus: answer.data?.gatewayStatus, repair: answer.data?.repair },
    history: { order: history.order.status, repairs: history.repairs.map(({ way, amount }) => [way, amount]) },
    notice: { id: notice.id === noticeId, state: notice.state, attempts: notice.attempts },
    synced: { outcome: synced.outcome, exception: synced.decision.exception },
    resolved: { paymentId: resolved.paymentId, state: resolved.state, by: resolved.resolvedBy, atRisk: resolved.atRisk },
    batch: { state: batch.state, total: batch.total, mismatch: batch.results.mismatch },
    nobody: [nobody.error?.status, nobody.error?.title, typeof nobody.error?.traceId] as const,
  }
}
`

/** The same, but for money as text: the compiler has to see it. */
const WRONG_PROGRAM = `
import createClient from 'openapi-fetch'
import type { paths } from './api.js'

export async function register(baseUrl: string) {
  const client = createClient<paths>({ baseUrl })
  const order = { paymentId: '1', businessNo: 'P1', channel: null }
  return await client.POST('/ops/orders', { body: { ...order, amount: '10.00' } })
}
`
const WRONG_LINE = WRONG_PROGRAM.split('\n').findIndex((line) => line.includes('10.00')) + 1

type Program = {
  play: (
    service: { baseUrl: string; token: string; runBatches: () => Promise<void> },
    paid: object,
    signed: object,
    wrong: object,
  ) => Promise<Record<string, unknown>>
}

type Document = {
  paths: Record<string, { post?: { requestBody?: { content: Record<string, { example?: unknown }> } } }>
}

describe('a client that is generated from the document', { timeout: 90_000 }, () => {
  let service: TestService
  let folder: string
  let document: Document
  let compiled: ReturnType<typeof spawnSync>

  beforeAll(async () => {
    service = await startService()
    folder = mkdtempSync(path.join(tmpdir(), 'unipay-client-'))
    const text = await (await fetch(`${service.url}/openapi.json`)).text()
    document = JSON.parse(text) as Document
    writeFileSync(path.join(folder, 'api.ts'), astToString(await openapiTypescript(text)))
    writeFileSync(path.join(folder, 'program.ts'), PROGRAM)
    writeFileSync(path.join(folder, 'wrong.ts'), WRONG_PROGRAM)
    writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }')
    const compilerOptions = {
      strict: true,
      noUncheckedIndexedAccess: true,
      target: 'es2023',
      lib: ['es2023', 'dom'],
      module: 'nodenext',
      types: [],
      skipLibCheck: true,
      rootDir: '.',
      outDir: 'out',
    }
    writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
    mkdirSync(path.join(folder, 'node_modules'))
    const library = path.resolve(require.resolve('openapi-fetch'), '../..')
    symlinkSync(library, path.join(folder, 'node_modules', 'openapi-fetch'))
    const compiler = path.resolve(require.resolve('typescript'), '../../bin/tsc')
    compiled = spawnSync(process.execPath, [compiler, '--pretty', 'false'], { cwd: folder, encoding: 'utf8' })
  }, 90_000)
  afterAll(async () => {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
    await service?.stop()
  })

  it('type-checks, and money as text does not', () => {
    const errors = String(compiled.stdout)
      .split('\n')
      .filter((line) => /^\S+\.ts\(/.test(line))
    expect(errors).toEqual([
      expect.stringMatching(new RegExp(`^wrong\\.ts\\(${WRONG_LINE},\\d+\\): error TS2322: Type 'string' is not`)),
    ])
    expect(compiled.status).not.toBe(0)
  })

  it('registers, syncs, looks, redelivers, resolves and runs a batch', async () => {
    const { play } = (await import(pathToFileURL(path.join(folder, 'out', 'program.js')).href)) as Program
    const order = (paymentId: string) => ({
      paymentId,
      businessNo: `B${paymentId}`,
      channel: 'wechat_pay',
      amount: 1000,
      notifyUrl: 'http://127.0.0.1:9/notice',
    })
    const [paid, wrong] = [order(newPaymentId()), order(newPaymentId())]
    service.wechat.putTrade(paid.paymentId, { state: 'SUCCESS', amount: 1000 })
    service.wechat.putTrade(wrong.paymentId, { state: 'SUCCESS', amount: 1 })
    const signed = JSON.parse(signedBody({ businessNo: paid.businessNo })) as object
    const runBatches = async (): Promise<void> => {
      for (let rounds = 0; await service.service.batchRunner.runOnce(); rounds++) {
        if (rounds > 200) throw new Error('the batch does not come to an end')
      }
    }
    expect(await play({ baseUrl: service.url, token: OPS_TOKEN, runBatches }, paid, signed, wrong)).toEqual({
      registered: [201, 'progress'],
      answer: { code: 0, gatewayStatus: 'pay_success', repair: true },
      history: { order: 'success', repairs: [['pay_success', 1000]] },
      notice: { id: true, state: 'pending', attempts: 0 },
      synced: { outcome: 'mismatch', exception: 'amount_mismatch' },
      resolved: { paymentId: wrong.paymentId, state: 'resolved', by: 'tester', atRisk: 1000 },
      batch: { state: 'done', total: 1, mismatch: { count: 1, fen: 1000 } },
      nobody: [404, 'Not Found', 'string'],
    })
  })

  it('may send every example of a body as it stands', async () => {
    const sent: string[] = []
    for (const [route, { post }] of Object.entries(document.paths)) {
      if (!route.startsWith('/ops/')) continue
      for (const [type, { example }] of Object.entries(post?.requestBody?.content ?? {})) {
        const response = await fetch(`${service.url}${route.replace('{id}', '999999')}`, {
          method: 'POST',
          headers: { authorization: `Bearer ${OPS_TOKEN}`, 'content-type': type },
          body: typeof example === 'string' ? example : JSON.stringify(example),
        })
        sent.push(`${route} ${type} ${response.status}`)
        const { invalid = 0 } = (await response.json()) as { invalid?: number }
        expect([route, type, invalid]).toEqual([route, type, 0])
      }
    }
    expect(sent.sort()).toEqual([
      '/ops/batches application/json 202',
      '/ops/exceptions/{id}/resolve application/json 404',
      '/ops/orders application/json 201',
      '/ops/orders/import application/x-ndjson 200',
      '/ops/orders/import text/csv 200',
    ])
  })
})
