#!/usr/bin/env node
import { Command, CommanderError } from 'commander'

import { batch } from './cli/batch.js'
import { doctor, migrateNow } from './cli/doctor.js'
import { importFile, showOrder, sign, syncOne } from './cli/orders.js'
import { listExceptions, listNotices, redeliver, resolveException } from './cli/queues.js'
import { CommandFailed, Misused } from './cli/run.js'
import { StartError } from './compose.js'
import { ConfigError } from './config.js'
import { EXCEPTION_KINDS } from './domain/decide.js'
import { CHANNELS, ORDER_STATUSES } from './domain/order.js'
import { KeyError } from './gateways/keys.js'

const JSON_OPTION = ['--json', 'JSON for scripts'] as const
const ORDER = 'its id, or the merchant’s number'

const program = new Command('unipay')
  .description('What operators do, by command. Settings come from the environment, as for the service.')
  .exitOverride()

program
  .command('sign')
  .description('a ready-signed curl line for an order')
  .argument('<order>', ORDER)
  .option('--url <url>', 'where the service is')
  .action(sign)
program
  .command('show')
  .description('an order and its whole story')
  .argument('<order>', ORDER)
  .option(...JSON_OPTION)
  .action(showOrder)
program
  .command('sync')
  .description('ask the gateway about an order and repair it')
  .argument('<order>', ORDER)
  .option('--dry-run', 'only say what would be done, and why')
  .option(...JSON_OPTION)
  .action(syncOne)
program
  .command('batch')
  .description('sync many orders, within the gateway’s rate')
  .option('--channel <channel>', CHANNELS.join(', '))
  .option('--status <status>', ORDER_STATUSES.join(', '))
  .option('--from <time>', 'created at or after, RFC 3339')
  .option('--to <time>', 'created before')
  .option('--limit <count>', 'at most so many (default 10000)')
  .option('--rate <count>', 'orders per second')
  .option('--dry-run', 'only count what would be done')
  .option('--resume <id>', 'go on with a batch')
  .option('--cancel <id>', 'stop a batch')
  .option('--show <id>', 'how far a batch is')
  .option(...JSON_OPTION)
  .action(batch)
program
  .command('import')
  .description('register orders from a file: NDJSON, or CSV by its name')
  .argument('<file>')
  .option(...JSON_OPTION)
  .action(importFile)
program
  .command('exceptions')
  .description('findings that a human must look at')
  .option('--state <state>', 'open or resolved (default open)')
  .option('--kind <kind>', EXCEPTION_KINDS.join(', '))
  .option(...JSON_OPTION)
  .action(listExceptions)
program
  .command('resolve')
  .description('close a finding, with the reason')
  .argument('<id>')
  .argument('<note>')
  .option(...JSON_OPTION)
  .action(resolveException)
program
  .command('notices')
  .description('what merchants were told, or not yet')
  .option('--state <state>', 'pending, delivered or dead')
  .option(...JSON_OPTION)
  .action(listNotices)
program
  .command('redeliver')
  .description('send a notice again, now')
  .argument('<id>')
  .option(...JSON_OPTION)
  .action(redeliver)
program
  .command('migrate')
  .description('apply the migrations that the database lacks')
  .option(...JSON_OPTION)
  .action(migrateNow)
program
  .command('doctor')
  .description('look for the usual faults, and what to do about them')
  .option(...JSON_OPTION)
  .action(doctor)

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = statusOf(error)
}

/** 0 done, 1 failed, 2 misused. */
function statusOf(error: unknown): number {
  // Commander has said it already; asking for help is no misuse.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  const isForPeople = [CommandFailed, Misused, ConfigError, StartError, KeyError].some((kind) => error instanceof kind)
  process.stderr.write(
    `${isForPeople ? (error as Error).message : String(error instanceof Error ? error.stack : error)}\n`,
  )
  return error instanceof Misused ? 2 : 1
}
