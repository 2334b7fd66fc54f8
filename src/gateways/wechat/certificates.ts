import { createDecipheriv, type KeyObject, X509Certificate } from 'node:crypto'

import { z } from 'zod'

import { hasPassed } from '../../elapsed.js'
import { clockHint } from '../clock.js'
import { createDeadline, type Deadline } from '../deadline.js'
import type { UnknownDuty } from '../gateway.js'
import type { HttpOutcome } from '../http.js'
import { parseStrictJson } from '../strict-json.js'
import { verifyAnswer } from './codec.js'
import type { SignedExchange } from './exchange.js'
import { errorRow, errorSchema } from './trade.js'
import { told } from './unsettled.js'

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

/**
 * What a download came to. A failure's `message` is for people, bounded, and names what they can mend; nobody vouches for
 * the answer that it tells of, so it decides nothing but who is told.
 */
export type Downloaded =
  | Readonly<{ kind: 'downloaded'; certificates: readonly PlatformCertificate[] }>
  | Readonly<{ kind: 'failed'; duty: UnknownDuty; message: string }>
export type DownloadFailure = Extract<Downloaded, { kind: 'failed' }>

export type PlatformCertificatesDeps = Readonly<{
  /** Downloads the list within its own bounds. It verifies with the keys that it brought. */
  download: () => Promise<Downloaded>
  now: () => number
}>

/** The platform certificates of certificate mode: downloaded when first needed, kept fresh, several valid at once. */
export function createPlatformCertificates({ download, now }: PlatformCertificatesDeps) {
  let known: readonly PlatformCertificate[] = []
  let keys: ReadonlyMap<string, KeyObject> = new Map()
  let refreshedAtMs = Number.NEGATIVE_INFINITY
  let triedAtMs = Number.NEGATIVE_INFINITY
  let unknownSerialAtMs = Number.NEGATIVE_INFINITY
  let failure: DownloadFailure | null = null
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
    failure = downloaded.kind === 'failed' ? downloaded : null
    if (downloaded.kind === 'failed' || downloaded.certificates.length === 0) return
    known = downloaded.certificates
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
    /** Why the last download brought nothing; null where it did, or was not tried, or is not over. */
    failure: () => failure,
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

/** What callers are told where there is nothing to verify an answer with, before the reason if it is known. */
export const NO_CERTIFICATE = '未能下载微信支付平台证书'

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
  function read(outcome: HttpOutcome): Downloaded {
    if (outcome.kind !== 'answered') return failed('retry', outcome.reason)
    const hint = clockHint(outcome.headers['date'], now())
    if (outcome.status !== 200) return refusal(outcome.status, parseStrictJson(outcome.body), hint)
    const list = parseStrictJson(outcome.body)
    const certificates = openCertificates(list, apiV3Key)
    if (certificates === null)
      return LIST.safeParse(list).success ? failed('alert', SEALED) : failed('retry', '应答无法解析')
    const keys = new Map(certificates.map(({ serial, publicKey }) => [serial, publicKey]))
    const verdict = verifyAnswer(outcome.headers, outcome.body, keys, now())
    if (verdict.kind === 'verified') return { kind: 'downloaded', certificates }
    return failed('retry', `应答未通过验签 ${verdict.reason}${hint}`)
  }

  return async (): Promise<Downloaded> => {
    const deadline = createDeadline(timeoutMs)
    let failure = failed('retry', 'timeout')
    try {
      for (let tryNo = 0; tryNo < hostsCount && !deadline.isOver(); tryNo++) {
        const downloaded = read(await exchange(LIST_REQUEST, tryNo, deadline))
        if (downloaded.kind === 'downloaded') return downloaded
        // What a host said of our settings tells more than another one that could not be reached.
        if (failure.duty !== 'alert') failure = downloaded
      }
      return failure
    } finally {
      deadline.clear()
    }
  }
}

const SEALED = '其中的证书不能用 WECHAT_API_V3_KEY 解密，请核对'
/** The download is signed with these; what else can be wrong with it is nobody's here. */
const SIGNED_WITH = '请核对 WECHAT_MCH_ID(服务商为 WECHAT_SP_MCH_ID)、WECHAT_CERT_SERIAL、WECHAT_PRIVATE_KEY'
/** Of what the gateway said, so that what can be done about it still finds room behind it. Characters. */
const SAID_LENGTH_MAX = 80

/** An error answer as the gateway gave it, with what can be done where it is about our settings. */
function refusal(status: number, json: unknown, hint: string): DownloadFailure {
  const { code, message } = errorSchema.parse(json)
  const { duty } = errorRow(status, code)
  const said = `HTTP ${status} ${code} ${message}`.slice(0, SAID_LENGTH_MAX).trimEnd()
  return failed(duty, `${said}${hint}${duty === 'alert' ? `，${SIGNED_WITH}` : ''}`)
}

function failed(duty: UnknownDuty, why: string): DownloadFailure {
  return { kind: 'failed', duty, message: told(`${NO_CERTIFICATE}: ${why}`) }
}
