import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'

import { CLI } from './cli.js'

const DOCUMENT = path.resolve(import.meta.dirname, '../../docs/runbook.md')

/** One command, and what the document says of it. */
export type Step = Readonly<{ line: number; command: string; says: readonly string[]; status: number }>
/** The fenced blocks of one section, in order. */
export type Incident = Readonly<{ title: string; blocks: readonly (readonly Step[])[] }>

/** Every fenced block of the runbook. What it cannot understand throws: nothing may look like a command and not be run. */
export function readRunbook(): readonly Incident[] {
  const incidents: { title: string; blocks: Step[][] }[] = []
  let block: Step[] | null = null
  for (const [index, line] of readFileSync(DOCUMENT, 'utf8').split('\n').entries()) {
    const fence = /^\s*```(.*)$/.exec(line)?.[1]
    if (fence !== undefined) {
      if (block === null && fence !== 'sh') throw new Error(`line ${index + 1}: a block that is not sh`)
      if (block === null) incidents.at(-1)?.blocks.push((block = []))
      else block = null
    } else if (block !== null) readStep(block, line, index + 1)
    else if (line.startsWith('## ')) incidents.push({ title: line.slice(3), blocks: [] })
    else if (/^( {4}|\t)/.test(line)) throw new Error(`line ${index + 1}: an indented block would not be run`)
  }
  return incidents
}

function readStep(block: Step[], line: string, number: number): void {
  const said = /^#> (.+)$/.exec(line)?.[1]
  if (said === undefined) {
    if (line.trim() === '' || line.startsWith('#'))
      throw new Error(`line ${number}: neither a command nor what it says`)
    block.push({ line: number, command: line, says: [], status: 0 })
    return
  }
  const step = block.pop()
  if (step === undefined) throw new Error(`line ${number}: what nobody said`)
  const status = /^exit (\d+)$/.exec(said)?.[1]
  block.push(status === undefined ? { ...step, says: [...step.says, said] } : { ...step, status: Number(status) })
}

/** What only looks may be asked again: what it tells of happens elsewhere, in its own time. */
const LOOKS = /^(unipay (show|exceptions|notices|batches|doctor)\b|curl -s (-H "[^"]*" )?"?\$UNIPAY)/
const LOOK_MS_MAX = 60_000
const RUN_MS_MAX = 120_000

/** A folder with `unipay`, and with `curl` where the machine has none: to be put before the PATH. */
export async function commandFolder() {
  const folder = await mkdtemp(path.join(tmpdir(), 'unipay-runbook-'))
  const command = async (name: string, script: string) => {
    await writeFile(path.join(folder, name), script)
    await chmod(path.join(folder, name), 0o755)
  }
  await command('unipay', `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`)
  if (spawnSync('curl', ['--version']).error !== undefined) {
    await writeFile(path.join(folder, 'curl.mjs'), CURL)
    await command('curl', `#!/bin/sh\nexec '${process.execPath}' '${path.join(folder, 'curl.mjs')}' "$@"\n`)
  }
  return { folder, remove: async () => await rm(folder, { recursive: true, force: true }) }
}

/** As much of curl as the runbook uses, over a real connection; an option that it does not know is an error. */
const CURL = `
const args = process.argv.slice(2)
const request = { headers: {} }
let url = ''
while (args.length > 0) {
  const arg = args.shift()
  if (arg === '-s') continue
  else if (arg === '-X') request.method = args.shift()
  else if (arg === '-H') { const [name, ...value] = args.shift().split(':'); request.headers[name] = value.join(':').trim() }
  else if (arg === '-d') { request.body = args.shift(); request.method ??= 'POST' }
  else if (arg.startsWith('-')) throw new Error('unknown option ' + arg)
  else url = arg
}
process.stdout.write(await (await fetch(url, request)).text())
`

/** Runs one step in a shell until it says what is announced; throws with everything it said where it does not. */
export async function runStep(
  step: Step,
  environment: Readonly<Record<string, string>>,
  placeholders: Readonly<Record<string, string>>,
): Promise<string> {
  const put = (words: string) =>
    words.replace(/\b(ORDER|NUMBER|EXCEPTION|NOTICE|BATCH)\b/g, (name) => {
      const value = placeholders[name]
      if (value === undefined) throw new Error(`runbook line ${step.line}: nothing on stage is called ${name}`)
      return value
    })
  const untilMs = performance.now() + LOOK_MS_MAX
  for (;;) {
    const { status, output } = await shell(put(step.command), environment)
    const missing = step.says.filter((said) => !patternOf(put(said)).test(flat(output)))
    if (status === step.status && missing.length === 0) return output
    if (LOOKS.test(step.command) && performance.now() < untilMs) {
      await pause(300)
      continue
    }
    throw new Error(
      `runbook line ${step.line}: ${put(step.command)}\nends with ${status} (announced: ${step.status})` +
        `, does not say: ${missing.join(' | ')}\nbut:\n${output}`,
    )
  }
}

async function shell(command: string, environment: Readonly<Record<string, string>>) {
  const child = spawn('sh', ['-c', command], { env: { ...environment }, timeout: RUN_MS_MAX })
  child.stdin.end()
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { status: typeof code === 'number' ? code : -1, output: stdout + stderr }
}

/** Without the frames of tables and the breaks of lines, which say nothing. */
function flat(output: string): string {
  return output.replace(/[\s─│┌┐└┘├┤┬┴┼]+/g, ' ')
}

function patternOf(said: string): RegExp {
  const parts = said.split('…').map((part) => part.trim().replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`))
  return new RegExp(parts.join('.*?'))
}
