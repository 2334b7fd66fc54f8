-- When the gateway last accepted to reverse the order's trade (a payment code's). What was paid of it goes back, though
-- queries may go on saying "paid" for a while; and a failed attempt cannot be tried again.
ALTER TABLE "orders" ADD COLUMN "reversed_at" TIMESTAMPTZ(3);
