-- What the operators' page reads, each by an index.

-- Find by the gateway's transaction number.
CREATE INDEX "orders_gateway_order_no_idx" ON "orders"("gateway_order_no") WHERE "gateway_order_no" IS NOT NULL;

-- Unsettled money by age and channel, from the index alone. Neither column of INCLUDE ever changes.
CREATE INDEX "orders_unsettled_by_channel_idx" ON "orders"("created_at", "id") INCLUDE ("channel", "amount_fen")
  WHERE "status" IN ('progress', 'fail');
DROP INDEX IF EXISTS "orders_unsettled_idx", "orders_unsettled_fen_idx";

-- The last hours' syncs for the curves. Records come in the order of their time, so a few bytes per 32 pages are enough.
CREATE INDEX "sync_records_created_at_idx" ON "sync_records" USING BRIN ("created_at")
  WITH (pages_per_range = 32, autosummarize = on);
