-- The courier claims per host: thousands of due notices of a merchant who does not answer are stepped over in one probe,
-- so that what is due for the others is found at once.
CREATE INDEX "notices_host_due_idx" ON "notices"("host", "next_attempt_at", "id") WHERE "state" = 'pending';
DROP INDEX "notices_due_idx";
