import { floodMetrics } from '../support/random-requests.js'

floodMetrics(3_000, 60_000)
