import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { createAlipayClient, createWechatPlugin, sendRaw } from '../support/official-clients.js'

process.env['TZ'] = 'Asia/Shanghai'

const MAIN = path.resolve(import.meta.dirname, '../../src/sandbox/main.ts')
const running: ChildProcess[] = []
const folders: string[] = []

afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
  for (const folder of folders.splice(0)) {
    rmSync(folder, { recursive: true, force: true })
  }
})

function newFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'unipay-sandbox-'))
  folders.push(folder)
  return folder
}

function launch(folder: string, args: readonly string[] = [], environment: Record<string, string> = {}): ChildProcess {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', MAIN, '--wechat-port', '0', '--alipay-port', '0', '--data-dir', folder, ...args],
    { env: { ...process.env, NODE_ENV: '', ...environment }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  running.push(child)
  return child
}

/** Starts it and waits for the line that tells where the settings are. */
async function start(folder: string, args: readonly string[] = []): Promise<ChildProcess> {
  const child = launch(folder, args)
  if (child.stdout === null) {
    throw new Error('no output to read')
  }
  for await (const line of createInterface(child.stdout)) {
    if (line.startsWith('settings')) {
      return child
    }
  }
  throw new Error('the sandbox ended before it was ready')
}

type Settings = Record<string, string>

function withFilesRead(settings: Settings): Settings {
  return Object.fromEntries(
    Object.entries(settings).map(([name, value]) =>
      name.endsWith('_FILE') ? [name.slice(0, -'_FILE'.length), readFileSync(value, 'utf8')] : [name, value],
    ),
  )
}

const PRINT = 'process.stdout.write(JSON.stringify(process.env))'

function ours(output: string): Settings {
  const all = JSON.parse(output) as Settings
  return Object.fromEntries(Object.entries(all).filter(([name]) => /^(WECHAT|ALIPAY)_/.test(name)))
}

function asNodeReads(file: string): Settings {
  return ours(execFileSync(process.execPath, [`--env-file=${file}`, '-e', PRINT], { encoding: 'utf8', env: {} }))
}

function asShellReads(file: string): Settings {
  const script = `set -a; . "${file}"; exec "${process.execPath}" -e '${PRINT}'`
  return ours(execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8', env: {} }))
}

describe('the sandbox as a process', () => {
  it.each([
    ['public_key', 'key'],
    ['certificate', 'certificate'],
  ])('in %s and %s mode, writes settings that Node and a shell read alike and nobody else can', async (wechat, ali) => {
    const folder = newFolder()
    await start(folder, ['--wechat-mode', wechat, '--alipay-mode', ali])
    const file = path.join(folder, 'sandbox.env')
    const settings = asNodeReads(file)
    expect(asShellReads(file)).toEqual(settings)
    expect(settings['WECHAT_API']).toBe('v3')
    expect('WECHAT_PUBLIC_KEY_FILE' in settings).toBe(wechat === 'public_key')
    expect('ALIPAY_ROOT_CERT_FILE' in settings).toBe(ali === 'certificate')
    const files = Object.entries(settings).flatMap(([name, value]) => (name.endsWith('_FILE') ? [value] : []))
    for (const written of [file, ...files]) {
      expect([written, statSync(written).mode & 0o077]).toEqual([written, 0])
    }
  })

  it('the settings work, and still do after it was started again', async () => {
    const folder = newFolder()
    const first = await start(folder, ['--alipay-mode', 'certificate'])
    const before = withFilesRead(asNodeReads(path.join(folder, 'sandbox.env')))
    first.kill('SIGTERM')
    expect(await once(first, 'exit')).toEqual([0, null])
    await start(folder, ['--alipay-mode', 'certificate'])
    const now = withFilesRead(asNodeReads(path.join(folder, 'sandbox.env')))
    // Only the free ports are other ones; certificates are issued anew, and those of before go on being good.
    const settings: Settings = {
      ...before,
      WECHAT_BASE_URLS: now['WECHAT_BASE_URLS'] ?? '',
      ALIPAY_GATEWAY_URL: now['ALIPAY_GATEWAY_URL'] ?? '',
    }
    const trade = { method: 'PUT', body: JSON.stringify({ state: 'SUCCESS', amount: 1000 }) }
    await sendRaw(`${settings['WECHAT_BASE_URLS'] ?? ''}/_sandbox/trades/P1`, trade)
    const paid = await createWechatPlugin(settings).query('P1')
    expect(paid).toMatchObject({ refusal: null, body: { trade_state: 'SUCCESS' } })
    const absent = await createAlipayClient(settings)('alipay.trade.query', { out_trade_no: 'P1' })
    expect(absent).toMatchObject({ refusal: null, body: { sub_code: 'ACQ.TRADE_NOT_EXIST' } })
  })

  it.each<[string, readonly string[], Record<string, string>, RegExp]>([
    ['in production', [], { NODE_ENV: 'production' }, /production/],
    ['with an unknown mode', ['--wechat-mode', 'v9'], {}, /public_key, certificate, v2/],
    ['with a port that is none', ['--alipay-port', 'x'], {}, /--alipay-port/],
  ])('does not start %s, and writes nothing', async (_when, args, environment, reason) => {
    const folder = newFolder()
    const child = launch(folder, args, environment)
    let said = ''
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString('utf8')
    })
    expect(await once(child, 'close')).toEqual([1, null])
    expect(said).toMatch(reason)
    expect(() => statSync(path.join(folder, 'sandbox.env'))).toThrow('ENOENT')
    expect(() => statSync(path.join(folder, 'sandbox'))).toThrow('ENOENT')
  })
})
