/** The installed folder, with package.json and prisma/: the same from src/ and, built into any file of it, from dist/. */
export const ROOT = new URL('..', import.meta.url)
