import { z } from 'zod'

/** Text that PostgreSQL can keep: no NUL, no half of a surrogate pair. */
export const storable = (text: z.ZodString) =>
  text.refine((value) => !value.includes('\0') && value.isWellFormed(), 'must not contain NUL or broken UTF-16')

/** A time as it is asked for. Whoever gets one wrong mostly left out the zone or the T. */
export const zonedTime = z.iso.datetime({
  offset: true,
  error: 'must be a time with its zone, such as 2026-01-31T10:00:00+08:00',
  abort: true,
})

// What answers are made of. The database's own checks hold these values, so answers say them without looking again.

/** One of a fixed list of words. */
export const word = (values: readonly string[]) => z.string().meta({ enum: [...values] })
export const moment = z.string().meta({ format: 'date-time' })
export const fen = z.int().describe('fen')
