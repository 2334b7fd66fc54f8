import { createCipheriv, generateKeyPairSync } from 'node:crypto'

import { describe, expect, it } from 'vitest'

import { createDeadline, type Deadline } from '../../src/gateways/deadline.js'
import {
  createPlatformCertificates,
  type Downloaded,
  openCertificates,
  type PlatformCertificate,
} from '../../src/gateways/wechat/certificates.js'
import { newPlatformCertificate } from '../../src/sandbox/wechat-keys.js'

const KEY = Buffer.from('0123456789abcdef0123456789abcdef')
const HOUR_MS = 3_600_000
const NEVER: Deadline = { isOver: () => false, onOver: () => undefined, off: () => undefined }
const pair = generateKeyPairSync('rsa', { modulusLength: 2048 })

function certificateOf(serial: string, from: number, to: number): PlatformCertificate {
  return { serial, publicKey: pair.publicKey, validFromMs: from, validToMs: to }
}

const FAILED: Downloaded = { kind: 'failed', duty: 'retry', message: 'away' }

/** A clock and a gateway that gives what the test put there; every download is counted. */
function certificatesWith(first: readonly PlatformCertificate[] | null) {
  const state = { nowMs: 1_000_000_000_000, given: first, downloads: 0 }
  const certificates = createPlatformCertificates({
    now: () => state.nowMs,
    download: async () => {
      state.downloads += 1
      return state.given === null ? FAILED : { kind: 'downloaded', certificates: state.given }
    },
  })
  return { state, certificates }
}
const A = certificateOf('A', 0, 2e12)
const B = certificateOf('B', 5, 2e12)
const serials = (keys: ReadonlyMap<string, unknown>) => [...keys.keys()].sort()

describe('platform certificates', () => {
  it('are downloaded once, when first needed, however many wait', async () => {
    const { state, certificates } = certificatesWith([A])
    expect(certificates.preferred()).toBeNull()
    expect(await Promise.all(Array.from({ length: 5 }, async () => await certificates.ready(NEVER)))).toEqual(
      Array.from({ length: 5 }, () => true),
    )
    expect(state.downloads).toBe(1)
    expect(serials(certificates.current())).toEqual(['A'])
  })

  it('are all valid at once, and the newest is asked for', async () => {
    const { certificates } = certificatesWith([A, B])
    await certificates.ready(NEVER)
    expect(serials(certificates.current())).toEqual(['A', 'B'])
    expect(certificates.preferred()).toBe('B')
  })

  it('the same keys come as the same Map', async () => {
    const { certificates } = certificatesWith([A])
    await certificates.ready(NEVER)
    expect(certificates.current()).toBe(certificates.current())
  })

  it('are refreshed after twelve hours, and nobody waits for it', async () => {
    const { state, certificates } = certificatesWith([A])
    await certificates.ready(NEVER)
    state.nowMs += 12 * HOUR_MS - 1
    await certificates.ready(NEVER)
    expect(state.downloads).toBe(1)
    state.nowMs += 1
    state.given = [B]
    expect(await certificates.ready(NEVER)).toBe(true)
    expect(state.downloads).toBe(2)
    await certificates.learn('B', NEVER)
    expect(serials(certificates.current())).toEqual(['B'])
  })

  it('an expired one, and one that is not valid yet, verify nothing', async () => {
    const { state, certificates } = certificatesWith([])
    state.given = [certificateOf('past', 0, state.nowMs), certificateOf('future', state.nowMs + 1, 2e12)]
    expect(await certificates.ready(NEVER)).toBe(false)
    expect(certificates.current().size).toBe(0)
    state.nowMs += 1
    expect(serials(certificates.current())).toEqual(['future'])
  })

  it('a failed download leaves what is known, and is not repeated for five seconds', async () => {
    const { state, certificates } = certificatesWith(null)
    expect(await certificates.ready(NEVER)).toBe(false)
    state.nowMs += 4_999
    expect(await certificates.ready(NEVER)).toBe(false)
    expect(state.downloads).toBe(1)
    expect(certificates.failure()).toEqual(FAILED)
    state.nowMs += 1
    state.given = [A]
    expect(await certificates.ready(NEVER)).toBe(true)
    expect(certificates.failure()).toBeNull()
    state.given = null
    state.nowMs += 13 * HOUR_MS
    expect(await certificates.ready(NEVER)).toBe(true)
    expect(serials(certificates.current())).toEqual(['A'])
  })

  it('a clock that is set back puts off no download: not the first, not a refresh, not for an unknown serial', async () => {
    const { state, certificates } = certificatesWith(null)
    const right = state.nowMs
    state.nowMs += HOUR_MS
    expect(await certificates.ready(NEVER)).toBe(false)
    state.nowMs = right
    state.given = [A]
    expect(await certificates.ready(NEVER)).toBe(true)
    state.nowMs -= 24 * HOUR_MS
    await certificates.ready(NEVER)
    expect(state.downloads).toBe(3)
    expect(await certificates.learn('X', NEVER)).toBe(false)
    state.nowMs -= HOUR_MS
    state.given = [A, B]
    expect(await certificates.learn('B', NEVER)).toBe(true)
  })

  it('an empty list takes nothing away', async () => {
    const { state, certificates } = certificatesWith([A])
    await certificates.ready(NEVER)
    state.given = []
    state.nowMs += 13 * HOUR_MS
    await certificates.ready(NEVER)
    expect(serials(certificates.current())).toEqual(['A'])
  })

  it('an unknown serial is looked for once a minute', async () => {
    const { state, certificates } = certificatesWith([A])
    await certificates.ready(NEVER)
    expect(await certificates.learn('X', NEVER)).toBe(false)
    state.given = [A, B]
    expect(await certificates.learn('B', NEVER)).toBe(false)
    expect(state.downloads).toBe(2)
    state.nowMs += 60_000
    expect(await certificates.learn('B', NEVER)).toBe(true)
    expect(state.downloads).toBe(3)
  })

  it('a call does not wait for a download beyond its own time', async () => {
    let finish = (): void => undefined
    const slow = createPlatformCertificates({
      now: () => 1e12,
      download: async () => {
        await new Promise<void>((resolve) => {
          finish = resolve
        })
        return { kind: 'downloaded', certificates: [A] }
      },
    })
    const past = createDeadline(10)
    past.end()
    expect(await slow.ready(past)).toBe(false)
    expect(await slow.learn('A', createDeadline(10))).toBe(false)
    const waiting = slow.ready(NEVER)
    finish()
    expect(await waiting).toBe(true)
  })
})

describe('a sealed certificate', () => {
  function seal(pem: string, key = KEY) {
    const nonce = '0123456789ab'
    const cipher = createCipheriv('aes-256-gcm', key, nonce)
    cipher.setAAD(Buffer.from('certificate'))
    const bytes = Buffer.concat([cipher.update(pem), cipher.final(), cipher.getAuthTag()])
    return {
      algorithm: 'AEAD_AES_256_GCM',
      nonce,
      associated_data: 'certificate',
      ciphertext: bytes.toString('base64'),
    }
  }
  async function listOf(
    change: (item: { serial_no: string; encrypt_certificate: ReturnType<typeof seal> }) => unknown = (item) => item,
  ) {
    const { serial, certificatePem } = await newPlatformCertificate(pair, Date.now())
    return { data: [change({ serial_no: serial, encrypt_certificate: seal(certificatePem ?? '') })] }
  }

  it('opens with the APIv3 key: serial, key and validity', async () => {
    const [opened] = openCertificates(await listOf(), KEY) ?? []
    expect(opened?.publicKey.equals(pair.publicKey)).toBe(true)
    expect(opened?.validToMs).toBeGreaterThan(Date.now())
    expect(opened?.validFromMs).toBeLessThan(Date.now())
  })

  it('under another serial than its own is refused, and the whole list with it', async () => {
    expect(openCertificates(await listOf((item) => ({ ...item, serial_no: 'ABCDEF' })), KEY)).toBeNull()
  })

  it.each(['nonce', 'associated_data', 'ciphertext'] as const)(
    'with one character of its %s changed does not open',
    async (name) => {
      const changed = await listOf((item) => {
        const value = item.encrypt_certificate[name]
        const other = value.startsWith('A') ? 'B' : 'A'
        return { ...item, encrypt_certificate: { ...item.encrypt_certificate, [name]: `${other}${value.slice(1)}` } }
      })
      expect(openCertificates(changed, KEY)).toBeNull()
    },
  )

  it.each([
    ['another algorithm', { algorithm: 'AEAD_SM4_GCM' }],
    ['an empty ciphertext', { ciphertext: '' }],
    ['less than a tag', { ciphertext: 'AAAA' }],
    ['no base64', { ciphertext: '!!!!' }],
    ['an empty nonce', { nonce: '' }],
    ['something that is no certificate', seal('-----BEGIN NONSENSE-----')],
  ])('with %s does not open', async (_title, more) => {
    expect(
      openCertificates(
        await listOf((item) => ({ ...item, encrypt_certificate: { ...item.encrypt_certificate, ...more } })),
        KEY,
      ),
    ).toBeNull()
  })

  it.each([undefined, null, [], {}, { data: {} }, { data: [{}] }, { data: Array.from({ length: 21 }, () => ({})) }])(
    'is not found in %j',
    (list) => {
      expect(openCertificates(list, KEY)).toBeNull()
    },
  )
})
