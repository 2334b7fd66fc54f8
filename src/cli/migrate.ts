import { loadConfig } from '../config.js'
import { migrate } from '../store/migrate.js'
import { CommandFailed, type Output, show } from './output.js'

/** Applies the migrations that the database lacks. */
export async function migrateNow(output: Output): Promise<void> {
  const { DATABASE_URL: url } = loadConfig(process.env)
  if (url === undefined) {
    show(output, { kind: 'embedded' }, () => 'The embedded database is migrated when it is started.')
    return
  }
  const outcome = await migrate({ connectionString: url }).catch((error: unknown) => {
    throw new CommandFailed(`The database cannot be migrated: ${String(error)}. What to do about it: unipay doctor`)
  })
  if (outcome.kind === 'refused') throw new CommandFailed(outcome.message)
  show(output, outcome, () =>
    outcome.applied.length === 0
      ? 'Nothing to do: the database is migrated.'
      : `Applied: ${outcome.applied.join(', ')}`,
  )
}
