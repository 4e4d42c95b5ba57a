//! What expires: outputs, inputs, files, keys of idempotency, old news.

use super::{Store, now_ms};
use crate::error::Result;

impl Store {
    /// Ends what is over; returns the hashes of the bytes, which somebody else may need, too.
    pub async fn expire(&self) -> Result<Vec<String>> {
        let now = now_ms();
        let due: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM asset WHERE expires_at <= ?1) + (SELECT COUNT(*) FROM file WHERE expires_at <= ?1) \
             + (SELECT COUNT(*) FROM job WHERE state = 'done' AND expires_at <= ?1)",
        )
        .bind(now)
        .fetch_one(&self.read)
        .await?;
        let day_ago = now - 24 * 3600 * 1000;
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM idempotency WHERE created_at < ?").bind(day_ago).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM outbox WHERE state <> 'pending' AND created_at < ?")
            .bind(day_ago)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM worker WHERE seen_at < ?").bind(day_ago).execute(&mut *tx).await?;
        if due == 0 {
            tx.commit().await?;
            return Ok(Vec::new());
        }
        sqlx::query("UPDATE job SET state = 'expired', outputs = NULL WHERE state = 'done' AND expires_at <= ?")
            .bind(now)
            .execute(&mut *tx)
            .await?;
        let mut hashes = Vec::new();
        for sql in [
            "DELETE FROM asset WHERE expires_at <= ? RETURNING sha256",
            "DELETE FROM file WHERE expires_at <= ? RETURNING sha256",
        ] {
            hashes.extend(sqlx::query_scalar::<_, String>(sql).bind(now).fetch_all(&mut *tx).await?);
        }
        self.commit(tx).await?;
        Ok(hashes)
    }

    /// Whether an asset or a file has these bytes.
    pub async fn is_needed(&self, sha256: &str) -> Result<bool> {
        let n: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM asset WHERE sha256 = ?1) + (SELECT COUNT(*) FROM file WHERE sha256 = ?1)",
        )
        .bind(sha256)
        .fetch_one(&self.read)
        .await?;
        Ok(n > 0)
    }
}
