import { X509Certificate } from 'node:crypto'

import type { Config } from '../config.js'

/** Alipay's root file has four certificates, its own two. */
const CERTIFICATES_MAX = 32
const DAY_MS = 86_400_000

type Choose = (pems: readonly string[]) => X509Certificate[]
const first: Choose = (pems) => pems.slice(0, 1).map(certificateOf)

/** Of the certificates in a setting's file, in its order, those that are used. */
const USED = {
  WECHAT_CLIENT_CERT: first,
  WECHAT_PUBLIC_KEY: first,
  ALIPAY_APP_CERT: first,
  // Alipay's own file holds its issuer as well. Further ones that are no authority's are the next, added before Alipay
  // changes over.
  ALIPAY_CERT: (pems) => pems.map(certificateOf).filter((certificate, place) => place === 0 || !certificate.ca),
  ALIPAY_ROOT_CERT: (pems) => pems.map(certificateOf),
} as const satisfies Partial<Record<keyof Config, Choose>>

export type CertificateSetting = keyof typeof USED

/** The certificates that this setting's file is read for; none where it holds none. Throws where one of them is broken. */
export function certificatesUsed(setting: CertificateSetting, pem: string): X509Certificate[] {
  const pems = pem.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g) ?? []
  return USED[setting](pems.slice(0, CERTIFICATES_MAX))
}

export type CertificateExpiry = Readonly<{ setting: CertificateSetting; notAfter: Date; daysLeft: number }>

/** When the certificates among the settings end; of several that are used, the one that lasts longest. */
export function certificateExpiries(config: Config, nowMs: number): readonly CertificateExpiry[] {
  return (Object.keys(USED) as CertificateSetting[]).flatMap((setting) => {
    const ends = endsOf(setting, config[setting] ?? '')
    if (ends.length === 0) return []
    const notAfterMs = Math.max(...ends)
    return [{ setting, notAfter: new Date(notAfterMs), daysLeft: Math.floor((notAfterMs - nowMs) / DAY_MS) }]
  })
}

/** None where one of them is broken: who loads it for use says so. */
function endsOf(setting: CertificateSetting, pem: string): number[] {
  try {
    return certificatesUsed(setting, pem).map(({ validTo }) => Date.parse(validTo))
  } catch {
    return []
  }
}

function certificateOf(pem: string): X509Certificate {
  return new X509Certificate(pem)
}
