//! Jobs as workers see them: claim, heartbeat, finish, release; and what happens to jobs whose worker has died.
//!
//! A job changes hands only in one statement that also raises its fence. A worker that has lost its lease finds its fence gone and its result is discarded.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{LEASE_MS, MAX_ATTEMPTS, Owed, Store, from_json, now_ms, to_json};
use crate::error::Result;
use crate::types::{JobError, JobUsage, Output, Spec};

/// A job in the hands of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub id: String,
    pub account: String,
    pub fence: i64,
    pub attempt: i64,
    pub created_at: i64,
    pub spec: Spec,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    /// The outputs are stored.
    Done { outputs: Vec<Output>, usage: JobUsage, expires_at: i64 },
    /// It cannot be made.
    Failed(JobError),
    /// Moderation refused an output.
    Moderated(String),
    /// The worker stops; the attempt does not count.
    Released,
}

impl Store {
    /// The next job for a worker that has `running` jobs already. A job that was in a worker when it died is made alone, so that one poisonous job
    /// cannot take others with it; until it is, nothing new is started.
    pub async fn claim(&self, worker: &str, running: usize, clips: bool) -> Result<Option<Claimed>> {
        // Without the write lock: most looks find nothing.
        let suspects: Option<i64> =
            sqlx::query_scalar("SELECT MAX(attempt) FROM job WHERE state = 'queued'").fetch_one(&self.read).await?;
        let Some(most) = suspects else { return Ok(None) };
        let suspect = most > 0;
        if suspect && running > 0 {
            return Ok(None);
        }
        let row = sqlx::query(
            "UPDATE job SET state = 'running', attempt = attempt + 1, fence = fence + 1, worker = ?, lease_until = ?, \
             started_at = ?, progress = 0 WHERE id = (SELECT id FROM job WHERE state = 'queued' AND attempt < ? \
             AND (still = 1 OR ?) AND (attempt > 0 OR NOT ?) ORDER BY still DESC, created_at, id LIMIT 1) RETURNING *",
        )
        .bind(worker)
        .bind(now_ms() + LEASE_MS)
        .bind(now_ms())
        .bind(MAX_ATTEMPTS)
        .bind(clips || suspect)
        .bind(suspect)
        .fetch_optional(&self.write)
        .await?;
        let Some(row) = row else { return Ok(None) };
        self.touch();
        Ok(Some(Claimed {
            id: row.try_get("id")?,
            account: row.try_get("account")?,
            fence: row.try_get("fence")?,
            attempt: row.try_get("attempt")?,
            created_at: row.try_get("created_at")?,
            spec: from_json("job", row.try_get("spec")?)?,
        }))
    }

    /// Ends an attempt. `false`: the job is in other hands, or has been cancelled; nothing was changed.
    pub async fn finish(&self, job: &Claimed, ending: &Ending) -> Result<bool> {
        let mut tx = self.begin().await?;
        let row = match ending {
            Ending::Released => {
                let done = sqlx::query(
                    "UPDATE job SET state = 'queued', attempt = attempt - 1, fence = fence + 1, worker = NULL, lease_until = NULL, \
                     progress = 0 WHERE id = ? AND fence = ? AND state = 'running'",
                )
                .bind(&job.id)
                .bind(job.fence)
                .execute(&mut *tx)
                .await?;
                self.commit(tx).await?;
                return Ok(done.rows_affected() > 0);
            }
            Ending::Done { outputs, usage, expires_at } => {
                sqlx::query(
                    "UPDATE job SET state = 'done', progress = 100, outputs = ?, usage = ?, cost = hold, finished_at = ?, expires_at = ?, \
                     lease_until = NULL WHERE id = ? AND fence = ? AND state = 'running' RETURNING account, hold, spec",
                )
                .bind(to_json("output", outputs)?)
                .bind(to_json("usage", usage)?)
                .bind(now_ms())
                .bind(expires_at)
                .bind(&job.id)
                .bind(job.fence)
                .fetch_optional(&mut *tx)
                .await?
            }
            Ending::Failed(error) => fail(&mut tx, job, "failed", error).await?,
            Ending::Moderated(reason) => {
                let error = JobError { code: "content_moderated".into(), message: reason.clone() };
                fail(&mut tx, job, "moderated", &error).await?
            }
        };
        let Some(row) = row else { return Ok(false) };
        if let Ending::Done { outputs, expires_at, .. } = ending {
            for output in outputs {
                super::assets::insert(&mut tx, &job.account, &output.asset, Some(&job.id), *expires_at).await?;
            }
            super::files::keep_outputs(&mut tx, job, outputs).await?;
        }
        after_end(&mut tx, &job.id, &row, matches!(ending, Ending::Done { .. })).await?;
        self.commit(tx).await?;
        Ok(true)
    }

    /// Takes back jobs whose lease is over: queued again, or failed at the last attempt. Returns how many.
    pub async fn reap(&self) -> Result<u64> {
        let now = now_ms();
        let due: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM job WHERE state = 'running' AND lease_until < ?")
            .bind(now)
            .fetch_one(&self.read)
            .await?;
        if due == 0 {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let requeued = sqlx::query(
            "UPDATE job SET state = 'queued', fence = fence + 1, worker = NULL, lease_until = NULL, progress = 0 \
             WHERE state = 'running' AND lease_until < ? AND attempt < ?",
        )
        .bind(now)
        .bind(MAX_ATTEMPTS)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let message =
            format!("the worker died {MAX_ATTEMPTS} times while making this: change the request, or report it");
        let error = JobError { code: "internal_error".into(), message };
        let failed = sqlx::query(
            "UPDATE job SET state = 'failed', fence = fence + 1, worker = NULL, lease_until = NULL, progress = 0, error = ?, \
             finished_at = ? WHERE state = 'running' AND lease_until < ? RETURNING id, account, hold, spec",
        )
        .bind(to_json("error", &error)?)
        .bind(now)
        .bind(now)
        .fetch_all(&mut *tx)
        .await?;
        for row in &failed {
            let id: String = row.try_get("id")?;
            after_end(&mut tx, &id, row, false).await?;
        }
        self.commit(tx).await?;
        Ok(requeued + failed.len() as u64)
    }

    /// Ends the leases of a worker that is known to be dead; [`Store::reap`] does the rest.
    pub async fn bury(&self, worker: &str) -> Result<()> {
        sqlx::query("UPDATE job SET lease_until = 0 WHERE worker = ? AND state = 'running'")
            .bind(worker)
            .execute(&self.write)
            .await?;
        sqlx::query("DELETE FROM worker WHERE id = ?").bind(worker).execute(&self.write).await?;
        self.reap().await.map(drop)
    }

    /// Workers that were seen within a lease.
    pub async fn workers(&self) -> Result<Vec<String>> {
        let sql = "SELECT info FROM worker WHERE seen_at > ?";
        Ok(sqlx::query_scalar(sql).bind(now_ms() - LEASE_MS).fetch_all(&self.read).await?)
    }
}

async fn fail(
    tx: &mut SqliteConnection,
    job: &Claimed,
    state: &'static str,
    error: &JobError,
) -> Result<Option<SqliteRow>> {
    let row = sqlx::query(
        "UPDATE job SET state = ?, progress = 0, error = ?, finished_at = ?, lease_until = NULL \
         WHERE id = ? AND fence = ? AND state = 'running' RETURNING account, hold, spec",
    )
    .bind(state)
    .bind(to_json("error", error)?)
    .bind(now_ms())
    .bind(&job.id)
    .bind(job.fence)
    .fetch_optional(&mut *tx)
    .await?;
    Ok(row)
}

/// What every end of a job does, in its transaction: the hold is released or spent, and who waits for news or for the clip gets it. `row` has account, hold and spec.
pub(super) async fn after_end(tx: &mut SqliteConnection, id: &str, row: &SqliteRow, charge: bool) -> Result<()> {
    let account: String = row.try_get("account")?;
    let hold: i64 = row.try_get("hold")?;
    if hold > 0 {
        sqlx::query("UPDATE account SET held = held - ?, credits = credits - ? WHERE id = ?")
            .bind(hold)
            .bind(if charge { hold } else { 0 })
            .bind(&account)
            .execute(&mut *tx)
            .await?;
    }
    let spec: Spec = from_json("job", row.try_get("spec")?)?;
    if let Some(url) = spec.upload_url.filter(|_| charge) {
        super::outbox::insert(tx, &account, id, Owed::Upload, &url).await?;
    }
    if let Some(url) = spec.webhook_url {
        super::outbox::insert(tx, &account, id, Owed::Webhook, &url).await?;
    }
    Ok(())
}

/// The heartbeat's own connection: it must not wait behind anything.
pub(crate) struct Pulse {
    connection: SqliteConnection,
    worker: String,
}

impl Pulse {
    /// Connects.
    pub async fn open(path: &std::path::Path, worker: &str) -> Result<Self> {
        use sqlx::Connection;
        let connection = SqliteConnection::connect_with(&super::options(path)).await?;
        Ok(Self { connection, worker: worker.to_string() })
    }

    /// (job, fence) of everything that the worker still has.
    pub async fn mine(&mut self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query("SELECT id, fence FROM job WHERE worker = ? AND state = 'running'")
            .bind(&self.worker)
            .fetch_all(&mut self.connection)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get("fence")?))).collect()
    }

    /// Renews a lease and tells the progress. `false`: the job is lost.
    pub async fn beat(&mut self, id: &str, fence: i64, progress: u8) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE job SET lease_until = ?, progress = ? WHERE id = ? AND fence = ? AND state = 'running'",
        )
        .bind(now_ms() + LEASE_MS)
        .bind(i64::from(progress))
        .bind(id)
        .bind(fence)
        .execute(&mut self.connection)
        .await?;
        Ok(done.rows_affected() > 0)
    }
    /// Says that the worker is there, and what it runs (JSON).
    pub async fn seen(&mut self, info: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO worker (id, info, seen_at) VALUES (?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET info = excluded.info, seen_at = excluded.seen_at",
        )
        .bind(&self.worker)
        .bind(info)
        .bind(now_ms())
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}
