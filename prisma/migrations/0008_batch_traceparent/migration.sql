-- The W3C trace of the request that made a batch: it goes on to the notices of what the batch repairs.
ALTER TABLE "batches" ADD COLUMN "traceparent" VARCHAR(55);
