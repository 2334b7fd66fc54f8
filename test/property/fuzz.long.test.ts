import { fuzz } from '../support/fuzz.js'

fuzz(100_000)
