import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { newKeyPair, privatePem } from './keys.js'

async function writePrivately(path: string, text: string): Promise<void> {
  const draft = `${path}.new`
  await writeFile(draft, text, { mode: 0o600 })
  // A file left behind by a run that died keeps its old mode otherwise.
  await chmod(draft, 0o600)
  await rename(draft, path)
}

function isFileMissing(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'ENOENT'
}

// Only this directory is private: the one above may be shared with an embedded PostgreSQL that runs as another user.
async function privateDirectory(dataDir: string): Promise<string> {
  const directory = resolve(dataDir, 'sandbox')
  await mkdir(resolve(dataDir), { recursive: true })
  await mkdir(directory, { recursive: true, mode: 0o700 })
  return directory
}

/** The text of `name` under `directory`; made by `make` and kept, where it is not there yet. */
async function kept(directory: string, name: string, make: () => Promise<string>): Promise<string> {
  const path = join(directory, name)
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (!isFileMissing(cause)) {
      throw new Error(`cannot read ${path}`, { cause })
    }
    const text = await make()
    await writePrivately(path, text)
    return text
  }
}

/**
 * The private key (PEM) of one party of the sandbox. Kept from one start to the next, so that a service that was given
 * the settings once goes on understanding a sandbox that was started again.
 */
export async function keptPrivateKey(dataDir: string, party: string): Promise<string> {
  const directory = await privateDirectory(dataDir)
  return await kept(directory, `${party}.key.pem`, async () => privatePem(await newKeyPair()))
}

/** A 32-character API key, kept like the private keys. */
export async function keptApiKey(dataDir: string, name: string, make: () => string): Promise<string> {
  const directory = await privateDirectory(dataDir)
  return await kept(directory, `${name}.key`, async () => make())
}

/**
 * Writes `sandbox.env`, which `node --env-file` and a shell's `. sandbox.env` read alike; gives its path. Values of
 * several lines (PEM) go into files of their own, named by NAME_FILE.
 */
export async function writeSettings(dataDir: string, settings: Readonly<Record<string, string>>): Promise<string> {
  const directory = await privateDirectory(dataDir)
  const lines: string[] = ['# Written at each start of the sandbox.']
  for (const [name, value] of Object.entries(settings)) {
    if (!value.includes('\n')) {
      lines.push(`${name}='${value}'`)
      continue
    }
    const path = join(directory, `${name.toLowerCase()}.pem`)
    await writePrivately(path, value)
    lines.push(`${name}_FILE='${path}'`)
  }
  const path = resolve(dataDir, 'sandbox.env')
  await writePrivately(path, `${lines.join('\n')}\n`)
  return path
}
