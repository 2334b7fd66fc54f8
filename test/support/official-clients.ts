import { type ClientRequest, request } from 'node:http'
import { AlipaySdk } from 'alipay-sdk'
import { Formatter, Rsa, Wechatpay } from 'wechatpay-axios-plugin'

type Settings = Readonly<Record<string, string>>

function required(settings: Settings, name: string): string {
  const value = settings[name]
  if (value === undefined) {
    throw new Error(`the sandbox gave no ${name}`)
  }
  return value
}

/** What came back: the status and body of an answer that the client accepted; else why it refused it. */
export type Outcome = Readonly<{ status: number | null; body: Record<string, unknown> | null; refusal: string | null }>

type PluginFailure = { code?: string; message: string; response?: { status: number; data: unknown } }

function asObject(value: unknown): Record<string, unknown> | null {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
}

/** wechatpay-axios-plugin as a merchant of the sandbox would configure it. `extra` is its own configuration. */
export function createWechatPlugin(settings: Settings, extra: Record<string, unknown> = {}) {
  const baseURL = `${required(settings, 'WECHAT_BASE_URLS').split(',')[0] ?? ''}/`
  const publicKeyId = settings['WECHAT_PUBLIC_KEY_ID']
  const certs = publicKeyId === undefined ? {} : { [publicKeyId]: required(settings, 'WECHAT_PUBLIC_KEY') }
  const wechatpay = new Wechatpay({
    mchid: required(settings, 'WECHAT_MCH_ID'),
    serial: settings['WECHAT_CERT_SERIAL'] ?? 'none',
    privateKey: settings['WECHAT_PRIVATE_KEY'] ?? required(settings, 'WECHAT_CLIENT_KEY'),
    secret: required(settings, 'WECHAT_API_V2_KEY'),
    baseURL,
    timeout: 5000,
    ...extra,
    certs: { ...certs, ...(extra['certs'] as object | undefined) },
  } as never)

  async function call(
    method: 'get' | 'post',
    path: string,
    body?: object,
    config: Record<string, unknown> = {},
  ): Promise<Outcome> {
    const resource = (wechatpay as unknown as { chain: (path: string) => Record<string, CallableFunction> }).chain(path)
    try {
      const answer = (await (method === 'get' ? resource['get']?.(config) : resource['post']?.(body, config))) as {
        status: number
        data: unknown
      }
      return { status: answer.status, body: asObject(answer.data), refusal: null }
    } catch (cause) {
      const failure = cause as PluginFailure
      const { response } = failure
      return {
        status: response?.status ?? null,
        body: asObject(response?.data),
        refusal: failure.code ?? failure.message,
      }
    }
  }

  return {
    call,
    query: (outTradeNo: string) =>
      call('get', `v3/pay/transactions/out-trade-no/${outTradeNo}`, undefined, {
        params: { mchid: required(settings, 'WECHAT_MCH_ID') },
      }),
    close: (outTradeNo: string) =>
      call('post', `v3/pay/transactions/out-trade-no/${outTradeNo}/close`, {
        mchid: required(settings, 'WECHAT_MCH_ID'),
      }),
    /** APIv2: the plugin signs by the `sign_type` of the fields. */
    v2: (path: string, fields: Record<string, string>, config: Record<string, unknown> = {}) =>
      call(
        'post',
        `v2/${path}`,
        {
          appid: required(settings, 'WECHAT_APP_ID'),
          mch_id: required(settings, 'WECHAT_MCH_ID'),
          sign_type: required(settings, 'WECHAT_V2_SIGN_TYPE'),
          ...fields,
        },
        config,
      ),
  }
}

function bare(pem: string | undefined): string | undefined {
  return pem?.replaceAll(/-----[^-]+-----|\s/g, '')
}

/** alipay-sdk as a merchant of the sandbox would configure it, with answer verification on. */
export function createAlipayClient(settings: Settings) {
  const certificates =
    settings['ALIPAY_CERT'] === undefined
      ? { alipayPublicKey: bare(settings['ALIPAY_PUBLIC_KEY']) }
      : {
          appCertContent: settings['ALIPAY_APP_CERT'],
          alipayPublicCertContent: settings['ALIPAY_CERT'],
          alipayRootCertContent: settings['ALIPAY_ROOT_CERT'],
        }
  const sdk = new AlipaySdk({
    appId: required(settings, 'ALIPAY_APP_ID'),
    privateKey: bare(settings['ALIPAY_PRIVATE_KEY']) ?? '',
    keyType: 'PKCS8',
    gateway: required(settings, 'ALIPAY_GATEWAY_URL'),
    timeout: 5000,
    camelcase: false,
    ...certificates,
  } as ConstructorParameters<typeof AlipaySdk>[0])
  return async (method: string, content: Record<string, string>): Promise<Outcome> => {
    try {
      const body = await sdk.exec(method, { bizContent: content }, { validateSign: true })
      return { status: 200, body: { ...body }, refusal: null }
    } catch (cause) {
      return { status: null, body: null, refusal: cause instanceof Error ? cause.message : String(cause) }
    }
  }
}

export type RawAnswer = Readonly<{
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
}>

/** One HTTP request with nothing added: for what no well-behaved client sends, and for looking at the bytes. */
export async function sendRaw(
  url: string,
  options: Readonly<{ method?: string; headers?: Record<string, string>; body?: string }> = {},
): Promise<RawAnswer> {
  return await new Promise((resolve, reject) => {
    const sent: ClientRequest = request(
      url,
      { method: options.method ?? 'GET', headers: options.headers ?? {}, agent: false, timeout: 10_000 },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text: Buffer.concat(chunks).toString('utf8'),
          }),
        )
      },
    )
    sent.on('timeout', () => sent.destroy(new Error('no answer within 10 s')))
    sent.on('error', reject)
    sent.end(options.body)
  })
}

/** The body as an object; null where it is none, as under the faults that damage it. */
function parsed(text: string): Record<string, unknown> | null {
  try {
    return asObject(JSON.parse(text))
  } catch {
    // The text is there to look at.
    return null
  }
}

export type SignedRequest = {
  method: string
  target: string
  body: string
  mchid: string
  serial: string
  nonce: string
  timestamp: number
  headers: Record<string, string>
}

/**
 * A query of P1, signed by the official library's parts. `change` is made before it is signed, `afterSigning` after;
 * the answer comes as it is, verified by nobody.
 */
export async function sendSignedV3(
  settings: Settings,
  url: string,
  change: Partial<SignedRequest> = {},
  afterSigning: Partial<SignedRequest> = {},
) {
  const signed: SignedRequest = {
    method: 'GET',
    target: `/v3/pay/transactions/out-trade-no/P1?mchid=${settings['WECHAT_MCH_ID'] ?? ''}`,
    body: '',
    mchid: settings['WECHAT_MCH_ID'] ?? '',
    serial: settings['WECHAT_CERT_SERIAL'] ?? '',
    nonce: Formatter.nonce(),
    timestamp: Math.floor(Date.now() / 1000),
    headers: { accept: 'application/json', 'user-agent': 'test' },
    ...change,
  }
  const message = Formatter.request(signed.method, signed.target, signed.timestamp, signed.nonce, signed.body)
  const signature = Rsa.sign(message, settings['WECHAT_PRIVATE_KEY'] ?? '')
  const sent = { ...signed, ...afterSigning }
  const authorization = Formatter.authorization(sent.mchid, sent.nonce, signature, String(sent.timestamp), sent.serial)
  const answer = await sendRaw(`${url}${sent.target}`, {
    method: sent.method,
    headers: { authorization, ...sent.headers },
    body: sent.body,
  })
  return { ...answer, body: parsed(answer.text) }
}
