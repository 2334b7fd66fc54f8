import type { FastifyInstance } from 'fastify'
import { z } from 'zod'

/** A name is quoted from what was sent, where anything may stand. */
const NAME_LENGTH_SHOWN = 40
/** Of many problems with names at once; the first ones are enough to see what is wrong. */
const PROBLEMS_TOLD_MAX = 10

/**
 * An object of these fields and no other. A misspelt one would count as absent, unsaid: an order without its number at the
 * gateway, a batch over everything, a real sync in place of a dry run.
 */
export function onlyFields<Shape extends z.ZodRawShape>(shape: Shape, kind: 'field' | 'parameter', owner: string) {
  const known = Object.keys(shape)
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? toldTogether(issue.keys.map((name) => unknownName(kind, name, owner, known)))
        : undefined,
  })
}

/** The body of a call that needs none; the document does not ask for it. */
export const NO_FIELDS = onlyFields({}, 'field', 'such call')
const NO_PARAMETERS = onlyFields({}, 'parameter', 'such call')

/** Routes take what their schemas name. One that names no query, or no body and no other types that it reads, takes none. */
export function takeOnlyWhatIsNamed(scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => {
    const schema = route.schema ?? {}
    schema.querystring ??= NO_PARAMETERS
    if (route.method === 'POST' && schema.consumes === undefined) schema.body ??= NO_FIELDS
    route.schema = schema
  })
}

export function toldTogether(problems: readonly string[]): string {
  return problems.slice(0, PROBLEMS_TOLD_MAX).join('; ')
}

/** What is wrong with a name that is none of those known, and which of them was meant where only case or hyphenation differ. */
export function unknownName(kind: string, name: string, owner: string, known: readonly string[]): string {
  if (name === '') return `has a ${kind} without a name`
  const meant = known.find((one) => plain(one) === plain(name))
  return `has a ${kind} ${shortened(name)}, which no ${owner} has${meant === undefined ? '' : ` (${meant}?)`}`
}

function plain(name: string): string {
  return name.replaceAll(/[-_ ]/g, '').toLowerCase()
}

function shortened(name: string): string {
  return name.length > NAME_LENGTH_SHOWN ? `${name.slice(0, NAME_LENGTH_SHOWN)}…` : name
}
