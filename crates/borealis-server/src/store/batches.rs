//! Batches: lines that are jobs, or that were never valid.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Store, from_json, jobs, now_ms, to_json};
use crate::error::{ApiError, ApiErrorKind, Result};
use crate::types::{Batch, BatchCounts, BatchItem, BatchLine, JobError, Page};

/// Most requests of a batch.
pub(crate) const MAX_REQUESTS: i64 = 10_000;
/// How long a batch takes lines.
const OPEN_MS: i64 = 24 * 3600 * 1000;

const BATCH: &str = "SELECT b.*, COUNT(r.id) AS total, \
    COALESCE(SUM(CASE WHEN r.id IS NOT NULL AND r.error IS NULL AND j.state IN ('queued', 'running') THEN 1 ELSE 0 END), 0) AS pending, \
    COALESCE(SUM(CASE WHEN j.state IN ('done', 'expired') THEN 1 ELSE 0 END), 0) AS success, \
    COALESCE(SUM(CASE WHEN j.state = 'cancelled' THEN 1 ELSE 0 END), 0) AS cancelled \
    FROM batch b LEFT JOIN batch_request r ON r.batch = b.id LEFT JOIN job j ON j.id = r.job";

fn batch(row: &SqliteRow) -> Result<Batch> {
    let (total, pending) = (row.try_get("total")?, row.try_get("pending")?);
    let (success, cancelled) = (row.try_get("success")?, row.try_get("cancelled")?);
    Ok(Batch {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        input_file: row.try_get("input_file")?,
        key_id: row.try_get("key_id")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        cancelled_at: row.try_get("cancelled_at")?,
        counts: BatchCounts { total, pending, success, cancelled, error: total - pending - success - cancelled },
    })
}

fn item(row: &SqliteRow) -> Result<BatchItem> {
    let error: Option<String> = row.try_get("line_error")?;
    Ok(BatchItem {
        id: row.try_get("line_id")?,
        endpoint: row.try_get("endpoint")?,
        job: row.try_get::<Option<String>, _>("id")?.map(|_| jobs::job(row)).transpose()?,
        error: error.map(|text| from_json("error", &text)).transpose()?,
        created_at: row.try_get("line_created_at")?,
    })
}

const ITEM: &str = "SELECT r.id AS line_id, r.seq AS seq, r.endpoint AS endpoint, r.error AS line_error, r.created_at AS line_created_at, j.* \
    FROM batch_request r JOIN batch b ON b.id = r.batch LEFT JOIN job j ON j.id = r.job WHERE b.account = ?1 AND b.id = ?2";

impl Store {
    /// Makes an empty batch; returns its id.
    pub async fn create_batch(&self, account: &str, key: &str, name: &str, input: Option<&str>) -> Result<String> {
        let id = format!("batch_{}", uuid::Uuid::now_v7());
        sqlx::query(
            "INSERT INTO batch (id, account, name, input_file, key_id, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&id)
        .bind(account)
        .bind(name)
        .bind(input)
        .bind(key)
        .bind(now_ms())
        .bind(now_ms() + OPEN_MS)
        .execute(&self.write)
        .await?;
        self.touch();
        Ok(id)
    }

    /// A batch of the account.
    pub async fn batch(&self, account: &str, id: &str) -> Result<Option<Batch>> {
        let sql = AssertSqlSafe(format!("{BATCH} WHERE b.account = ? AND b.id = ? GROUP BY b.id"));
        sqlx::query(sql).bind(account).bind(id).fetch_optional(&self.read).await?.as_ref().map(batch).transpose()
    }

    /// Batches of the account, newest first.
    pub async fn batches(&self, account: &str, limit: u32, after: Option<&str>) -> Result<Page<Batch>> {
        let mut sql = format!("{BATCH} WHERE b.account = ?1");
        if after.is_some() {
            sql += " AND (b.created_at, b.id) < (SELECT created_at, id FROM batch WHERE id = ?2 AND account = ?1)";
        }
        sql += &format!(" GROUP BY b.id ORDER BY b.created_at DESC, b.id DESC LIMIT {}", limit + 1);
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(account).bind(after).fetch_all(&self.read).await?;
        let mut items = rows.iter().map(batch).collect::<Result<Vec<_>>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = more.then(|| items.last().map(|b| b.id.clone())).flatten();
        Ok(Page { items, next })
    }

    /// Adds lines; all or none. `holds` are the ticks of each valid one.
    pub async fn add_to_batch(
        &self,
        account: &str,
        id: &str,
        lines: &[(BatchLine, i64)],
    ) -> std::result::Result<(), ApiError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT cancelled_at, expires_at FROM batch WHERE account = ? AND id = ?")
            .bind(account)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| ApiError::not_found(format!("there is no batch \"{id}\"")))?;
        let closed = row.try_get::<Option<i64>, _>("cancelled_at")?.is_some();
        if closed || row.try_get::<i64, _>("expires_at")? < now_ms() {
            return Err(ApiError::invalid("batch_id", "the batch is closed: make a new one"));
        }
        let have: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM batch_request WHERE batch = ?")
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
        if have + lines.len() as i64 > MAX_REQUESTS {
            let message =
                format!("a batch holds at most {MAX_REQUESTS} requests, this would be {}", have + lines.len() as i64);
            return Err(ApiError::invalid("batch_requests", message));
        }
        for (n, (line, ticks)) in lines.iter().enumerate() {
            let seq = have + n as i64;
            let name = line.id.clone().unwrap_or_else(|| format!("request-{}", seq + 1));
            let (job, error) = match &line.spec {
                Ok(spec) => {
                    jobs::hold(&mut tx, account, *ticks).await?;
                    (Some(jobs::insert(&mut tx, account, spec, *ticks).await?), None)
                }
                Err(error) => {
                    let code = "invalid_argument".to_string();
                    (None, Some(to_json("error", &JobError { code, message: error.message.clone() })?))
                }
            };
            let done = sqlx::query(
                "INSERT INTO batch_request (batch, id, seq, endpoint, job, error, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(id)
            .bind(&name)
            .bind(seq)
            .bind(&line.endpoint)
            .bind(job)
            .bind(error)
            .bind(now_ms())
            .execute(&mut *tx)
            .await;
            if done.as_ref().is_err_and(|e| e.as_database_error().is_some_and(|e| e.is_unique_violation())) {
                let message =
                    format!("the batch has a request \"{name}\" already: give every request an id of its own");
                return Err(ApiError::new(ApiErrorKind::Conflict, message));
            }
            done?;
        }
        self.commit(tx).await?;
        Ok(())
    }

    /// Cancels what has not ended, and closes the batch.
    pub async fn cancel_batch(&self, account: &str, id: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE batch SET cancelled_at = ? WHERE account = ? AND id = ? AND cancelled_at IS NULL")
            .bind(now_ms())
            .bind(account)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        let open: Vec<String> = sqlx::query_scalar(
            "SELECT j.id FROM batch_request r JOIN job j ON j.id = r.job \
             WHERE r.batch = ? AND j.account = ? AND j.state IN ('queued', 'running')",
        )
        .bind(id)
        .bind(account)
        .fetch_all(&mut *tx)
        .await?;
        for job in open {
            jobs::cancel(&mut tx, account, &job).await?;
        }
        self.commit(tx).await?;
        Ok(())
    }

    /// Requests of a batch in their order; `after` is the sequence number to go on from.
    pub async fn batch_items(&self, account: &str, id: &str, limit: u32, after: i64) -> Result<Page<BatchItem>> {
        let sql = format!("{ITEM} AND r.seq >= ?3 ORDER BY r.seq LIMIT {}", limit + 1);
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(account).bind(id).bind(after).fetch_all(&self.read).await?;
        let next = rows.get(limit as usize).map(|row| row.try_get::<i64, _>("seq")).transpose()?;
        let items = rows.iter().take(limit as usize).map(item).collect::<Result<_>>()?;
        Ok(Page { items, next: next.map(|seq| seq.to_string()) })
    }

    /// One request of a batch.
    pub async fn batch_item(&self, account: &str, id: &str, request: &str) -> Result<Option<BatchItem>> {
        let sql = AssertSqlSafe(format!("{ITEM} AND r.id = ?3"));
        let row = sqlx::query(sql).bind(account).bind(id).bind(request).fetch_optional(&self.read).await?;
        row.as_ref().map(item).transpose()
    }
}
