//! Jobs as their owners see them: submit, look, list, cancel, delete.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{Store, from_json, now_ms, to_json};
use crate::error::{ApiError, ApiErrorKind, Result, ServerError};
use crate::types::{Idempotency, Job, JobFilter, JobState, Page, Spec};

/// A job that is to be accepted.
pub(crate) struct NewJob<'a> {
    pub account: &'a str,
    pub spec: &'a Spec,
    /// Ticks to hold until it has ended.
    pub hold: i64,
    pub idempotency: Option<Idempotency>,
    /// Most jobs of the account that wait.
    pub max_queued: u32,
}

/// How long an idempotency key is remembered.
const REMEMBERED_MS: i64 = 24 * 3600 * 1000;

pub(super) fn job(row: &SqliteRow) -> Result<Job> {
    let state: &str = row.try_get("state")?;
    let json = |column: &str| row.try_get::<Option<String>, _>(column);
    Ok(Job {
        id: row.try_get("id")?,
        account: row.try_get("account")?,
        state: JobState::parse(state).unwrap_or(JobState::Failed),
        progress: row.try_get::<i64, _>("progress")?.clamp(0, 100) as u8,
        spec: from_json("job", row.try_get("spec")?)?,
        outputs: json("outputs")?.map_or(Ok(Vec::new()), |text| from_json("output", &text))?,
        error: json("error")?.map(|text| from_json("error", &text)).transpose()?,
        usage: json("usage")?.map_or(Ok(Default::default()), |text| from_json("usage", &text))?,
        cost_ticks: row.try_get("cost")?,
        attempt: row.try_get::<i64, _>("attempt")?.max(0) as u32,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}

impl Store {
    /// Accepts a job: idempotency key, hold and job in one transaction. When it returns, the job is on the disk. The flag tells whether the job is new.
    pub async fn submit(&self, new: NewJob<'_>) -> std::result::Result<(String, bool), ApiError> {
        let mut tx = self.begin().await?;
        if let Some(idempotency) = &new.idempotency
            && let Some(job) = remembered(&mut tx, new.account, idempotency).await?
        {
            return Ok((job, false));
        }
        let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM job WHERE state = 'queued' AND account = ?")
            .bind(new.account)
            .fetch_one(&mut *tx)
            .await?;
        if waiting >= i64::from(new.max_queued) {
            let message = format!("{waiting} jobs are waiting already: try again when some have ended");
            return Err(ApiError::new(ApiErrorKind::ResourceExhausted { retry_after: 10 }, message));
        }
        hold(&mut tx, new.account, new.hold).await?;
        let id = insert(&mut tx, new.account, new.spec, new.hold).await?;
        if let Some(idempotency) = &new.idempotency {
            sqlx::query("INSERT INTO idempotency (account, idem_key, hash, job, created_at) VALUES (?, ?, ?, ?, ?)")
                .bind(new.account)
                .bind(&idempotency.key)
                .bind(crate::secrets::hex(&idempotency.request_hash))
                .bind(&id)
                .bind(now_ms())
                .execute(&mut *tx)
                .await?;
        }
        self.commit(tx).await?;
        Ok((id, true))
    }

    /// A job of the account.
    pub async fn job(&self, account: &str, id: &str) -> Result<Option<Job>> {
        sqlx::query("SELECT * FROM job WHERE id = ? AND account = ? AND deleted = 0")
            .bind(id)
            .bind(account)
            .fetch_optional(&self.read)
            .await?
            .as_ref()
            .map(job)
            .transpose()
    }

    /// A job of whomever: for signed URLs and webhooks.
    pub async fn any_job(&self, id: &str) -> Result<Option<Job>> {
        let row =
            sqlx::query("SELECT * FROM job WHERE id = ? AND deleted = 0").bind(id).fetch_optional(&self.read).await?;
        row.as_ref().map(job).transpose()
    }

    /// Jobs of the account, newest first unless asked otherwise. `limit` is at least 1.
    pub async fn jobs(&self, account: &str, filter: &JobFilter) -> Result<Page<Job>> {
        let limit = filter.limit.max(1) as usize;
        let kinds: Vec<String> = filter.kinds.iter().map(|kind| format!("'{}'", kind.name())).collect();
        let mut sql = String::from("SELECT * FROM job WHERE account = ?1 AND deleted = 0");
        if !kinds.is_empty() {
            sql += &format!(" AND kind IN ({})", kinds.join(", "));
        }
        if filter.dialect.is_some() {
            sql += " AND dialect = ?2";
        }
        match filter.folder.as_deref() {
            Some("") => sql += " AND folder IS NULL",
            Some(_) => sql += " AND folder = ?3",
            None => {}
        }
        let (than, order) = if filter.ascending { (">", "ASC") } else { ("<", "DESC") };
        if filter.after.is_some() {
            sql += &format!(
                " AND (created_at, id) {than} (SELECT created_at, id FROM job WHERE id = ?4 AND account = ?1)"
            );
        }
        sql += &format!(" ORDER BY created_at {order}, id {order} LIMIT {}", limit + 1);
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(account)
            .bind(filter.dialect.map(dialect_name).transpose()?)
            .bind(filter.folder.as_deref())
            .bind(filter.after.as_deref())
            .fetch_all(&self.read)
            .await?;
        let mut items = rows.iter().map(job).collect::<Result<Vec<_>>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = more.then(|| items.last().map(|job| job.id.clone())).flatten();
        Ok(Page { items, next })
    }

    /// Cancels a job that has not ended; returns whether it was cancelled now. Whoever makes it notices that its fence is gone.
    pub async fn cancel(&self, account: &str, id: &str) -> Result<bool> {
        let mut tx = self.begin().await?;
        let cancelled = cancel(&mut tx, account, id).await?;
        self.commit(tx).await?;
        Ok(cancelled)
    }

    /// Cancels a job when it has not ended, and hides it; its outputs and its own inputs are forgotten. Returns the hashes of their bytes, which somebody
    /// else may need, too; `None`: there is no such job.
    pub async fn delete(&self, account: &str, id: &str) -> Result<Option<Vec<String>>> {
        let mut tx = self.begin().await?;
        cancel(&mut tx, account, id).await?;
        let spec: Option<String> = sqlx::query_scalar(
            "UPDATE job SET deleted = 1, expires_at = ? WHERE id = ? AND account = ? AND deleted = 0 RETURNING spec",
        )
        .bind(now_ms())
        .bind(id)
        .bind(account)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(spec) = spec else { return Ok(None) };
        let mut hashes: Vec<String> =
            sqlx::query_scalar("DELETE FROM asset WHERE job = ? AND account = ? RETURNING sha256")
                .bind(id)
                .bind(account)
                .fetch_all(&mut *tx)
                .await?;
        let spec: Spec = from_json("job", &spec)?;
        // Every job has inputs of its own; one that is another job's output is that job's.
        for input in spec.image.iter().chain(&spec.video).chain(&spec.references) {
            let own = "DELETE FROM asset WHERE id = ? AND account = ? AND job IS NULL RETURNING sha256";
            hashes.extend(
                sqlx::query_scalar::<_, String>(own).bind(&input.id).bind(account).fetch_optional(&mut *tx).await?,
            );
        }
        self.commit(tx).await?;
        Ok(Some(hashes))
    }

    /// Jobs by state, for metrics.
    pub async fn counts(&self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query("SELECT state, COUNT(*) AS n FROM job GROUP BY state").fetch_all(&self.read).await?;
        rows.iter().map(|row| Ok((row.try_get("state")?, row.try_get("n")?))).collect()
    }
}

/// The job that was made under the same key; refuses another body, and a picture that is still being made.
async fn remembered(
    tx: &mut SqliteConnection,
    account: &str,
    idempotency: &Idempotency,
) -> std::result::Result<Option<String>, ApiError> {
    sqlx::query("DELETE FROM idempotency WHERE account = ? AND idem_key = ? AND created_at < ?")
        .bind(account)
        .bind(&idempotency.key)
        .bind(now_ms() - REMEMBERED_MS)
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query(
        "SELECT i.hash, i.job, j.state, j.still FROM idempotency i LEFT JOIN job j ON j.id = i.job WHERE i.account = ? AND i.idem_key = ?",
    )
    .bind(account)
    .bind(&idempotency.key)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let conflict = |message: &str| Err(ApiError::new(ApiErrorKind::Conflict, message));
    if row.try_get::<String, _>("hash")? != crate::secrets::hex(&idempotency.request_hash) {
        return conflict("this Idempotency-Key was used for another request: use a new one");
    }
    let state = row.try_get::<Option<String>, _>("state")?.and_then(|name| JobState::parse(&name));
    let still = row.try_get::<Option<i64>, _>("still")?.unwrap_or(0) == 1;
    if still && state.is_some_and(|state| !state.is_final()) {
        return conflict("the request with this Idempotency-Key is still in flight: wait for its answer");
    }
    Ok(Some(row.try_get("job")?))
}

/// Holds ticks of an account, or refuses.
pub(super) async fn hold(tx: &mut SqliteConnection, account: &str, ticks: i64) -> std::result::Result<(), ApiError> {
    if ticks <= 0 {
        return Ok(());
    }
    let done =
        sqlx::query("UPDATE account SET held = held + ? WHERE id = ? AND (credits IS NULL OR credits - held >= ?)")
            .bind(ticks)
            .bind(account)
            .bind(ticks)
            .execute(&mut *tx)
            .await?;
    if done.rows_affected() == 0 {
        let message = "the account has not enough credits left for this request: ask its operator for more";
        return Err(ApiError::new(ApiErrorKind::PaymentRequired, message));
    }
    Ok(())
}

/// Inserts a queued job.
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    account: &str,
    spec: &Spec,
    hold: i64,
) -> std::result::Result<String, ApiError> {
    // Rises within a millisecond too: claims and pages go by it.
    let id = uuid::Uuid::now_v7().to_string();
    sqlx::query(
        "INSERT INTO job (id, account, state, kind, still, dialect, folder, spec, hold, created_at) \
         VALUES (?, ?, 'queued', ?, ?, ?, (SELECT id FROM folder WHERE id = ? AND account = ?), ?, ?, ?)",
    )
    .bind(&id)
    .bind(account)
    .bind(spec.kind.name())
    .bind(i64::from(spec.kind.is_still()))
    .bind(dialect_name(spec.dialect)?)
    .bind(spec.folder.as_deref())
    .bind(account)
    .bind(to_json("job", spec)?)
    .bind(hold)
    .bind(now_ms())
    .execute(&mut *tx)
    .await?;
    Ok(id)
}

/// Ends a job as cancelled if it has not ended.
pub(super) async fn cancel(tx: &mut SqliteConnection, account: &str, id: &str) -> Result<bool> {
    let row = sqlx::query(
        "UPDATE job SET state = 'cancelled', fence = fence + 1, lease_until = NULL, finished_at = ? \
         WHERE id = ? AND account = ? AND state IN ('queued', 'running') RETURNING account, hold, spec",
    )
    .bind(now_ms())
    .bind(id)
    .bind(account)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(false) };
    super::claims::after_end(tx, id, &row, false).await?;
    Ok(true)
}

/// The name of a dialect in the store.
fn dialect_name(dialect: crate::types::Dialect) -> Result<String> {
    match serde_json::to_value(dialect) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        Ok(other) => Ok(other.to_string()),
        Err(source) => Err(ServerError::Stored { what: "dialect", source }),
    }
}
