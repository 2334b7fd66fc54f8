import { X509Certificate } from 'node:crypto'

import type { Config } from './config.js'

export type CertificateExpiry = Readonly<{ setting: string; notAfter: Date; daysLeft: number }>

const SETTINGS = [
  'WECHAT_CLIENT_CERT',
  'WECHAT_PUBLIC_KEY',
  'ALIPAY_APP_CERT',
  'ALIPAY_CERT',
  'ALIPAY_ROOT_CERT',
] as const satisfies readonly (keyof Config)[]

const DAY_MS = 86_400_000

/** When the certificates among the settings end; of several in one setting, the one that lasts longest. */
export function certificateExpiries(config: Config, nowMs: number): readonly CertificateExpiry[] {
  return SETTINGS.flatMap((setting) => {
    const blocks = config[setting]?.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
    const ends = blocks.map(endOf).filter((endMs) => endMs !== null)
    if (ends.length === 0) return []
    const notAfterMs = Math.max(...ends)
    return [{ setting, notAfter: new Date(notAfterMs), daysLeft: Math.floor((notAfterMs - nowMs) / DAY_MS) }]
  })
}

/** Null where it is no certificate: who loads it for use says so. */
function endOf(pem: string): number | null {
  try {
    return Date.parse(new X509Certificate(pem).validTo)
  } catch {
    return null
  }
}
