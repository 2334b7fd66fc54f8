-- One open row per order, kind and fingerprint: a second double payment opens its own, whatever became of the first.
CREATE UNIQUE INDEX "sync_exceptions_open_finding_key" ON "sync_exceptions"("order_id", "kind", "fingerprint")
  WHERE "state" = 'open';
DROP INDEX "sync_exceptions_open_key";

-- A fingerprint names the payment there, where there is one, and not the gateway's state, which changes while the same
-- money is in question. Those that were written with the state become the same, so that none is opened again.
UPDATE "sync_exceptions" AS e SET "fingerprint" = CASE
    WHEN e."kind" IN ('amount_mismatch', 'identity_mismatch') THEN left(p."payment" || ' ' || e."fingerprint", 200)
    ELSE p."payment" END
FROM (
  SELECT "id", CASE WHEN "evidence"->>'stateThere' IN ('paid', 'refunded')
    THEN coalesce("evidence"->>'gatewayOrderNoThere', 'paid') ELSE '' END AS "payment"
  FROM "sync_exceptions"
) AS p WHERE p."id" = e."id";
