-- What is owed to the URL: 'webhook' (news of the job) or 'upload' (its clip).
ALTER TABLE outbox ADD COLUMN what TEXT NOT NULL DEFAULT 'webhook';
