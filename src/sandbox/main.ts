import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { createAlipaySandbox } from './alipay.js'
import { refuseProduction } from './server.js'
import { keptApiKey, keptPrivateKey, writeSettings } from './settings-file.js'
import { createWechatSandbox } from './wechat.js'

const USAGE = `Both simulated gateways, and the settings of a merchant of theirs.

  --host HOST             127.0.0.1
  --wechat-port PORT      9101
  --alipay-port PORT      9102
  --wechat-mode MODE      public_key, certificate or v2
  --alipay-mode MODE      key or certificate
  --data-dir DIRECTORY    ./.data
`

const WECHAT_MODES = ['public_key', 'certificate', 'v2'] as const
const ALIPAY_MODES = ['key', 'certificate'] as const

function oneOf<Choice extends string>(choices: readonly Choice[], value: string, option: string): Choice {
  const choice = choices.find((known) => known === value)
  if (choice === undefined) {
    throw new TypeError(`--${option} is one of ${choices.join(', ')}`)
  }
  return choice
}

function portFrom(value: string, option: string): number {
  const port = Number(value)
  if (!/^\d+$/.test(value) || port > 65_535) {
    throw new TypeError(`--${option} is a port`)
  }
  return port
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      host: { type: 'string', default: '127.0.0.1' },
      'wechat-port': { type: 'string', default: '9101' },
      'alipay-port': { type: 'string', default: '9102' },
      'wechat-mode': { type: 'string', default: 'public_key' },
      'alipay-mode': { type: 'string', default: 'key' },
      'data-dir': { type: 'string', default: './.data' },
      help: { type: 'boolean', default: false },
    },
  })
  return {
    help: values.help,
    host: values.host,
    wechatPort: portFrom(values['wechat-port'], 'wechat-port'),
    alipayPort: portFrom(values['alipay-port'], 'alipay-port'),
    wechatMode: oneOf(WECHAT_MODES, values['wechat-mode'], 'wechat-mode'),
    alipayMode: oneOf(ALIPAY_MODES, values['alipay-mode'], 'alipay-mode'),
    dataDir: values['data-dir'],
  }
}

type Options = ReturnType<typeof readOptions>

async function start({ host, dataDir, ...options }: Options) {
  // Before anything is written.
  refuseProduction()
  const newApiKey = () => randomBytes(16).toString('hex')
  const wechat = createWechatSandbox({
    mode: options.wechatMode,
    merchantPrivateKey: await keptPrivateKey(dataDir, 'wechat-merchant'),
    platformPrivateKey: await keptPrivateKey(dataDir, 'wechat-platform'),
    apiV3Key: await keptApiKey(dataDir, 'wechat-api-v3', newApiKey),
    apiV2Key: await keptApiKey(dataDir, 'wechat-api-v2', newApiKey),
  })
  const alipay = createAlipaySandbox({
    mode: options.alipayMode,
    appPrivateKey: await keptPrivateKey(dataDir, 'alipay-app'),
    alipayPrivateKey: await keptPrivateKey(dataDir, 'alipay-platform'),
  })
  const { url: wechatUrl } = await wechat.listen(options.wechatPort, host)
  const { url: alipayUrl } = await alipay.listen(options.alipayPort, host)
  const path = await writeSettings(dataDir, { ...wechat.merchantSettings(), ...alipay.merchantSettings() })
  return { wechat, alipay, wechatUrl, alipayUrl, path }
}

async function main(): Promise<void> {
  const options = readOptions()
  if (options.help) {
    console.log(USAGE)
    return
  }
  const { wechat, alipay, wechatUrl, alipayUrl, path } = await start(options)
  console.log(`WeChat Pay  ${wechatUrl}  (${options.wechatMode})`)
  console.log(`Alipay      ${alipayUrl}/gateway.do  (${options.alipayMode})`)
  console.log(`settings    ${path}`)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      void Promise.all([wechat.close(), alipay.close()])
    })
  }
}

try {
  await main()
} catch (cause) {
  console.error(cause instanceof Error ? cause.message : String(cause))
  process.exitCode = 1
}
