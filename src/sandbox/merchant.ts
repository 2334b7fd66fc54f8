import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isNoticeGenuine, type NoticeSignType } from './notice-signature.js'
import { refuseProduction } from './server.js'

/** How the merchant answers a notice. */
export type MerchantBehaviour =
  | 'accept'
  | 'lower_case_success'
  | 'padded_success'
  | 'fail'
  | 'error_500'
  | 'hang'
  | 'redirect'
  | 'endless'
  | 'reset'

export type ReceivedNotice = Readonly<{
  path: string
  /** The members as JSON.parse has them; empty where the body was not a JSON object. */
  body: Readonly<Record<string, unknown>>
  /** The body exactly as it came. */
  raw: string
  contentType: string
  verified: boolean
  /** How it was answered. */
  behaviour: MerchantBehaviour
}>

export type MerchantOptions = Readonly<{
  secrets: readonly string[]
  signType: NoticeSignType
  onNotice?: (notice: ReceivedNotice) => void
}>

const BODY_BYTES_MAX = 256 * 1024
const CHUNK = Buffer.alloc(16 * 1024, 'S')

function parseMembers(raw: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(raw)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    // Told by `verified: false`; the raw text is there to look at.
    return {}
  }
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length
    if (bytes > BODY_BYTES_MAX) {
      throw new Error('a notice of more than 256 KiB')
    }
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Sends the same letter until the other side has had enough. */
function pourForever(response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'text/plain' })
  const pour = (): void => {
    while (!response.destroyed && response.write(CHUNK)) {
      // `write` says when the socket is full; `drain` says when to go on.
    }
  }
  response.on('drain', pour)
  pour()
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' })
  response.end(text)
}

const ANSWERS: Readonly<Record<MerchantBehaviour, (response: ServerResponse, url: string) => void>> = {
  accept: (response) => sendText(response, 200, 'SUCCESS'),
  lower_case_success: (response) => sendText(response, 200, 'success'),
  padded_success: (response) => sendText(response, 200, ' SUCCESS\r\n'),
  fail: (response) => sendText(response, 200, 'FAIL'),
  error_500: (response) => sendText(response, 500, 'Internal Server Error'),
  hang: () => undefined,
  redirect: (response, url) => {
    response.writeHead(307, { Location: `${url}/redirected` })
    response.end()
  },
  endless: pourForever,
  reset: (response) => response.socket?.resetAndDestroy(),
}

/** A merchant that receives notices (POST, any path), checks their signature by its own code and answers. */
export function createMerchantSandbox(options: MerchantOptions) {
  refuseProduction()
  let notices: ReceivedNotice[] = []
  let misbehaviours: MerchantBehaviour[] = []
  let usual: MerchantBehaviour = 'accept'
  let waiting: { count: number; resolve: () => void }[] = []
  let server: Server | undefined
  let url = ''

  function record(notice: ReceivedNotice): void {
    notices.push(notice)
    const met = waiting.filter(({ count }) => notices.length >= count)
    waiting = waiting.filter((entry) => !met.includes(entry))
    for (const { resolve } of met) {
      resolve()
    }
    options.onNotice?.(notice)
  }

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const raw = await readText(request)
    const behaviour = misbehaviours.shift() ?? usual
    const notice: ReceivedNotice = {
      path: request.url ?? '/',
      body: parseMembers(raw),
      raw,
      contentType: request.headers['content-type'] ?? '',
      verified: request.method === 'POST' && isNoticeGenuine(raw, options.secrets, options.signType),
      behaviour,
    }
    ANSWERS[behaviour](response, url)
    record(notice)
  }

  return {
    /** Port 0: any free one. */
    async listen(port = 0, host = '127.0.0.1'): Promise<{ url: string }> {
      const opened = createServer((request, response) => {
        respond(request, response).catch(() => response.destroy())
      })
      await new Promise<void>((resolve, reject) => {
        opened.once('error', reject)
        opened.listen(port, host, resolve)
      })
      server = opened
      url = `http://${host}:${(opened.address() as AddressInfo).port}`
      return { url }
    },
    async close(): Promise<void> {
      const closing = server
      server = undefined
      if (closing !== undefined) {
        await new Promise<void>((resolve) => {
          closing.close(() => resolve())
          closing.closeAllConnections()
        })
      }
    },
    notices: (): readonly ReceivedNotice[] => [...notices],
    /** Resolves with all notices as soon as there are that many (at once, if there are). The caller bounds the wait. */
    async waitForNotices(count: number): Promise<readonly ReceivedNotice[]> {
      if (notices.length < count) {
        await new Promise<void>((resolve) => {
          waiting.push({ count, resolve })
        })
      }
      return [...notices]
    },
    /** The next `times` notices are answered like this; without `times`, all from now on. */
    behave(behaviour: MerchantBehaviour, times?: number): void {
      if (times === undefined) {
        usual = behaviour
        misbehaviours = []
        return
      }
      misbehaviours.push(...Array.from({ length: times }, () => behaviour))
    },
    /** Forgets the notices and behaves again. */
    reset(): void {
      notices = []
      misbehaviours = []
      usual = 'accept'
    },
  }
}
export type MerchantSandbox = ReturnType<typeof createMerchantSandbox>
