import { exerciseScanner } from '../support/alipay-scan.js'

exerciseScanner(100_000)
