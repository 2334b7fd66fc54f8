import { floodMetrics } from '../support/random-requests.js'

floodMetrics(100_000, 600_000)
