-- A notice that was not delivered before a newer one of its order was written is superseded: it is never sent again. Sent
-- after the newer one it would tell the merchant a state that is over, such as a close of an order that is paid.
ALTER TABLE "notices" DROP CONSTRAINT "notices_state_known";
ALTER TABLE "notices" ADD CONSTRAINT "notices_state_known" CHECK ("state" IN
  ('pending', 'delivered', 'dead', 'superseded'));
-- Those that wait now behind a newer one, or were given up before it.
UPDATE "notices" AS older SET "state" = 'superseded', "next_attempt_at" = NULL WHERE older."state" IN ('pending', 'dead')
  AND EXISTS (SELECT 1 FROM "notices" newer WHERE newer."order_id" = older."order_id" AND newer."id" > older."id");
-- Operators look for them by their state; there are few among many.
CREATE INDEX "notices_superseded_idx" ON "notices"("id") WHERE "state" = 'superseded';
