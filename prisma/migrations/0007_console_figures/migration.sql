-- What the operators' page reads of many records at once, without joining orders or opening evidence.

-- The channel that a sync asked, and its slowest exchange there; null where nothing was asked. Both are known when the
-- record is written: the curves of the last hours read nothing else.
ALTER TABLE "sync_records" ADD COLUMN "channel" VARCHAR(32), ADD COLUMN "gateway_ms" INTEGER;

-- Orders of some days, for batches. They come in the order of their time, so a few bytes per 32 pages are enough.
CREATE INDEX "orders_created_at_idx" ON "orders" USING BRIN ("created_at")
  WITH (pages_per_range = 32, autosummarize = on);

-- A batch may rest (paused: somebody means to go on) or be given up (cancelled). Both can be resumed.
ALTER TABLE "batches" DROP CONSTRAINT "batches_state_known";
ALTER TABLE "batches" ADD CONSTRAINT "batches_state_known" CHECK ("state" IN ('running', 'paused', 'cancelled', 'done'));
-- A form that is sent twice makes one batch: its trace id was given with the question.
CREATE UNIQUE INDEX "batches_trace_id_key" ON "batches"("trace_id");

-- Sessions of the operators' page that were ended before their time. The cookie is all there is of a session, so whoever
-- copied it would else keep it. A row is of no use after a session's longest life, and is deleted then.
CREATE TABLE "console_sign_outs" (
    "session_id" VARCHAR(32) NOT NULL,
    "ended_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "console_sign_outs_pkey" PRIMARY KEY ("session_id")
);
