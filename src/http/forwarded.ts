import { isIP } from 'node:net'

/** `[2001:db8::7]:4711` or `203.0.113.7:4711`, of which the port may be left out. */
const WITH_PORT = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/

/**
 * The addresses of an X-Forwarded-For, the nearest one last. Some proxies write ports beside them, by which each connection
 * would pass for somebody else. What is no address is believed nothing, nor is what stands before it.
 */
export function forwardedAddresses(header: string): string {
  const hops = header.split(',').map((hop) => hop.trim())
  const addresses = hops.filter((hop) => hop !== '').map(addressIn)
  return addresses.slice(addresses.lastIndexOf(null) + 1).join(', ')
}

function addressIn(hop: string): string | null {
  const [, bracketed, plain] = WITH_PORT.exec(hop) ?? []
  const address = bracketed ?? plain ?? hop
  return isAddress(address) ? address : null
}

/** IPv4 or IPv6, without a zone, which means something on one machine only and may be of any length. */
export function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%')
}
