import { readdirSync, readFileSync } from 'node:fs'

/** Linux counts a process's time in hundredths of a second (sysconf(_SC_CLK_TCK) is 100 everywhere it runs on). */
const TICK_US = 10_000

/** CPU that a process has used, all of its threads, user and system. Microseconds. */
export function cpuUs(pid: number): number {
  const fields = statFields(pid)
  return (Number(fields[11]) + Number(fields[12])) * TICK_US
}

/** The same of a process and all of its children, those that ended and were waited for included. */
export function treeCpuUs(pid: number): number {
  const fields = statFields(pid)
  const own = (Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14])) * TICK_US
  return childrenOf(pid).reduce((sum, child) => sum + (Number(child[11]) + Number(child[12])) * TICK_US, own)
}

/** Memory that a process has in RAM. MiB. */
export function rssMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024
}

/** Fields 3 and on of proc(5) stat: what follows the command's name, which may hold anything. */
function statFields(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

/** Read once each: a child may end between two looks at it. */
function childrenOf(pid: number): string[][] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const fields = statFields(Number(name))
        return fields[1] === String(pid) ? [fields] : []
      } catch {
        return []
      }
    })
}
