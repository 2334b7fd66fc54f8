#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8'

import { Command, CommanderError, Option } from 'commander'

import { CommandFailed, Misused, sayAside } from './cli/output.js'
import { ConfigError } from './config.js'
import { EXCEPTION_KINDS } from './domain/decide.js'
import { CHANNELS, ORDER_STATUSES } from './domain/order.js'
import { ASK_DOCTOR, failureOfSurroundings } from './failure.js'
import { versionHere } from './version.js'

// Prisma's WebAssembly as it is compiled at first: a command is over before the optimised one is, and would wait for it.
setFlagsFromString('--liftoff-only')

const ORDER = 'its id, or the merchant’s number'
const json = () => new Option('--json', 'JSON for scripts')
const as = () => new Option('--as <name>', 'who is recorded (default: the account)')
const before = () => new Option('--before <id>', 'older ones than this')
const limit = () => new Option('--limit <count>', 'at most so many (default 50)')

// Each command is loaded when it is asked for: `sign` and `--help` need no database, and are there at once.
const program = new Command('unipay')
  .description('What operators do, by command. Settings come from the environment, as for the service.')
  .version(versionHere(), '--version', 'which release this is')
  .exitOverride()

program
  .command('sign')
  .description('a ready-signed curl line for an order')
  .argument('<order>', ORDER)
  .option('--url <url>', 'where the service is (default: here, on PORT)')
  .option('--number', 'it is the merchant’s number although it has only digits')
  .addOption(json())
  .action(async (order, options) => (await import('./cli/sign.js')).sign(order, options))
program
  .command('show')
  .description('an order and its whole story')
  .argument('<order>', ORDER)
  .addOption(json())
  .action(async (order, options) => await (await import('./cli/orders.js')).showOrder(order, options))
program
  .command('sync')
  .description('ask the gateway about an order and repair it')
  .argument('<order>', ORDER)
  .option('--dry-run', 'only say what would be done, and why')
  .addOption(as())
  .addOption(json())
  .action(async (order, options) => await (await import('./cli/orders.js')).syncOne(order, options))
program
  .command('batch')
  .description('sync many orders, within the gateway’s rate')
  .option('--channel <channel>', CHANNELS.join(', '))
  .option('--status <status>', ORDER_STATUSES.join(', '))
  .option('--from <time>', 'created at or after: RFC 3339, or so long ago (30m, 2h, 1d)')
  .option('--to <time>', 'created before')
  .option('--limit <count>', 'at most so many (default 10000)')
  .option('--rate <count>', 'orders per second (default: half of the gateway’s rate)')
  .option('--dry-run', 'only count what would be done')
  .option('--resume <id>', 'go on with a batch; of a finished one, ask again about what could not be told')
  .option('--cancel <id>', 'stop a batch, wherever it runs')
  .option('--show <id>', 'how far a batch is')
  .addOption(as())
  .addOption(json())
  .action(async (options) => await (await import('./cli/batch.js')).batch(options))
program
  .command('batches')
  .description('what was run over many orders, newest first')
  .addOption(before())
  .addOption(limit())
  .addOption(json())
  .action(async (options) => await (await import('./cli/batch.js')).listBatches(options))
program
  .command('import')
  .description('register orders from NDJSON or CSV')
  .argument('<file>', 'or - for standard input')
  .option('--format <format>', 'ndjson or csv (default: by the file’s name)')
  .addOption(json())
  .action(async (file, options) => await (await import('./cli/import.js')).importFile(file, options))
program
  .command('exceptions')
  .description('findings that a human must look at, newest first')
  .option('--state <state>', 'open or resolved (default open)')
  .option('--kind <kind>', EXCEPTION_KINDS.join(', '))
  .addOption(before())
  .addOption(limit())
  .addOption(json())
  .action(async (options) => await (await import('./cli/queues.js')).listExceptions(options))
program
  .command('resolve')
  .description('close a finding, with the reason')
  .argument('<id>')
  .argument('<note>')
  .addOption(as())
  .addOption(json())
  .action(async (id, note, options) => await (await import('./cli/queues.js')).resolveException(id, note, options))
program
  .command('notices')
  .description('what merchants were told, or not yet, newest first')
  .option('--state <state>', 'pending, delivered, dead or superseded')
  .addOption(before())
  .addOption(limit())
  .addOption(json())
  .action(async (options) => await (await import('./cli/queues.js')).listNotices(options))
program
  .command('redeliver')
  .description('send notices again, now')
  .argument('[id...]')
  .option('--state <state>', 'all that are dead, or pending')
  .addOption(json())
  .action(async (ids, options) => await (await import('./cli/queues.js')).redeliver(ids, options))
program
  .command('migrate')
  .description('apply the migrations that the database lacks')
  .addOption(json())
  .action(async (options) => await (await import('./cli/migrate.js')).migrateNow(options))
program
  .command('prune')
  .description('delete old records of syncs that changed nothing, of orders at rest')
  .requiredOption('--older-than <days>', 'such as 90d')
  .addOption(json())
  .action(async (options) => await (await import('./cli/prune.js')).prune(options))
program
  .command('doctor')
  .description('look for the usual faults, and what to do about them')
  .addOption(json())
  .action(async (options) => await (await import('./cli/doctor.js')).doctor(options))

// `unipay notices | head` closes its end early; that is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit()
  // The disk is full, or gone: what was printed is not all.
  sayAside(`Standard output: ${error.message}`)
  process.exit(1)
})

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = statusOf(error)
}

/** 0 done, 1 failed, 2 misused. */
function statusOf(error: unknown): number {
  // Commander has said it already; asking for help is no misuse.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  const isForPeople = [CommandFailed, Misused, ConfigError].some((kind) => error instanceof kind)
  const failure = failureOfSurroundings(error)
  if (isForPeople) sayAside((error as Error).message)
  else if (failure !== null) sayAside(`${failure}. ${ASK_DOCTOR}`)
  else sayAside(String(error instanceof Error ? error.stack : error))
  return error instanceof Misused ? 2 : 1
}
