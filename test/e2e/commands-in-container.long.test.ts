import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { canEnter } from '../../src/store/postgres-binaries.js'
import { CLI, commandSettings, unipay as run } from '../support/cli.js'
import { newPaymentId, startService, type TestService } from '../support/service.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

let service: TestService
let folder: string
beforeAll(async () => {
  service = await startService()
  folder = await mkdtemp(path.join(tmpdir(), 'unipay-container-'))
})
afterAll(async () => {
  await service.stop()
  await rm(folder, { recursive: true, force: true })
})

describe('in a container as it is meant to be run', () => {
  const nobody = { uid: 54_321, gid: 54_321 }
  const needed = [process.execPath, CLI].map((file) => path.dirname(file))

  /** Only root can be somebody else, and not with a Node or a checkout in a home that is closed to others. */
  async function canBeNobody(): Promise<boolean> {
    if (process.getuid?.() !== 0) return false
    return (await Promise.all(needed.map(async (folder) => await canEnter(folder, nobody)))).every(Boolean)
  }

  it('every command works with NODE_ENV=production, secrets from files, nothing to write to, as a user without a name', async () => {
    const isNobody = await canBeNobody()
    if (!isNobody) console.warn(`${needed.join(' or ')} is not everybody's: the commands run as this user.`)
    const { proxy, url } = await proxyDatabase(service.database.url)
    const files: Record<string, string> = { NODE_ENV: 'production', DATA_DIR: '/nowhere/data' }
    await Promise.all(
      Object.entries({ ...commandSettings(service), DATABASE_URL: url }).map(async ([name, value]) => {
        const file = path.join(folder, name)
        await writeFile(file, `${value}\n`, { mode: 0o644 })
        files[`${name}_FILE`] = file
      }),
    )
    await chmod(folder, 0o755)
    const there = async (...args: string[]) =>
      await run(files, args, isNobody ? { uid: nobody.uid, cwd: '/' } : { cwd: '/' })
    const id = await service.registerPaid()
    expect(await there('sync', id, '--json')).toMatchObject({ status: 0, stderr: '' })
    expect((await service.history(id)).syncs).toMatchObject([
      { actor: isNobody ? 'cli:uid-54321' : expect.stringMatching(/^cli:/) },
    ])
    const orders = path.join(folder, 'production.csv')
    await writeFile(orders, `paymentId,businessNo,channel,amount\n${newPaymentId()},PR1,ali_pay,7\n`)
    const notice = await service.registerPaid({ notifyUrl: 'http://127.0.0.1:9/' })
    await service.sync(notice)
    const noticeId = (await service.history(notice)).notices[0]?.id ?? ''
    const wrong = await service.register()
    service.wechat.putTrade(wrong, { state: 'SUCCESS', amount: 1 })
    await service.sync(wrong)
    const exceptionId = (await service.history(wrong)).exceptions[0]?.id ?? ''
    for (const args of [
      ['sign', id],
      ['show', id],
      ['batch', '--from', '1m', '--dry-run'],
      ['batches'],
      ['import', orders],
      ['exceptions'],
      ['resolve', exceptionId, 'seen'],
      ['notices'],
      ['redeliver', noticeId],
      ['prune', '--older-than', '90d'],
      ['migrate'],
      ['doctor'],
    ]) {
      const { status, stderr } = await there(...args)
      expect([args[0], status, stderr.includes('    at ')]).toEqual([args[0], 0, false])
    }
    await proxy.close()
  })
})
