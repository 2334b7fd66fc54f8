/** The page closes a stream that says so; one that only ends is opened again. */
export const STREAM_OVER = 'event: over\ndata: \n\n'

/** A part of a page as one server-sent event. */
export function eventOf(html: string): string {
  const lines = html.split('\n').map((line) => `data: ${line}\n`)
  return `${lines.join('')}\n`
}
