import { hasPassed } from '../../elapsed.js'
import type { Deadline } from '../deadline.js'
import type { Http, HttpOutcome } from '../http.js'
import { authorize, type MerchantKey } from './codec.js'

/** A host that could not be reached is left aside for so long, where there is another one. */
const DOWN_MS = 30_000
const USER_AGENT = 'unipay-sync/0.1'

/** The gateway's hosts, in order of preference; one that could not be reached steps back for a while. */
export function createHosts(baseUrls: readonly string[], now: () => number) {
  const downSinceMs = new Map<string, number>()
  return {
    /** For the `tryNo`th try of a call: the preferred host first, then the others in turn. */
    pick(tryNo: number): string {
      const nowMs = now()
      const isDown = (url: string) => !hasPassed(DOWN_MS, downSinceMs.get(url) ?? Number.NEGATIVE_INFINITY, nowMs)
      const inOrder = [...baseUrls.filter((url) => !isDown(url)), ...baseUrls.filter(isDown)]
      return inOrder[tryNo % inOrder.length] ?? ''
    },
    /** Told after each try. A try that failed moves on by `tryNo`; only an unreachable host is remembered. */
    tell(baseUrl: string, outcome: HttpOutcome): void {
      if (outcome.kind === 'not_sent') downSinceMs.set(baseUrl, now())
      else downSinceMs.delete(baseUrl)
    },
  }
}

export type Hosts = ReturnType<typeof createHosts>

export type SignedExchangeDeps = Readonly<{
  http: Http
  hosts: Hosts
  merchantKey: MerchantKey
  now: () => number
}>

/** `serial`: of the key that we can verify with; null while we know none. */
export type V3Request = Readonly<{ method: 'GET' | 'POST'; pathAndQuery: string; body: string; serial: string | null }>

/** One signed APIv3 request to one host. */
export function createSignedExchange({ http, hosts, merchantKey, now }: SignedExchangeDeps) {
  return async (signed: V3Request, tryNo: number, deadline: Deadline): Promise<HttpOutcome> => {
    const { method, pathAndQuery, body, serial } = signed
    const baseUrl = hosts.pick(tryNo)
    const headers = {
      accept: 'application/json',
      'accept-encoding': 'identity',
      'user-agent': USER_AGENT,
      authorization: await authorize(signed, merchantKey, now()),
      ...(serial === null ? {} : { 'wechatpay-serial': serial }),
      ...(body === '' ? {} : { 'content-type': 'application/json' }),
    }
    const request = { method, baseUrl, path: pathAndQuery, headers, body: body === '' ? null : body }
    const outcome = await http.send(request, deadline)
    hosts.tell(baseUrl, outcome)
    return outcome
  }
}

export type SignedExchange = ReturnType<typeof createSignedExchange>

/** One APIv2 request to one host. */
export function createXmlExchange({ http, hosts }: Readonly<{ http: Http; hosts: Hosts }>) {
  return async (path: string, xml: string, tryNo: number, deadline: Deadline): Promise<HttpOutcome> => {
    const baseUrl = hosts.pick(tryNo)
    const headers = {
      'accept-encoding': 'identity',
      'user-agent': USER_AGENT,
      'content-type': 'text/xml; charset=utf-8',
    }
    const outcome = await http.send({ method: 'POST', baseUrl, path, headers, body: xml }, deadline)
    hosts.tell(baseUrl, outcome)
    return outcome
  }
}

export type XmlExchange = ReturnType<typeof createXmlExchange>
