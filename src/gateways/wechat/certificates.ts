import { createDecipheriv, type KeyObject, X509Certificate } from 'node:crypto'

import { z } from 'zod'

import { hasPassed } from '../../elapsed.js'
import { createDeadline, type Deadline } from '../deadline.js'
import { parseStrictJson } from '../strict-json.js'
import { verifyAnswer } from './codec.js'
import type { SignedExchange } from './exchange.js'

/** WeChat Pay asks for a download at least every 12 hours. */
const REFRESH_AFTER_MS = 12 * 3_600_000
/** An answer signed by an unknown key may cause a download this often, so that a forger cannot make us ask all day. */
const UNKNOWN_SERIAL_EVERY_MS = 60_000
/** A failed download is not repeated sooner than this, or every call of an outage would make two. */
const RETRY_AFTER_MS = 5_000
/** The gateway has two at a time. */
const CERTIFICATES_MAX = 20
const TAG_BYTES = 16

/** One platform certificate: its key verifies answers while it is valid. Times in milliseconds since 1970. */
export type PlatformCertificate = Readonly<{
  serial: string
  publicKey: KeyObject
  validFromMs: number
  validToMs: number
}>

const LIST = z.object({
  data: z
    .array(
      z.object({
        serial_no: z.string(),
        encrypt_certificate: z.object({
          algorithm: z.literal('AEAD_AES_256_GCM'),
          nonce: z.string().max(64),
          associated_data: z.string().max(64),
          ciphertext: z.base64(),
        }),
      }),
    )
    .max(CERTIFICATES_MAX),
})

/**
 * The certificates of `GET /v3/certificates` (WeChat Pay APIv3, "download platform certificates"). Each is sealed with the
 * APIv3 key, which nobody but WeChat and the merchant knows; one that does not open, or is not what it says, fails all.
 */
export function openCertificates(list: unknown, apiV3Key: Buffer): readonly PlatformCertificate[] | null {
  const parsed = LIST.safeParse(list)
  if (!parsed.success) return null
  const opened = parsed.data.data.map((item) => openCertificate(item.serial_no, item.encrypt_certificate, apiV3Key))
  return opened.every((certificate) => certificate !== null) ? opened : null
}

type Sealed = Readonly<{ nonce: string; associated_data: string; ciphertext: string }>

function openCertificate(serial: string, sealed: Sealed, apiV3Key: Buffer): PlatformCertificate | null {
  try {
    const bytes = Buffer.from(sealed.ciphertext, 'base64')
    const nonce = Buffer.from(sealed.nonce)
    const decipher = createDecipheriv('aes-256-gcm', apiV3Key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(sealed.associated_data))
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
    const pem = Buffer.concat([decipher.update(bytes.subarray(0, -TAG_BYTES)), decipher.final()])
    const certificate = new X509Certificate(pem)
    if (certificate.serialNumber !== serial.toUpperCase()) return null
    return {
      serial,
      publicKey: certificate.publicKey,
      validFromMs: Date.parse(certificate.validFrom),
      validToMs: Date.parse(certificate.validTo),
    }
  } catch {
    // node:crypto throws on a wrong tag and on what is no certificate; which of the two changes nothing.
    return null
  }
}

export type PlatformCertificatesDeps = Readonly<{
  /** Downloads the list within its own bounds; null where that failed. It verifies with the keys that it brought. */
  download: () => Promise<readonly PlatformCertificate[] | null>
  now: () => number
}>

/** The platform certificates of certificate mode: downloaded when first needed, kept fresh, several valid at once. */
export function createPlatformCertificates({ download, now }: PlatformCertificatesDeps) {
  let known: readonly PlatformCertificate[] = []
  let keys: ReadonlyMap<string, KeyObject> = new Map()
  let refreshedAtMs = Number.NEGATIVE_INFINITY
  let triedAtMs = Number.NEGATIVE_INFINITY
  let unknownSerialAtMs = Number.NEGATIVE_INFINITY
  let running: Promise<void> | null = null

  function valid(): readonly PlatformCertificate[] {
    const nowMs = now()
    return known.filter(({ validFromMs, validToMs }) => validFromMs <= nowMs && nowMs < validToMs)
  }

  /** One download at a time, whoever asks. A failed one leaves what is known as it is. */
  async function refresh(): Promise<void> {
    running ??= downloadOnce().finally(() => {
      running = null
    })
    await running
  }

  async function downloadOnce(): Promise<void> {
    triedAtMs = now()
    const downloaded = await download()
    if (downloaded === null || downloaded.length === 0) return
    known = downloaded
    refreshedAtMs = now()
  }

  return {
    /** The keys that are valid now, by serial. */
    current(): ReadonlyMap<string, KeyObject> {
      const certificates = valid()
      // The same Map while nothing changes: it is asked for with every answer.
      if (
        certificates.length !== keys.size ||
        certificates.some(({ serial, publicKey }) => keys.get(serial) !== publicKey)
      ) {
        keys = new Map(certificates.map(({ serial, publicKey }) => [serial, publicKey]))
      }
      return keys
    },
    /** The serial to ask for: the newest certificate's; null before the first download. */
    preferred(): string | null {
      const newestFirst = valid().toSorted((a, b) => b.validFromMs - a.validFromMs)
      return newestFirst[0]?.serial ?? null
    },
    /** Before a request: waits for a download only where there is no valid certificate at all, and no longer than `deadline`. */
    async ready(deadline: Deadline): Promise<boolean> {
      const nowMs = now()
      const isDue = hasPassed(REFRESH_AFTER_MS, refreshedAtMs, nowMs) && hasPassed(RETRY_AFTER_MS, triedAtMs, nowMs)
      if (isDue) void refresh()
      if (valid().length === 0 && running !== null) await unlessOver(running, deadline)
      return valid().length > 0
    },
    /** An answer came with a key that we do not know: looks once, no more often than once a minute. True: it is known now. */
    async learn(serial: string, deadline: Deadline): Promise<boolean> {
      const nowMs = now()
      if (running === null && !hasPassed(UNKNOWN_SERIAL_EVERY_MS, unknownSerialAtMs, nowMs)) return false
      unknownSerialAtMs = nowMs
      await unlessOver(refresh(), deadline)
      return valid().some((certificate) => certificate.serial === serial)
    },
  }
}

export type PlatformCertificates = ReturnType<typeof createPlatformCertificates>

/** Waits for `work` or for `deadline`, whichever is first. The work goes on for whoever else waits for it. */
async function unlessOver(work: Promise<void>, deadline: Deadline): Promise<void> {
  if (deadline.isOver()) return
  let stop = (): void => undefined
  const over = new Promise<void>((resolve) => {
    stop = resolve
  })
  deadline.onOver(stop)
  await Promise.race([work, over])
  deadline.off(stop)
}

const LIST_REQUEST = { method: 'GET', pathAndQuery: '/v3/certificates', body: '', serial: null } as const

export type DownloadDeps = Readonly<{
  exchange: SignedExchange
  apiV3Key: Buffer
  /** Of the whole download. */
  timeoutMs: number
  hostsCount: number
  now: () => number
}>

/**
 * Downloads the platform certificates. Whom to believe is the APIv3 key's matter: a list counts where every item opens
 * with it and the answer is signed by one of the certificates in it (WeChat Pay APIv3, "download platform certificates").
 */
export function createDownload({ exchange, apiV3Key, timeoutMs, hostsCount, now }: DownloadDeps) {
  return async (): Promise<readonly PlatformCertificate[] | null> => {
    const deadline = createDeadline(timeoutMs)
    try {
      for (let tryNo = 0; tryNo < hostsCount && !deadline.isOver(); tryNo++) {
        const outcome = await exchange(LIST_REQUEST, tryNo, deadline)
        if (outcome.kind !== 'answered' || outcome.status !== 200) continue
        const certificates = openCertificates(parseStrictJson(outcome.body), apiV3Key)
        if (certificates === null) continue
        const keys = new Map(certificates.map(({ serial, publicKey }) => [serial, publicKey]))
        if (verifyAnswer(outcome.headers, outcome.body, keys, now()).kind === 'verified') return certificates
      }
      return null
    } finally {
      deadline.clear()
    }
  }
}
