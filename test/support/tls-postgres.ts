import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, chmod, chown, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

import { Client } from 'pg'
import { vi } from 'vitest'

import { issueCertificate } from '../../src/sandbox/certificates.js'
import { newKeyPair, privatePem } from '../../src/sandbox/keys.js'
import { startEmbedded } from '../../src/store/embedded.js'
import { findBinaries, SERVER_ENV } from '../../src/store/postgres-binaries.js'

/** The server's certificate names 127.0.0.1, and not this other address that it listens on. */
export const UNNAMED_ADDRESS = '127.0.0.2'
const DAY_MS = 86_400_000

/** A certificate authority of its own, and its certificate in a file. */
async function createAuthority(folder: string, name: string) {
  const pair = await newKeyPair()
  const validity = { notBefore: Date.now() - DAY_MS, notAfter: Date.now() + DAY_MS }
  const issuer = [['CN', name]] as const
  const issue = async (subject: string, publicKey: typeof pair.publicKey, isAuthority: boolean) =>
    await issueCertificate({
      subject: [['CN', subject]],
      issuer,
      serial: isAuthority ? '01' : '02',
      publicKey,
      issuerKey: pair.privateKey,
      isAuthority,
      isServer: !isAuthority,
      ...validity,
    })
  const file = path.join(folder, `${name}.pem`)
  await writeFile(file, await issue(name, pair.publicKey, true))
  return { file, issue }
}

/** PostgreSQL as an operator's own: on TCP, for nobody without TLS. Certificates are made anew for it. */
export async function startTlsPostgres(port: number) {
  const folder = await mkdtemp(path.join(tmpdir(), 'unipay-tls-'))
  await chmod(folder, 0o711)
  // Makes the cluster and the database, and finds the account that may own them.
  await (await startEmbedded({ dataDir: folder, fsync: false })).stop()
  const cluster = path.join(folder, 'postgres', 'cluster')
  const { uid, gid } = await stat(cluster)
  const runAs = process.getuid?.() === 0 ? { uid, gid } : undefined

  const [ours, others] = await Promise.all([createAuthority(folder, 'ours'), createAuthority(folder, 'others')])
  const server = await newKeyPair()
  await writeFile(path.join(cluster, 'server.crt'), await ours.issue('server', server.publicKey, false))
  await writeFile(path.join(cluster, 'server.key'), privatePem(server), { mode: 0o600 })
  await chown(path.join(cluster, 'server.key'), uid, gid)
  await writeFile(path.join(cluster, 'pg_hba.conf'), 'hostssl all all 127.0.0.0/8 trust\n')
  await appendFile(
    path.join(cluster, 'postgresql.conf'),
    [
      `listen_addresses = '127.0.0.1,${UNNAMED_ADDRESS}'`,
      `port = ${port}`,
      "unix_socket_directories = ''",
      'ssl = on',
      'fsync = off',
      '',
    ].join('\n'),
  )
  const { binDir } = await findBinaries({ runAs, dataDir: folder, major: undefined })
  const child = spawn(path.join(binDir, 'postgres'), ['-D', cluster], {
    ...runAs,
    cwd: '/',
    env: SERVER_ENV,
    stdio: 'ignore',
  })
  const url = (query: string, host = '127.0.0.1') => `postgresql://postgres@${host}:${port}/unipay?${query}`
  const trusting = (file: string, host?: string) => url(`sslmode=verify-full&sslrootcert=${file}`, host)
  await vi.waitFor(
    async () => {
      const client = new Client({ connectionString: trusting(ours.file) })
      client.on('error', () => undefined)
      await client.connect()
      await client.end()
    },
    { timeout: 30_000, interval: 50 },
  )
  return {
    trusted: trusting(ours.file),
    trustedElsewhere: trusting(ours.file, UNNAMED_ADDRESS),
    distrusted: trusting(others.file),
    /** The authorities that everybody trusts, none of which knows this server. */
    publiclyTrusted: url('sslmode=verify-full'),
    plain: url('sslmode=disable'),
    async stop(): Promise<void> {
      child.kill('SIGINT')
      await once(child, 'exit')
      await rm(folder, { recursive: true, force: true })
    },
  }
}
