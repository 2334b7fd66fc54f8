import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createMerchantSandbox, type MerchantBehaviour, type MerchantSandbox } from '../../src/sandbox/merchant.js'
import { type NoticeSignType, noticeSignature, noticeText } from '../../src/sandbox/notice-signature.js'
import { sendRaw } from '../support/official-clients.js'

const VECTORS = path.resolve(import.meta.dirname, '../contract/notice-vectors.jsonl')
const SECRET = '123456'
const opened: MerchantSandbox[] = []

async function start(options: { secrets?: string[]; signType?: NoticeSignType } = {}) {
  const merchant = createMerchantSandbox({ secrets: [SECRET], signType: 'MD5', ...options })
  opened.push(merchant)
  const { url } = await merchant.listen()
  return { merchant, url }
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((merchant) => merchant.close()))
})

function signedNotice(secret = SECRET): string {
  const notice = {
    paymentId: '1753370980523384832',
    amount: 1000,
    payChannels: [{ channel: 'wechat_pay', way: 'qrcode', amount: 1000 }],
    status: 'success',
    payTime: 1710465239,
    closeTime: null,
    attach: '',
  }
  const text =
    'amount=1000&attach=&payChannels=[{amount:1000,channel:wechat_pay,way:qrcode}]&payTime=1710465239' +
    '&paymentId=1753370980523384832&status=success'
  return JSON.stringify({ ...notice, sign: noticeSignature(text, secret, 'MD5') })
}

const post = async (url: string, body: string) =>
  await sendRaw(`${url}/notice`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })

describe('the signature of a notice', () => {
  type Vector = { secret: string; signString: string; sign: string; signType: NoticeSignType }
  const lines = readFileSync(VECTORS, 'utf8').trim().split('\n')

  it.each(lines.map((line, index) => [index, line] as const))('number %i is the SDK’s own', (_index, line) => {
    const vector = JSON.parse(line) as Vector
    // The parameters' own text: JSON.parse would round the 19-digit ids.
    const text = noticeText(/"params": (\{.*\}), "signString"/.exec(line)?.[1] ?? '') ?? ''
    expect(`${text}&key=${vector.secret}`).toBe(vector.signString)
    expect(noticeSignature(text, vector.secret, vector.signType)).toBe(vector.sign)
  })

  it('any of several secrets verifies', async () => {
    const { merchant, url } = await start({ secrets: ['new', SECRET] })
    await post(url, signedNotice())
    expect(merchant.notices()).toMatchObject([{ verified: true }])
  })

  it.each([
    ['another secret', signedNotice('other')],
    ['a changed amount', signedNotice().replace('"amount":1000,"payChannels"', '"amount":1,"payChannels"')],
    ['a changed nested amount', signedNotice().replace('"way":"qrcode","amount":1000', '"way":"qrcode","amount":1')],
    ['no signature', '{"status":"success"}'],
    ['no JSON', 'SUCCESS'],
    ['no object', '[]'],
  ])('%s does not verify', async (_what, body) => {
    const { merchant, url } = await start()
    await post(url, body)
    expect(merchant.notices()).toMatchObject([{ verified: false, raw: body }])
  })
})

describe('the answer', () => {
  it('is SUCCESS, and the notice is kept', async () => {
    const { merchant, url } = await start()
    const waiting = merchant.waitForNotices(1)
    expect(await post(url, signedNotice())).toMatchObject({ status: 200, text: 'SUCCESS' })
    expect(await waiting).toMatchObject([
      { path: '/notice', verified: true, behaviour: 'accept', body: { paymentId: '1753370980523384832' } },
    ])
  })

  it.each<[MerchantBehaviour, number, string]>([
    ['lower_case_success', 200, 'success'],
    ['padded_success', 200, ' SUCCESS\r\n'],
    ['fail', 200, 'FAIL'],
    ['error_500', 500, 'Internal Server Error'],
    ['redirect', 307, ''],
  ])('of %s is %i %j, once', async (behaviour, status, text) => {
    const { merchant, url } = await start()
    merchant.behave(behaviour, 1)
    expect(await post(url, signedNotice())).toMatchObject({ status, text })
    expect(await post(url, signedNotice())).toMatchObject({ status: 200, text: 'SUCCESS' })
    expect(merchant.notices().map((notice) => notice.behaviour)).toEqual([behaviour, 'accept'])
  })

  it('can be a reset', async () => {
    const { merchant, url } = await start()
    merchant.behave('reset')
    await expect(post(url, signedNotice())).rejects.toThrow('ECONNRESET')
  })

  it('can be none at all', async () => {
    const { merchant, url } = await start()
    merchant.behave('hang')
    const sent = post(url, signedNotice())
    await merchant.waitForNotices(1)
    await merchant.close()
    await expect(sent).rejects.toThrow(/socket hang up|ECONNRESET/)
  })

  it('can be a stream without end', async () => {
    const { merchant, url } = await start()
    merchant.behave('endless')
    const bytes = await new Promise<number>((resolve, reject) => {
      let received = 0
      const sent = request(`${url}/notice`, { method: 'POST' }, (response) => {
        response.on('data', (chunk: Buffer) => {
          received += chunk.length
          if (received > 4 * 1024 * 1024) {
            response.destroy()
            resolve(received)
          }
        })
      })
      sent.once('error', reject)
      sent.end(signedNotice())
    })
    expect(bytes).toBeGreaterThan(4 * 1024 * 1024)
  })
})
