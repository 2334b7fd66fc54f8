/** The address that a proxy may write before the path. */
const ORIGIN = /^https?:\/\/[^/?#]*/i

/** A request's path as the router reads it: encoded letters are the letters. One that cannot be decoded stays as it is. */
export function pathOf({ url }: Readonly<{ url: string }>): string {
  const path = url.startsWith('/') ? url : url.replace(ORIGIN, '')
  try {
    return path.includes('%') ? decodeURI(path) : path
  } catch {
    return path
  }
}
