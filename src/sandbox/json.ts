export type Json = string | number | boolean | null | readonly Json[] | JsonObject
export type JsonObject = Readonly<{ [name: string]: Json }>

/** The value as a JSON object; null where the text is anything else. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Readonly<Record<string, unknown>>)
      : null
  } catch {
    // Not JSON is an answer of its own: the caller says so in the gateway's words.
    return null
  }
}
