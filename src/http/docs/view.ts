/** The part of OpenAPI 3.1 that the document uses. */
export type Document = Readonly<{
  info: Readonly<{ title: string; version: string; description: string }>
  tags: readonly Readonly<{ name: string; description: string }>[]
  paths: Paths
  webhooks: Paths
  components: Readonly<{ schemas: Readonly<Record<string, Schema>> }>
}>

type Paths = Readonly<Record<string, Readonly<Record<string, Operation>>>>

type Operation = Readonly<{
  operationId: string
  summary: string
  description?: string
  tags: readonly string[]
  security?: readonly unknown[]
  parameters?: readonly Parameter[]
  requestBody?: Readonly<{ content: Readonly<Record<string, Media>> }>
  responses: Readonly<Record<string, Readonly<{ description: string; content?: Readonly<Record<string, Media>> }>>>
}>

type Parameter = Readonly<{ in: string; name: string; required?: boolean; description?: string; schema: Schema }>

type Media = Readonly<{
  schema: Schema
  example?: unknown
  examples?: Readonly<Record<string, Readonly<{ summary?: string; value: unknown }>>>
}>

type Schema = Readonly<{
  $ref?: string
  type?: string | readonly string[]
  format?: string
  enum?: readonly unknown[]
  const?: unknown
  anyOf?: readonly Schema[]
  items?: Schema
  properties?: Readonly<Record<string, Schema>>
  required?: readonly string[]
  additionalProperties?: Schema | boolean
  description?: string
  default?: unknown
  pattern?: string
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
}>

/** A piece of a line: plain, as code, strong, or a link to a schema of the page. */
export type Piece = Readonly<{ text: string; as: 'plain' | 'code' | 'strong' | 'schema' }>
export type Block = Readonly<{ lines: readonly Piece[] } | { head: readonly Piece[][]; rows: readonly Piece[][][] }>
/** `note`: that it must be sent, or that it is not in every answer. */
export type Field = Readonly<{ name: string; note: string; type: readonly Piece[]; about: readonly Piece[] }>

type Notes = Readonly<{ required: string; optional: string }>
const SENT: Notes = { required: 'required', optional: '' }
const ANSWERED: Notes = { required: '', optional: 'not always' }

/** What the page shows, in the order of the document. */
export function viewOf(document: Document) {
  const operations = [
    ...operationsOf(document.paths),
    // What this service sends elsewhere: there is no address to try it at.
    ...operationsOf(document.webhooks).map((sent) => ({ ...sent, name: 'POST notifyUrl', curls: [] })),
  ]
  return {
    title: document.info.title,
    version: document.info.version,
    about: blocksOf(document.info.description),
    groups: document.tags
      .map(({ name, description }) => ({
        name,
        about: piecesOf(description),
        operations: operations.filter(({ tags }) => tags.includes(name)),
      }))
      .filter((group) => group.operations.length > 0),
    schemas: Object.entries(document.components.schemas).map(([name, schema]) => ({
      name,
      fields: fieldsOf(schema, ANSWERED),
    })),
  }
}

function operationsOf(paths: Paths) {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => operationView(path, method.toUpperCase(), operation)),
  )
}

function operationView(path: string, method: string, operation: Operation) {
  const isForOperators = (operation.security ?? []).length > 0
  const bodies = Object.entries(operation.requestBody?.content ?? {}).map(([type, media]) =>
    bodyView(type, media, SENT),
  )
  const parameters = operation.parameters ?? []
  return {
    id: operation.operationId,
    name: `${method} ${path}`,
    tags: operation.tags,
    summary: operation.summary,
    about: blocksOf(operation.description ?? ''),
    isForOperators,
    parameters: parameters.map(({ name, required, description, schema }) =>
      fieldView(name, required === true ? SENT.required : '', {
        ...schema,
        ...(description === undefined ? {} : { description }),
      }),
    ),
    bodies,
    curls: (bodies.length === 0 ? [undefined] : bodies).map((body) =>
      curlOf(
        { path, method, isForOperators, query: parameters.filter((one) => one.in === 'query' && one.required) },
        body,
      ),
    ),
    answers: Object.entries(operation.responses).map(([status, { description, content }]) => {
      const [first] = Object.entries(content ?? {})
      const body = first === undefined ? undefined : bodyView(...first, ANSWERED)
      return { status, about: piecesOf(description), body }
    }),
  }
}

function bodyView(type: string, { schema, example, examples }: Media, notes: Notes) {
  const told = example === undefined ? Object.values(examples ?? {}) : [{ summary: 'Example', value: example }]
  return {
    type,
    /** Where it is not spelled out in fields: one of the page's schemas, or a list of them. */
    schema: schema.properties === undefined ? typeOf(schema) : null,
    about: piecesOf(schema.description ?? ''),
    fields: fieldsOf(schema, notes),
    examples: told.map(({ summary, value }) => ({
      summary: summary ?? 'Example',
      text: typeof value === 'string' ? value : JSON.stringify(value, null, 2),
      value,
    })),
  }
}

/** A line for a shell in which UNIPAY and TOKEN are set, and whatever the address names. */
function curlOf(
  call: Readonly<{ path: string; method: string; isForOperators: boolean; query: readonly Parameter[] }>,
  body: ReturnType<typeof bodyView> | undefined,
): string {
  const query = call.query.map(({ name }) => `${name}=$${variableOf(name)}`).join('&')
  const address = call.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => `$${variableOf(name)}`)
  const example = body?.examples[0]?.value
  const isFile = typeof example === 'string'
  return [
    'curl -s',
    call.method !== 'GET' && (body === undefined || isFile) ? `-X ${call.method}` : '',
    call.isForOperators ? '-H "Authorization: Bearer $TOKEN"' : '',
    body === undefined ? '' : `-H 'Content-Type: ${body.type}'`,
    `"$UNIPAY${address}${query === '' ? '' : `?${query}`}"`,
    isFile ? '-T "$FILE"' : example === undefined ? '' : `-d '${JSON.stringify(example).replaceAll("'", `'\\''`)}'`,
  ]
    .filter((part) => part !== '')
    .join(' ')
}

/** `paymentId` is PAYMENT_ID in a shell. */
function variableOf(name: string): string {
  return name.replaceAll(/([a-z])([A-Z])/g, '$1_$2').toUpperCase()
}

/** The fields of an object, those of objects within it by their path; a list's are `list[].field`. */
function fieldsOf(schema: Schema, notes: Notes, prefix = ''): Field[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const note = schema.required?.includes(name) === true ? notes.required : notes.optional
    return [fieldView(`${prefix}${name}`, note, field), ...fieldsWithin(field, notes, `${prefix}${name}`)]
  })
}

function fieldsWithin(field: Schema, notes: Notes, path: string): Field[] {
  if (field.items !== undefined) return fieldsWithin(field.items, notes, `${path}[]`)
  if (typeof field.additionalProperties === 'object')
    return fieldsWithin(field.additionalProperties, notes, `${path}.*`)
  return [
    ...fieldsOf(field, notes, `${path}.`),
    ...(field.anyOf ?? []).flatMap((one) => fieldsWithin(one, notes, path)),
  ]
}

function fieldView(name: string, note: string, schema: Schema): Field {
  const limits = limitsOf(schema.anyOf?.find((one) => one.type !== 'null') ?? schema)
  if (schema.default !== undefined) limits.push(`default ${JSON.stringify(schema.default)}`)
  const about = [schema.description ?? '', ...limits].filter((text) => text !== '').join(' · ')
  return { name, note, type: typeOf(schema), about: piecesOf(about) }
}

function limitsOf({ minLength, maxLength, minimum, maximum, pattern }: Schema): string[] {
  const limits: string[] = []
  if (maxLength !== undefined) limits.push(`${minLength ?? 'up'} to ${maxLength} characters`)
  if (maximum !== undefined) limits.push(`${minimum ?? 'up'} to ${maximum}`)
  else if (minimum !== undefined) limits.push(`at least ${minimum}`)
  if (pattern !== undefined) limits.push(`\`${pattern}\``)
  return limits
}

function typeOf(schema: Schema): Piece[] {
  if (schema.$ref !== undefined) return [{ text: schema.$ref.split('/').at(-1) ?? '', as: 'schema' }]
  if (schema.anyOf !== undefined)
    return schema.anyOf.flatMap((one, index) => [...(index === 0 ? [] : or()), ...typeOf(one)])
  const values = schema.const === undefined ? schema.enum : [schema.const]
  if (values !== undefined) {
    return values.flatMap((value, index) => [
      ...(index === 0 ? [] : or()),
      { text: String(value), as: 'code' } as const,
    ])
  }
  if (schema.items !== undefined) return [{ text: 'list of ', as: 'plain' }, ...typeOf(schema.items)]
  if (typeof schema.additionalProperties === 'object') return [{ text: 'object by key', as: 'plain' }]
  const types = [schema.type ?? 'any'].flat().join(' | ')
  return [{ text: schema.format ?? types, as: 'plain' }]
}

function or(): Piece[] {
  return [{ text: ' | ', as: 'plain' }]
}

/** The part of Markdown that the document uses: paragraphs, tables, `code` and **strong** words. */
function blocksOf(text: string): Block[] {
  return text
    .split(/\n{2,}/)
    .filter((block) => block !== '')
    .map((block) => {
      if (!block.startsWith('|')) return { lines: piecesOf(block) }
      const [head = [], , ...rows] = block.split('\n').map((row) =>
        row
          .slice(1, -1)
          .split(' | ')
          .map((cell) => piecesOf(cell.trim())),
      )
      return { head, rows }
    })
}

function piecesOf(text: string): Piece[] {
  return text
    .split(/(`[^`]+`|\*\*[^*]+\*\*)/)
    .filter((piece) => piece !== '')
    .map((piece) => {
      if (piece.startsWith('`')) return { text: piece.slice(1, -1), as: 'code' }
      if (piece.startsWith('**')) return { text: piece.slice(2, -2), as: 'strong' }
      return { text: piece, as: 'plain' }
    })
}
