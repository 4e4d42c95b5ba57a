//! What must survive: accounts, jobs, assets, files, batches, folders, webhooks. SQLite in WAL mode; every commit is on the disk when it returns.
//!
//! The SQL is the subset that PostgreSQL understands, too. One connection writes and a few read; other processes (workers, `borealis keys`)
//! have their own. [`Store::changes`] tells whoever waits that *somebody* has committed something: caches and waiters look again then.

mod accounts;
mod assets;
mod batches;
mod claims;
mod files;
mod folders;
mod jobs;
mod outbox;
mod sweep;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlSafeStr, SqliteConnection};
use tokio::sync::watch;

use crate::error::{Result, ServerError};

pub(crate) use accounts::{KeyRow, NewKey};
pub(crate) use claims::{Claimed, Ending, Pulse};
pub(crate) use jobs::NewJob;
pub(crate) use outbox::{Delivery, Owed};

/// A lease of a job; the heartbeat renews it long before.
pub(crate) const LEASE_MS: i64 = 30_000;
/// Times that a job is started at most.
pub(crate) const MAX_ATTEMPTS: i64 = 3;
/// How often a process looks whether another one has committed something.
const LOOK: Duration = Duration::from_millis(20);

/// A handle of the database; clones share its connections.
#[derive(Clone)]
pub(crate) struct Store {
    write: SqlitePool,
    read: SqlitePool,
    changes: Arc<watch::Sender<u64>>,
    path: PathBuf,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// The settings of every connection, in every process.
pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
}

impl Store {
    /// Opens the database in the data folder, making folder and tables as needed.
    pub async fn open(data: &Path) -> Result<Self> {
        make_private(data)?;
        let path = data.join("borealis.db");
        let pool = |n| SqlitePoolOptions::new().max_connections(n).acquire_timeout(Duration::from_secs(5));
        let write = pool(1).connect_with(options(&path)).await?;
        let steps = [("init", include_str!("0001_init.sql")), ("uploads", include_str!("0002_uploads.sql"))];
        let step = |(version, (name, sql)): (i64, (&'static str, &'static str))| {
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
        };
        Migrator::with_migrations((1..).zip(steps).map(step).collect()).run(&write).await?;
        let read = pool(4).connect_with(options(&path)).await?;
        let store = Self { write, read, changes: Arc::new(watch::channel(0).0), path };
        tokio::spawn(look(store.path.clone(), Arc::downgrade(&store.changes)));
        Ok(store)
    }

    /// A number that grows with every commit, of this process or (within 20 ms) of another.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The number now.
    pub fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Tells those who wait of an own commit.
    pub(crate) fn touch(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Begins a transaction that holds the write lock from its start.
    pub(crate) async fn begin(&self) -> sqlx::Result<sqlx::SqliteTransaction<'static>> {
        self.write.begin_with("BEGIN IMMEDIATE").await
    }

    /// Commits and tells.
    pub(crate) async fn commit(&self, tx: sqlx::SqliteTransaction<'static>) -> sqlx::Result<()> {
        tx.commit().await?;
        self.touch();
        Ok(())
    }

    /// Whether the account has this entry of a table, which pages name as the last one.
    pub async fn has(&self, table: &'static str, account: &str, id: &str) -> sqlx::Result<bool> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE account = ? AND id = ?)"));
        sqlx::query_scalar(sql).bind(account).bind(id).fetch_one(&self.read).await
    }

    /// Fails when the database cannot be read.
    pub async fn ping(&self) -> sqlx::Result<()> {
        sqlx::query("SELECT 1").execute(&self.read).await.map(drop)
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder that only its owner can look into.
fn make_private(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| ServerError::Data { path: folder.to_path_buf(), source })
}

/// SQLite's `data_version` changes for a connection when another one, of any process, has committed.
async fn look(path: PathBuf, changes: Weak<watch::Sender<u64>>) {
    let mut connection: Option<SqliteConnection> = None;
    let mut seen = -1_i64;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(changes) = changes.upgrade() else { return };
        if connection.is_none() {
            connection = SqliteConnection::connect_with(&options(&path)).await.ok();
        }
        let Some(open) = connection.as_mut() else { continue };
        match sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(open).await {
            Ok(version) if version != seen => {
                seen = version;
                changes.send_modify(|n| *n += 1);
            }
            Ok(_) => {}
            Err(_) => connection = None,
        }
    }
}

/// JSON of a column.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| ServerError::Stored { what, source })
}

/// JSON for a column. Our own types always have one.
pub(crate) fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| ServerError::Stored { what, source })
}
