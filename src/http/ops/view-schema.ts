import { z } from 'zod'

// What answers are made of. The database's own checks hold these values, so answers say them without looking again.

/** One of a fixed list of words. */
export const word = (values: readonly string[]) => z.string().meta({ enum: [...values] })
export const moment = z.string().meta({ format: 'date-time' })
export const fen = z.int().describe('fen')
