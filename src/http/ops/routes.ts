import type { FastifyInstance } from 'fastify'

import { takeAbsentBodies } from './absent-body.js'
import { type BatchRouteDeps, registerBatchRoutes } from './batch-routes.js'
import { type ExceptionRouteDeps, registerExceptionRoutes } from './exception-routes.js'
import { type ImportRouteDeps, registerImportRoutes } from './import-routes.js'
import { takeOnlyWhatIsNamed } from './known-fields.js'
import { type NoticeRouteDeps, registerNoticeRoutes } from './notice-routes.js'
import { type OpsToken, requireOperator } from './operator.js'
import { type OrderRouteDeps, registerOrderRoutes } from './order-routes.js'

export type OpsDeps = Readonly<{ tokens: readonly OpsToken[] }> &
  OrderRouteDeps &
  ImportRouteDeps &
  BatchRouteDeps &
  ExceptionRouteDeps &
  NoticeRouteDeps

/** The operators' routes: conventional HTTP statuses, errors as problem+json, every caller known by name. */
export function registerOps(scope: FastifyInstance, deps: OpsDeps): void {
  requireOperator(scope, deps.tokens)
  takeAbsentBodies(scope)
  takeOnlyWhatIsNamed(scope)
  registerOrderRoutes(scope, deps)
  registerImportRoutes(scope, deps)
  registerBatchRoutes(scope, deps)
  registerExceptionRoutes(scope, deps)
  registerNoticeRoutes(scope, deps)
}
