// A process of its own that starts (or joins) the embedded PostgreSQL in the folder given, says so in one line of JSON,
// stops when its input ends, and exits without stopping when it reads anything. For tests about two processes, killed
// processes and other accounts.
import { once } from 'node:events'

import { startEmbedded } from '../../src/store/embedded.js'

const dataDir = process.argv[2]
if (dataDir === undefined) throw new Error('usage: embedded-process.ts DATA_DIR')
const server = await startEmbedded({ dataDir, fsync: false })
process.stdout.write(`${JSON.stringify({ url: server.url, joined: server.joined })}\n`)
process.stdin.once('data', () => process.exit(0))
await once(process.stdin, 'end')
// As a command does it: nothing else keeps the process alive.
await server.stop()
