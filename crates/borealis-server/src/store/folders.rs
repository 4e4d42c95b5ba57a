//! Folders of generated items.

use sqlx::Row;

use super::{Store, now_ms};
use crate::error::{ApiError, ApiErrorKind, Result};
use crate::types::Folder;

impl Store {
    /// Makes a folder; refuses a name that is taken.
    pub async fn create_folder(&self, account: &str, name: &str) -> std::result::Result<Folder, ApiError> {
        let folder = Folder {
            id: format!("folder_{}", ulid::Ulid::generate()),
            name: name.to_string(),
            items: 0,
            created_at: now_ms(),
        };
        let done = sqlx::query("INSERT INTO folder (id, account, name, created_at) VALUES (?, ?, ?, ?)")
            .bind(&folder.id)
            .bind(account)
            .bind(name)
            .bind(folder.created_at)
            .execute(&self.write)
            .await;
        done.map_err(|error| taken(error, name))?;
        self.touch();
        Ok(folder)
    }

    /// Renames a folder; `false`: there is none.
    pub async fn rename_folder(&self, account: &str, id: &str, name: &str) -> std::result::Result<bool, ApiError> {
        let done = sqlx::query("UPDATE folder SET name = ? WHERE id = ? AND account = ?")
            .bind(name)
            .bind(id)
            .bind(account)
            .execute(&self.write)
            .await
            .map_err(|error| taken(error, name))?;
        self.touch();
        Ok(done.rows_affected() > 0)
    }

    /// Removes a folder; its items stay, in none.
    pub async fn delete_folder(&self, account: &str, id: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM folder WHERE id = ? AND account = ?")
            .bind(id)
            .bind(account)
            .execute(&self.write)
            .await?;
        self.touch();
        Ok(done.rows_affected() > 0)
    }

    /// The folders of an account by name.
    pub async fn folders(&self, account: &str) -> Result<Vec<Folder>> {
        let rows = sqlx::query(
            "SELECT f.id, f.name, f.created_at, COUNT(j.id) AS items FROM folder f \
             LEFT JOIN job j ON j.folder = f.id AND j.deleted = 0 WHERE f.account = ? GROUP BY f.id, f.name, f.created_at ORDER BY f.name",
        )
        .bind(account)
        .fetch_all(&self.read)
        .await?;
        let folder = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Folder {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                items: row.try_get("items")?,
                created_at: row.try_get("created_at")?,
            })
        };
        rows.iter().map(folder).collect()
    }

    /// Puts a job into a folder, or into none; `false`: one of them is not there.
    pub async fn move_job(&self, account: &str, job: &str, folder: Option<&str>) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE job SET folder = ?1 WHERE id = ?2 AND account = ?3 AND deleted = 0 \
             AND (?1 IS NULL OR EXISTS (SELECT 1 FROM folder WHERE id = ?1 AND account = ?3))",
        )
        .bind(folder)
        .bind(job)
        .bind(account)
        .execute(&self.write)
        .await?;
        self.touch();
        Ok(done.rows_affected() > 0)
    }

    /// The folder of a job.
    pub async fn folder_of(&self, job: &str) -> Result<Option<String>> {
        let folder: Option<Option<String>> =
            sqlx::query_scalar("SELECT folder FROM job WHERE id = ?").bind(job).fetch_optional(&self.read).await?;
        Ok(folder.flatten())
    }
}

fn taken(error: sqlx::Error, name: &str) -> ApiError {
    if error.as_database_error().is_some_and(|e| e.is_unique_violation()) {
        return ApiError::new(
            ApiErrorKind::Conflict,
            format!("there is a folder \"{name}\" already: choose another name"),
        );
    }
    error.into()
}
