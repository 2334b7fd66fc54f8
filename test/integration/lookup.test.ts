import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

import { createLookup } from '../../src/lookup.js'

/** A name server: `known` has an IPv4 address, `half` too but nothing is said about IPv6, `silent` is not answered at all. */
let server: Socket
let address: string
const A = 1
const NAME_ERROR = 3

beforeAll(async () => {
  server = createSocket('udp4')
  server.on('message', (query, from) => {
    const { name, type, end } = questionOf(query)
    if (name === 'silent' || name === 'localhost' || (name === 'half' && type !== A)) return
    const isAnswered = name !== 'unknown' && type === A
    const header = Buffer.from(query.subarray(0, 12))
    header.writeUInt16BE(0x8180 | (name === 'unknown' ? NAME_ERROR : 0), 2)
    header.writeUInt16BE(isAnswered ? 1 : 0, 6)
    header.writeUInt32BE(0, 8)
    // A pointer to the question's name, IPv4, internet, a minute, 4 bytes.
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1])
    server.send(Buffer.concat([header, query.subarray(12, end), ...(isAnswered ? [answer] : [])]), from.port)
  })
  server.bind(0, '127.0.0.1')
  await once(server, 'listening')
  address = `127.0.0.1:${server.address().port}`
})
afterAll(() => {
  server.close()
})

function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels[0] ?? '', type: query.readUInt16BE(at + 1), end: at + 5 }
}

/** The system's resolver, as far as it is asked. */
function systemAnswering(found: string) {
  return vi.fn((_hostname: string, _options: unknown, callback: (...results: unknown[]) => void) =>
    callback(null, [{ address: found, family: 4 }]),
  )
}
type System = Required<NonNullable<Parameters<typeof createLookup>[0]>>['system']

async function addressesOf(hostname: string, system: ReturnType<typeof systemAnswering>, options = {}) {
  const lookup = createLookup({ servers: [address], system: system as unknown as System })
  return await new Promise((resolve, reject) => {
    lookup(hostname, { all: true, ...options }, (error, found) => (error === null ? resolve(found) : reject(error)))
  })
}

describe.concurrent('a name that somebody else has chosen', () => {
  it.each(['known.test', 'unknown.test'])(
    '%s, which the name server knows about, is the system’s to find',
    async (name) => {
      const system = systemAnswering('192.0.2.7')
      expect(await addressesOf(name, system)).toEqual([{ address: '192.0.2.7', family: 4 }])
      expect(system).toHaveBeenCalledTimes(1)
    },
  )

  it('that stands in the hosts file is the system’s to find, whatever the servers say', async () => {
    const system = systemAnswering('192.0.2.7')
    expect(await addressesOf('localhost', system)).toEqual([{ address: '192.0.2.7', family: 4 }])
  })

  it('of which no server says anything never gets to the system, whose threads would wait for it', async () => {
    const system = systemAnswering('192.0.2.7')
    await expect(addressesOf('silent.test', system)).rejects.toMatchObject({ code: 'ETIMEOUT' })
    expect(system).not.toHaveBeenCalled()
  })

  it('of which a server says only half is found by that half', async () => {
    const system = systemAnswering('192.0.2.7')
    expect(await addressesOf('half.test', system)).toEqual([{ address: '127.0.0.1', family: 4 }])
    await expect(addressesOf('half.test', system, { family: 6 })).rejects.toMatchObject({ code: 'ETIMEOUT' })
    expect(system).not.toHaveBeenCalled()
  })

  it('is connected to by an agent', async () => {
    const host = createServer((_request, response) => response.end('here')).listen(0, '127.0.0.1')
    await once(host, 'listening')
    const { port } = host.address() as AddressInfo
    for (const hostname of ['half.test', 'localhost']) {
      const agent = new Agent({ lookup: createLookup({ servers: [address] }) })
      const [response] = (await once(request({ hostname, port, agent }).end(), 'response')) as [IncomingMessage]
      expect((await response.toArray()).join('')).toBe('here')
      agent.destroy()
    }
    host.close()
  })
})
