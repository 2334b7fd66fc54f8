-- Orders, the records of each sync and repair, the exception queue and the merchant's outbox.
-- Money is whole fen in BIGINT. Times are timestamptz(3): the merchants' wire has seconds, people read milliseconds.

-- A repair number: 13 digits of Unix milliseconds and 6 of a sequence = 19 digits, ordered by time, unique over any
-- number of instances because one database makes it. It outgrows BIGINT in the year 2262. Two of the same millisecond
-- differ unless a million are drawn within it; the primary key would refuse the second.
CREATE SEQUENCE "repair_no_seq" AS BIGINT MINVALUE 0 MAXVALUE 999999 START 0 CYCLE CACHE 1;
CREATE FUNCTION "next_repair_no"() RETURNS BIGINT LANGUAGE SQL VOLATILE AS $$
  SELECT (extract(epoch FROM date_trunc('milliseconds', clock_timestamp())) * 1000)::bigint * 1000000
         + nextval('repair_no_seq')
$$;

CREATE TABLE "orders" (
    "id" BIGINT NOT NULL,
    "business_no" VARCHAR(100) NOT NULL,
    "title" VARCHAR(200),
    "channel" VARCHAR(32),
    "pay_way" VARCHAR(16) NOT NULL DEFAULT 'normal',
    "amount_fen" BIGINT NOT NULL,
    "currency" CHAR(3) NOT NULL DEFAULT 'CNY',
    "status" VARCHAR(16) NOT NULL DEFAULT 'progress',
    "out_trade_no" VARCHAR(64) NOT NULL,
    "gateway_order_no" VARCHAR(64),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,
    "pay_time" TIMESTAMPTZ(3),
    "close_time" TIMESTAMPTZ(3),
    "notify_url" VARCHAR(500),
    "attach" VARCHAR(500),
    "version" INTEGER NOT NULL DEFAULT 0,
    "lease_token" UUID,
    "lease_expires_at" TIMESTAMPTZ(3),
    "next_sync_at" TIMESTAMPTZ(3),
    "sync_failures" INTEGER NOT NULL DEFAULT 0,

    CONSTRAINT "orders_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "orders_id_positive" CHECK ("id" > 0),
    CONSTRAINT "orders_amount_range" CHECK ("amount_fen" BETWEEN 0 AND 1000000000000),
    CONSTRAINT "orders_currency_form" CHECK ("currency" ~ '^[A-Z]{3}$'),
    CONSTRAINT "orders_channel_form" CHECK ("channel" ~ '^[a-z][a-z0-9_]{0,31}$'),
    CONSTRAINT "orders_status_known" CHECK ("status" IN
      ('progress', 'success', 'close', 'refunding', 'partial_refund', 'refunded', 'fail')),
    CONSTRAINT "orders_pay_way_known" CHECK ("pay_way" IN
      ('normal', 'wap', 'app', 'web', 'qr_code', 'bar_code', 'jsapi')),
    -- A lease is a token and its end, or neither.
    CONSTRAINT "orders_lease_whole" CHECK (("lease_token" IS NULL) = ("lease_expires_at" IS NULL))
)
-- Each sync updates the row twice (lease, commit). Room on the page keeps the lease update off the indexes (HOT).
WITH (fillfactor = 80);

CREATE UNIQUE INDEX "orders_business_no_key" ON "orders"("business_no");
-- Two orders must never claim one trade: the second would be settled with the first one's money.
CREATE UNIQUE INDEX "orders_channel_out_trade_no_key" ON "orders"("channel", "out_trade_no");
-- What the sweeper reads: due orders of one channel, oldest first. Orders that are at rest are not in it.
CREATE INDEX "orders_due_idx" ON "orders"("channel", "next_sync_at", "id") WHERE "next_sync_at" IS NOT NULL;
-- What operators count: money that is neither settled nor closed.
CREATE INDEX "orders_unsettled_idx" ON "orders"("created_at", "id") WHERE "status" IN ('progress', 'fail');

CREATE TABLE "sync_records" (
    "id" BIGSERIAL NOT NULL,
    "order_id" BIGINT NOT NULL,
    "trace_id" VARCHAR(32) NOT NULL,
    "source" VARCHAR(16) NOT NULL,
    "actor" VARCHAR(64),
    "client_ip" VARCHAR(45),
    "outcome" VARCHAR(16) NOT NULL,
    "gateway_status" VARCHAR(24) NOT NULL,
    "trade_state" VARCHAR(16),
    "decision" VARCHAR(24) NOT NULL,
    "repair_no" BIGINT,
    "error_code" INTEGER,
    "error_msg" VARCHAR(500),
    "exchanges" JSONB NOT NULL,
    "duration_ms" INTEGER NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "sync_records_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "sync_records_source_known" CHECK ("source" IN ('merchant', 'sweeper', 'operator', 'batch')),
    CONSTRAINT "sync_records_outcome_known" CHECK ("outcome" IN ('synced', 'mismatch', 'unknown', 'failed')),
    -- Only a finished sync repairs anything.
    CONSTRAINT "sync_records_repair_synced" CHECK ("repair_no" IS NULL OR "outcome" = 'synced')
);
CREATE INDEX "sync_records_order_id_id_idx" ON "sync_records"("order_id", "id" DESC);
CREATE INDEX "sync_records_trace_id_idx" ON "sync_records"("trace_id");

CREATE TABLE "repair_records" (
    "repair_no" BIGINT NOT NULL,
    "order_id" BIGINT NOT NULL,
    "sync_id" BIGINT NOT NULL,
    "way" VARCHAR(24) NOT NULL,
    "gateway_status" VARCHAR(24) NOT NULL,
    "status_before" VARCHAR(16) NOT NULL,
    "status_after" VARCHAR(16) NOT NULL,
    "amount_fen" BIGINT NOT NULL,
    "actor" VARCHAR(64),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "repair_records_pkey" PRIMARY KEY ("repair_no"),
    CONSTRAINT "repair_records_way_known" CHECK ("way" IN
      ('pay_success', 'pay_close_local', 'pay_close_gateway', 'pay_progress'))
);
-- One sync makes at most one repair.
CREATE UNIQUE INDEX "repair_records_sync_id_key" ON "repair_records"("sync_id");
CREATE INDEX "repair_records_order_id_repair_no_idx" ON "repair_records"("order_id", "repair_no" DESC);

CREATE TABLE "sync_exceptions" (
    "id" BIGSERIAL NOT NULL,
    "order_id" BIGINT NOT NULL,
    "sync_id" BIGINT NOT NULL,
    "kind" VARCHAR(32) NOT NULL,
    "state" VARCHAR(16) NOT NULL DEFAULT 'open',
    "at_risk_fen" BIGINT NOT NULL,
    "fingerprint" VARCHAR(200) NOT NULL,
    "evidence" JSONB NOT NULL,
    "seen_count" INTEGER NOT NULL DEFAULT 1,
    "opened_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "last_seen_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "resolved_at" TIMESTAMPTZ(3),
    "resolved_by" VARCHAR(64),
    "note" VARCHAR(1000),

    CONSTRAINT "sync_exceptions_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "sync_exceptions_kind_known" CHECK ("kind" IN
      ('amount_mismatch', 'identity_mismatch', 'paid_after_close', 'paid_here_not_there', 'refunded_unsettled',
       'double_payment')),
    CONSTRAINT "sync_exceptions_state_known" CHECK ("state" IN ('open', 'resolved')),
    -- Resolved means: by someone, at some time, with a reason.
    CONSTRAINT "sync_exceptions_resolution_whole" CHECK (("state" = 'resolved') =
      ("resolved_at" IS NOT NULL AND "resolved_by" IS NOT NULL AND "note" IS NOT NULL))
);
-- The same finding does not open a second row.
CREATE UNIQUE INDEX "sync_exceptions_open_key" ON "sync_exceptions"("order_id", "kind") WHERE "state" = 'open';
CREATE INDEX "sync_exceptions_order_id_id_idx" ON "sync_exceptions"("order_id", "id");
CREATE INDEX "sync_exceptions_queue_idx" ON "sync_exceptions"("kind", "id") WHERE "state" = 'open';

CREATE TABLE "notices" (
    "id" BIGSERIAL NOT NULL,
    "order_id" BIGINT NOT NULL,
    "repair_no" BIGINT NOT NULL,
    "trace_id" VARCHAR(32) NOT NULL,
    "traceparent" VARCHAR(55),
    "url" VARCHAR(500) NOT NULL,
    -- The URL's host and port, so that one slow merchant can be passed over while the others are served.
    "host" VARCHAR(260) NOT NULL,
    "payload" JSONB NOT NULL,
    "state" VARCHAR(16) NOT NULL DEFAULT 'pending',
    "attempts" INTEGER NOT NULL DEFAULT 0,
    -- Due then. A claim moves it ahead by the claim's life: whoever dies with a claim gives it back by doing nothing.
    "next_attempt_at" TIMESTAMPTZ(3) DEFAULT CURRENT_TIMESTAMP,
    "claim_token" UUID,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "delivered_at" TIMESTAMPTZ(3),

    CONSTRAINT "notices_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "notices_state_known" CHECK ("state" IN ('pending', 'delivered', 'dead')),
    CONSTRAINT "notices_delivered_when" CHECK (("state" = 'delivered') = ("delivered_at" IS NOT NULL)),
    CONSTRAINT "notices_pending_due" CHECK ("state" <> 'pending' OR "next_attempt_at" IS NOT NULL)
) WITH (fillfactor = 80);
-- One notice per transition, whatever runs twice.
CREATE UNIQUE INDEX "notices_repair_no_key" ON "notices"("repair_no");
CREATE INDEX "notices_order_id_id_idx" ON "notices"("order_id", "id");
-- What the courier reads: due notices, oldest first.
CREATE INDEX "notices_due_idx" ON "notices"("next_attempt_at", "id") WHERE "state" = 'pending';
CREATE INDEX "notices_dead_idx" ON "notices"("id") WHERE "state" = 'dead';

CREATE TABLE "notice_attempts" (
    "id" BIGSERIAL NOT NULL,
    "notice_id" BIGINT NOT NULL,
    "attempt" INTEGER NOT NULL,
    "outcome" VARCHAR(16) NOT NULL,
    "http_status" INTEGER,
    "excerpt" VARCHAR(200) NOT NULL,
    "duration_ms" INTEGER NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "notice_attempts_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "notice_attempts_outcome_known" CHECK ("outcome" IN
      ('delivered', 'refused', 'timeout', 'unreachable', 'not_allowed'))
);
CREATE INDEX "notice_attempts_notice_id_id_idx" ON "notice_attempts"("notice_id", "id");

ALTER TABLE "sync_records" ADD CONSTRAINT "sync_records_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "orders"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "repair_records" ADD CONSTRAINT "repair_records_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "orders"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "repair_records" ADD CONSTRAINT "repair_records_sync_id_fkey" FOREIGN KEY ("sync_id") REFERENCES "sync_records"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "sync_exceptions" ADD CONSTRAINT "sync_exceptions_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "orders"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "sync_exceptions" ADD CONSTRAINT "sync_exceptions_sync_id_fkey" FOREIGN KEY ("sync_id") REFERENCES "sync_records"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "notices" ADD CONSTRAINT "notices_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "orders"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "notices" ADD CONSTRAINT "notices_repair_no_fkey" FOREIGN KEY ("repair_no") REFERENCES "repair_records"("repair_no") ON DELETE RESTRICT ON UPDATE RESTRICT;
ALTER TABLE "notice_attempts" ADD CONSTRAINT "notice_attempts_notice_id_fkey" FOREIGN KEY ("notice_id") REFERENCES "notices"("id") ON DELETE RESTRICT ON UPDATE RESTRICT;
