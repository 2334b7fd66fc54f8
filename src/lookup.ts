import { type LookupAddress, type LookupOptions, promises, lookup as systemLookup } from 'node:dns'
import { readFile } from 'node:fs/promises'
import type { LookupFunction } from 'node:net'

/** A name server is asked twice, for a second each; with two of them a name is given up within some 4 s. */
const SERVER_MS_MAX = 1_000
const TRIES = 2

/**
 * Finds the addresses of a host whose name somebody else has chosen. The system's own resolver waits on a thread, of which
 * there are two for the whole process, for ten seconds and more where a name server is silent: a handful of such names
 * would keep the gateways and the database from being found. So the name servers are asked without a thread first, and
 * only a name that they have something to say about, or that stands in the hosts file, goes to the system.
 * `servers` and `system` are for tests.
 */
export function createLookup(
  options: Readonly<{ servers?: readonly string[]; system?: typeof systemLookup }> = {},
): LookupFunction {
  const resolver = new promises.Resolver({ timeout: SERVER_MS_MAX, tries: TRIES })
  if (options.servers !== undefined) resolver.setServers(options.servers)
  const system = options.system ?? systemLookup

  /** The addresses to use where a server is silent, which may be none; null where none is. */
  async function ofSilentServers(hostname: string): Promise<LookupAddress[] | null> {
    if (await isInHostsFile(hostname)) return null
    const [v4, v6] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    if (!isSilence(v4) && !isSilence(v6)) return null
    return [...addressesOf(v4, 4), ...addressesOf(v6, 6)]
  }

  const answer = async (...[hostname, asked, callback]: Parameters<LookupFunction>): Promise<void> => {
    const found = await ofSilentServers(hostname)
    if (found === null) {
      system(hostname, asked, callback)
      return
    }
    const fitting = found.filter(({ family }) => isAskedFor(asked, family))
    const [first] = fitting
    if (first === undefined) {
      callback(Object.assign(new Error(`no name server answered for ${hostname}`), { code: 'ETIMEOUT' }), [])
    } else if (asked.all === true) callback(null, fitting)
    else callback(null, first.address, first.family)
  }
  return (...asked) => void answer(...asked)
}

/** Names of this machine's own need no name server, and may have none. */
async function isInHostsFile(hostname: string): Promise<boolean> {
  const text = await readFile('/etc/hosts', 'utf8').catch(() => '')
  return text.split('\n').some((line) => line.replace(/#.*/, '').trim().split(/\s+/).slice(1).includes(hostname))
}

function isSilence(result: PromiseSettledResult<unknown>): boolean {
  return result.status === 'rejected' && (result.reason as NodeJS.ErrnoException).code === 'ETIMEOUT'
}

function addressesOf(result: PromiseSettledResult<readonly string[]>, family: 4 | 6): LookupAddress[] {
  return result.status === 'rejected' ? [] : result.value.map((address) => ({ address, family }))
}

function isAskedFor({ family }: LookupOptions, is: number): boolean {
  return family === undefined || family === 0 || family === is || family === `IPv${is}`
}
