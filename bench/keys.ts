import { generateKeyPairSync, type KeyObject } from 'node:crypto'

/** What the gateway process knows. PEM. */
export type GatewaySettings = Readonly<{
  wechatMchId: string
  wechatAppId: string
  wechatMerchantPublicKey: string
  wechatPlatformPrivateKey: string
  wechatPublicKeyId: string
  alipayAppId: string
  alipayAppPublicKey: string
  alipayPrivateKey: string
}>

/** Fresh keys for one run, for both sides: the merchant's as the service's own settings. */
export function createKeys() {
  const [merchant, platform, app, alipay] = [newPair(), newPair(), newPair(), newPair()]
  const wechatMchId = '1600000001'
  const wechatAppId = 'wxbench000000001'
  const wechatPublicKeyId = 'PUB_KEY_ID_0116000000012026010100000000000001'
  const alipayAppId = '2021000000000001'
  const gateway: GatewaySettings = {
    wechatMchId,
    wechatAppId,
    wechatMerchantPublicKey: spki(merchant.publicKey),
    wechatPlatformPrivateKey: pkcs8(platform.privateKey),
    wechatPublicKeyId,
    alipayAppId,
    alipayAppPublicKey: spki(app.publicKey),
    alipayPrivateKey: pkcs8(alipay.privateKey),
  }
  const merchantSettings = (gatewayPort: number): Readonly<Record<string, string>> => ({
    WECHAT_MCH_ID: wechatMchId,
    WECHAT_APP_ID: wechatAppId,
    WECHAT_PRIVATE_KEY: pkcs8(merchant.privateKey),
    WECHAT_CERT_SERIAL: '5B0000000000000000000000000000000000000B',
    WECHAT_API_V3_KEY: 'bench-api-v3-key-of-32-characters'.slice(0, 32),
    WECHAT_PUBLIC_KEY_ID: wechatPublicKeyId,
    WECHAT_PUBLIC_KEY: spki(platform.publicKey),
    WECHAT_BASE_URLS: `http://127.0.0.1:${gatewayPort}`,
    ALIPAY_APP_ID: alipayAppId,
    ALIPAY_PRIVATE_KEY: pkcs8(app.privateKey),
    ALIPAY_PUBLIC_KEY: spki(alipay.publicKey),
    ALIPAY_GATEWAY_URL: `http://127.0.0.1:${gatewayPort}/gateway.do`,
  })
  return { gateway, merchantSettings }
}

function newPair() {
  return generateKeyPairSync('rsa', { modulusLength: 2048 })
}

function spki(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'pem' }).toString()
}

function pkcs8(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}
