import { fuzz } from '../support/fuzz.js'

fuzz(5_000)
