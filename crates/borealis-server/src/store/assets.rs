//! Pictures and clips: who owns which bytes, and for how long.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Store, now_ms};
use crate::error::Result;
use crate::types::AssetRef;

pub(super) fn asset(row: &SqliteRow) -> Result<AssetRef> {
    Ok(AssetRef {
        id: row.try_get("id")?,
        sha256: row.try_get("sha256")?,
        mime: row.try_get("mime")?,
        size: row.try_get::<i64, _>("size")?.max(0) as u64,
        width: row.try_get::<i64, _>("width")?.max(0) as u32,
        height: row.try_get::<i64, _>("height")?.max(0) as u32,
        seconds: row.try_get("seconds")?,
    })
}

impl Store {
    /// Stores an input of the account.
    pub async fn insert_asset(&self, account: &str, asset: &AssetRef, expires_at: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        insert(&mut tx, account, asset, None, expires_at).await?;
        self.commit(tx).await?;
        Ok(())
    }

    /// An asset that has not expired, with its owner and its end.
    pub async fn asset(&self, id: &str) -> Result<Option<(AssetRef, String, i64)>> {
        let row = sqlx::query("SELECT * FROM asset WHERE id = ? AND expires_at > ?")
            .bind(id)
            .bind(now_ms())
            .fetch_optional(&self.read)
            .await?;
        row.map(|row| Ok((asset(&row)?, row.try_get("account")?, row.try_get("expires_at")?))).transpose()
    }
}

pub(super) async fn insert(
    tx: &mut SqliteConnection,
    account: &str,
    asset: &AssetRef,
    job: Option<&str>,
    expires_at: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO asset (id, account, sha256, mime, size, width, height, seconds, job, created_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&asset.id)
    .bind(account)
    .bind(&asset.sha256)
    .bind(&asset.mime)
    .bind(asset.size as i64)
    .bind(i64::from(asset.width))
    .bind(i64::from(asset.height))
    .bind(asset.seconds)
    .bind(job)
    .bind(now_ms())
    .bind(expires_at)
    .execute(&mut *tx)
    .await?;
    Ok(())
}
