-- Old sync records are deleted (`unipay prune`), in batches that cost the same in a table of any size.

-- The records that may go one day, oldest first: those that repaired nothing. Each new one goes to the index's last page.
CREATE INDEX "sync_records_unrepaired_idx" ON "sync_records"("id") WHERE "repair_no" IS NULL;
-- Deleting a sync record looks for findings that rest on it: without this, through all of them each time.
CREATE INDEX "sync_exceptions_sync_id_idx" ON "sync_exceptions"("sync_id");
