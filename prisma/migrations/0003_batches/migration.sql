-- An operator's run over many orders. The orders are chosen once, when it is made, and kept as its items: what an hour of
-- sweeping changes meanwhile changes neither which orders it covers nor what its dry run and its real run compare.

CREATE TABLE "batches" (
    "id" BIGSERIAL NOT NULL,
    "state" VARCHAR(16) NOT NULL DEFAULT 'running',
    "actor" VARCHAR(64) NOT NULL,
    "trace_id" VARCHAR(32) NOT NULL,
    "filter" JSONB NOT NULL,
    "dry_run" BOOLEAN NOT NULL,
    "rate_per_s" INTEGER NOT NULL,
    "total" INTEGER NOT NULL DEFAULT 0,
    -- One runner at a time, so that its rate is the batch's rate. A runner that dies lets the claim run out.
    "claim_token" UUID,
    "claim_expires_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "finished_at" TIMESTAMPTZ(3),
    "cancelled_by" VARCHAR(64),

    CONSTRAINT "batches_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "batches_state_known" CHECK ("state" IN ('running', 'cancelled', 'done')),
    CONSTRAINT "batches_rate_positive" CHECK ("rate_per_s" > 0)
);
-- What runners look for.
CREATE INDEX "batches_running_idx" ON "batches"("id") WHERE "state" = 'running';

CREATE TABLE "batch_items" (
    "batch_id" BIGINT NOT NULL,
    "order_id" BIGINT NOT NULL,
    "channel" VARCHAR(32) NOT NULL,
    "amount_fen" BIGINT NOT NULL,
    -- Given before the sync starts and kept over every retry: a runner that takes over finds by it what was committed,
    -- so that no repair is counted twice or not at all.
    "trace_id" VARCHAR(32) NOT NULL,
    "tries" INTEGER NOT NULL DEFAULT 0,
    "due_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "result" VARCHAR(24),

    CONSTRAINT "batch_items_pkey" PRIMARY KEY ("batch_id", "order_id"),
    CONSTRAINT "batch_items_result_known" CHECK ("result" IN
      ('settled', 'closed_local', 'closed_gateway', 'reopened', 'waiting', 'unchanged', 'mismatch', 'unknown', 'busy',
       'gone', 'failed'))
) WITH (fillfactor = 80);
-- What is left to do, in order.
CREATE INDEX "batch_items_open_idx" ON "batch_items"("batch_id", "order_id") WHERE "result" IS NULL;

ALTER TABLE "batch_items" ADD CONSTRAINT "batch_items_batch_id_fkey" FOREIGN KEY ("batch_id") REFERENCES "batches"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "batch_items" ADD CONSTRAINT "batch_items_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "orders"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;

-- Unsettled money by age is read at every scrape: with the amount in the index, no row need be looked at.
CREATE INDEX "orders_unsettled_fen_idx" ON "orders"("created_at", "id") INCLUDE ("amount_fen") WHERE "status" IN ('progress', 'fail');
DROP INDEX "orders_unsettled_idx";
