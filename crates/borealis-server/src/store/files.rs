//! Files of the Files API, and outputs that are kept as files.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{Claimed, Store, now_ms};
use crate::error::Result;
use crate::types::{Output, Page, StoredFile};

/// A file behind a public URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicFile {
    pub sha256: String,
    pub mime: String,
}

/// `public_url` holds the token; the service makes a URL of it.
fn file(row: &SqliteRow) -> Result<StoredFile> {
    Ok(StoredFile {
        id: row.try_get("id")?,
        filename: row.try_get("filename")?,
        purpose: row.try_get("purpose")?,
        mime: row.try_get("mime")?,
        sha256: row.try_get("sha256")?,
        size: row.try_get::<i64, _>("size")?.max(0) as u64,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        public_url: row.try_get("public_token")?,
        public_expires_at: row.try_get("public_expires_at")?,
    })
}

/// Files that are still there.
const ALIVE: &str = "account = ?1 AND (expires_at IS NULL OR expires_at > ?2)";

impl Store {
    /// Stores a file.
    pub async fn insert_file(&self, account: &str, new: &StoredFile) -> Result<()> {
        let mut tx = self.begin().await?;
        insert(&mut tx, account, new).await?;
        self.commit(tx).await?;
        Ok(())
    }

    /// A file of the account.
    pub async fn file(&self, account: &str, id: &str) -> Result<Option<StoredFile>> {
        let sql = AssertSqlSafe(format!("SELECT * FROM file WHERE {ALIVE} AND id = ?3"));
        let row = sqlx::query(sql).bind(account).bind(now_ms()).bind(id).fetch_optional(&self.read).await?;
        row.as_ref().map(file).transpose()
    }

    /// Files of the account; newest first unless `ascending`.
    pub async fn files(
        &self,
        account: &str,
        limit: u32,
        after: Option<&str>,
        ascending: bool,
    ) -> Result<Page<StoredFile>> {
        let (than, order) = if ascending { (">", "ASC") } else { ("<", "DESC") };
        let mut sql = format!("SELECT * FROM file WHERE {ALIVE}");
        if after.is_some() {
            sql += &format!(
                " AND (created_at, id) {than} (SELECT created_at, id FROM file WHERE id = ?3 AND account = ?1)"
            );
        }
        sql += &format!(" ORDER BY created_at {order}, id {order} LIMIT {}", limit + 1);
        let rows =
            sqlx::query(AssertSqlSafe(sql)).bind(account).bind(now_ms()).bind(after).fetch_all(&self.read).await?;
        let mut items = rows.iter().map(file).collect::<Result<Vec<_>>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = more.then(|| items.last().map(|f| f.id.clone())).flatten();
        Ok(Page { items, next })
    }

    /// Forgets a file; returns the hash of its bytes, which somebody else may need, too. `None`: there is no such file.
    pub async fn delete_file(&self, account: &str, id: &str) -> Result<Option<String>> {
        let sql = AssertSqlSafe(format!("DELETE FROM file WHERE {ALIVE} AND id = ?3 RETURNING sha256"));
        let hash = sqlx::query_scalar(sql).bind(account).bind(now_ms()).bind(id).fetch_optional(&self.write).await?;
        self.touch();
        Ok(hash)
    }

    /// Sets or takes away the public token of a file.
    pub async fn publish_file(&self, account: &str, id: &str, token: Option<&str>, until: Option<i64>) -> Result<bool> {
        let done = sqlx::query("UPDATE file SET public_token = ?, public_expires_at = ? WHERE account = ? AND id = ?")
            .bind(token)
            .bind(until)
            .bind(account)
            .bind(id)
            .execute(&self.write)
            .await?;
        self.touch();
        Ok(done.rows_affected() > 0)
    }

    /// The file with that public token.
    pub async fn public_file(&self, token: &str) -> Result<Option<PublicFile>> {
        let row = sqlx::query(
            "SELECT sha256, mime FROM file WHERE public_token = ? AND (public_expires_at IS NULL OR public_expires_at > ?) \
             AND (expires_at IS NULL OR expires_at > ?)",
        )
        .bind(token)
        .bind(now_ms())
        .bind(now_ms())
        .fetch_optional(&self.read)
        .await?;
        row.map(|row| Ok(PublicFile { sha256: row.try_get("sha256")?, mime: row.try_get("mime")? })).transpose()
    }
}

async fn insert(tx: &mut SqliteConnection, account: &str, new: &StoredFile) -> Result<()> {
    sqlx::query(
        "INSERT INTO file (id, account, filename, purpose, mime, sha256, size, public_token, public_expires_at, created_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&new.id)
    .bind(account)
    .bind(&new.filename)
    .bind(&new.purpose)
    .bind(&new.mime)
    .bind(&new.sha256)
    .bind(new.size as i64)
    .bind(&new.public_url)
    .bind(new.public_expires_at)
    .bind(new.created_at)
    .bind(new.expires_at)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Keeps the outputs of a finished job as files, when it asked for that; part of the job's own transaction.
pub(super) async fn keep_outputs(tx: &mut SqliteConnection, job: &Claimed, outputs: &[Output]) -> Result<()> {
    let Some(storage) = &job.spec.storage else { return Ok(()) };
    let now = now_ms();
    let until = |seconds: Option<i64>| seconds.map(|s| now + s.saturating_mul(1000));
    for (n, output) in outputs.iter().enumerate() {
        let Some(id) = &output.file_id else { continue };
        let filename = match (outputs.len(), storage.filename.rsplit_once('.')) {
            (1, _) => storage.filename.clone(),
            (_, Some((stem, ending))) => format!("{stem}-{}.{ending}", n + 1),
            (_, None) => format!("{}-{}", storage.filename, n + 1),
        };
        let file = StoredFile {
            id: id.clone(),
            filename,
            purpose: String::new(),
            mime: output.asset.mime.clone(),
            sha256: output.asset.sha256.clone(),
            size: output.asset.size,
            created_at: now,
            expires_at: until(storage.expires_after),
            public_url: storage.public_url.map(|_| crate::secrets::token()),
            public_expires_at: storage.public_url.and_then(until),
        };
        insert(tx, &job.account, &file).await?;
    }
    Ok(())
}
