//! The outbox: webhooks and uploads that are owed. A row is written in the transaction that ends its job, and delivered at least once.

use sqlx::{Row, SqliteConnection};

use super::{Store, now_ms};
use crate::error::Result;

/// What a URL is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    /// News of the job.
    Webhook,
    /// The clip itself.
    Upload,
}

impl Owed {
    fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Upload => "upload",
        }
    }
}

/// One delivery that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The `webhook-id`.
    pub id: String,
    pub account: String,
    pub job: String,
    pub url: String,
    pub what: Owed,
    /// Tries so far.
    pub attempt: i64,
}

impl Store {
    /// Takes the webhooks that are due, at most 16, and puts them off by a minute in case this process dies.
    pub async fn due_webhooks(&self) -> Result<Vec<Delivery>> {
        let now = now_ms();
        let due: Option<i64> =
            sqlx::query_scalar("SELECT MIN(next_at) FROM outbox WHERE state = 'pending'").fetch_one(&self.read).await?;
        if due.is_none_or(|at| at > now) {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "UPDATE outbox SET next_at = ? WHERE id IN (SELECT id FROM outbox WHERE state = 'pending' AND next_at <= ? \
             ORDER BY next_at LIMIT 16) RETURNING *",
        )
        .bind(now + 60_000)
        .bind(now)
        .fetch_all(&self.write)
        .await?;
        let delivery = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Delivery {
                id: row.try_get("id")?,
                account: row.try_get("account")?,
                job: row.try_get("job")?,
                url: row.try_get("url")?,
                what: if row.try_get::<&str, _>("what")? == Owed::Upload.name() { Owed::Upload } else { Owed::Webhook },
                attempt: row.try_get("attempt")?,
            })
        };
        rows.iter().map(delivery).collect()
    }

    /// Notes a try: delivered, given up, or to be tried again at `next_at`.
    pub async fn webhook_tried(&self, id: &str, state: &'static str, next_at: i64) -> Result<()> {
        sqlx::query("UPDATE outbox SET state = ?, attempt = attempt + 1, next_at = ? WHERE id = ?")
            .bind(state)
            .bind(next_at)
            .bind(id)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Gives up all webhooks to a URL: its owner has answered 410.
    pub async fn disable_webhooks(&self, account: &str, url: &str) -> Result<()> {
        sqlx::query("UPDATE outbox SET state = 'failed' WHERE account = ? AND url = ? AND state = 'pending'")
            .bind(account)
            .bind(url)
            .execute(&self.write)
            .await?;
        Ok(())
    }
}

pub(super) async fn insert(tx: &mut SqliteConnection, account: &str, job: &str, what: Owed, url: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO outbox (id, account, job, url, what, next_at, state, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, 'pending', ?)",
    )
    .bind(format!("msg_{}", ulid::Ulid::generate()))
    .bind(account)
    .bind(job)
    .bind(url)
    .bind(what.name())
    .bind(now_ms())
    .bind(now_ms())
    .execute(&mut *tx)
    .await?;
    Ok(())
}
