-- When a reversal of the order's trade (a payment code's) was last begun, written before it is asked for: its answer, or the
-- commit after it, may be lost while the gateway gives the money back. One that was verifiably not carried out is taken out.
ALTER TABLE "orders" ADD COLUMN "reversal_begun_at" TIMESTAMPTZ(3);
