//! Accounts, keys and what is left to spend.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, from_json, now_ms, to_json};
use crate::error::Result;
use crate::types::{Account, UsageReport};

/// A key as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    /// Whom it lets in.
    pub account: Account,
    /// Name of the account.
    pub account_name: String,
    /// SHA-256 of the key, hexadecimal.
    pub hash: String,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

/// A key to store.
#[derive(Debug, Clone)]
pub(crate) struct NewKey {
    pub prefix: String,
    pub hash: String,
    pub redacted: String,
    pub name: String,
    pub acls: Vec<String>,
}

const KEY: &str = "SELECT k.*, a.name AS account_name FROM api_key k JOIN account a ON a.id = k.account";

fn key(row: &SqliteRow) -> Result<KeyRow> {
    Ok(KeyRow {
        account: Account {
            id: row.try_get("account")?,
            key_id: row.try_get("id")?,
            name: row.try_get("name")?,
            redacted_key: row.try_get("redacted")?,
            acls: from_json("key", row.try_get("acls")?)?,
            created_at: row.try_get("created_at")?,
        },
        account_name: row.try_get("account_name")?,
        hash: row.try_get("hash")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

impl Store {
    /// The id of the account of that name, made when it is not there.
    pub async fn account(&self, name: &str) -> Result<String> {
        let mut tx = self.begin().await?;
        let id = ulid::Ulid::generate().to_string();
        sqlx::query("INSERT INTO account (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING")
            .bind(&id)
            .bind(name)
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        let id = sqlx::query_scalar("SELECT id FROM account WHERE name = ?").bind(name).fetch_one(&mut *tx).await?;
        self.commit(tx).await?;
        Ok(id)
    }

    /// Sets what an account may spend, ticks; `None`: without limit.
    pub async fn set_credits(&self, account: &str, credits: Option<i64>) -> Result<()> {
        sqlx::query("UPDATE account SET credits = ? WHERE id = ?")
            .bind(credits)
            .bind(account)
            .execute(&self.write)
            .await?;
        self.touch();
        Ok(())
    }

    /// Stores a key; returns its id.
    pub async fn insert_key(&self, account: &str, key: NewKey) -> Result<String> {
        let id = format!("key_{}", ulid::Ulid::generate());
        sqlx::query(
            "INSERT INTO api_key (id, account, prefix, hash, redacted, name, acls, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&id)
        .bind(account)
        .bind(key.prefix)
        .bind(key.hash)
        .bind(key.redacted)
        .bind(key.name)
        .bind(to_json("key", &key.acls)?)
        .bind(now_ms())
        .execute(&self.write)
        .await?;
        self.touch();
        Ok(id)
    }

    /// The key with that public part, unless it is revoked.
    pub async fn key_by_prefix(&self, prefix: &str) -> Result<Option<KeyRow>> {
        let sql = sqlx::AssertSqlSafe(format!("{KEY} WHERE k.prefix = ? AND k.revoked_at IS NULL"));
        sqlx::query(sql).bind(prefix).fetch_optional(&self.read).await?.as_ref().map(key).transpose()
    }

    /// All keys, oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyRow>> {
        let sql = sqlx::AssertSqlSafe(format!("{KEY} ORDER BY k.created_at, k.id"));
        sqlx::query(sql).fetch_all(&self.read).await?.iter().map(key).collect()
    }

    /// Revokes keys by id or name; returns how many there were.
    pub async fn revoke_key(&self, id_or_name: &str) -> Result<u64> {
        let done = sqlx::query("UPDATE api_key SET revoked_at = ? WHERE (id = ? OR name = ?) AND revoked_at IS NULL")
            .bind(now_ms())
            .bind(id_or_name)
            .bind(id_or_name)
            .execute(&self.write)
            .await?;
        self.touch();
        Ok(done.rows_affected())
    }

    /// What an account used since then.
    pub async fn usage(&self, account: &str, since: i64) -> Result<UsageReport> {
        let jobs = sqlx::query(
            "SELECT COUNT(*) AS jobs, COALESCE(SUM(cost), 0) AS cost FROM job \
             WHERE account = ? AND state IN ('done', 'expired') AND finished_at >= ?",
        )
        .bind(account)
        .bind(since)
        .fetch_one(&self.read)
        .await?;
        let made = sqlx::query(
            "SELECT COALESCE(SUM(CASE WHEN seconds = 0 THEN 1 ELSE 0 END), 0) AS images, COALESCE(SUM(seconds), 0.0) AS seconds \
             FROM asset WHERE account = ? AND job IS NOT NULL AND created_at >= ?",
        )
        .bind(account)
        .bind(since)
        .fetch_one(&self.read)
        .await?;
        let left =
            sqlx::query("SELECT credits, held FROM account WHERE id = ?").bind(account).fetch_one(&self.read).await?;
        Ok(UsageReport {
            jobs: jobs.try_get("jobs")?,
            images: made.try_get("images")?,
            video_seconds: made.try_get("seconds")?,
            cost_ticks: jobs.try_get("cost")?,
            credits_ticks: left.try_get("credits")?,
            held_ticks: left.try_get("held")?,
        })
    }
}
