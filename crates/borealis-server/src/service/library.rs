//! Files, folders, batches, usage.

use bytes::Bytes;

use super::Service;
use crate::config::MAX_FILE;
use crate::error::{ApiError, ApiErrorKind};
use crate::secrets;
use crate::store::now_ms;
use crate::types::{Account, Batch, BatchItem, BatchLine, Folder, Job, Page, StoredFile, UsageReport};
use crate::urls;

/// Longest life of a file, seconds.
pub const MAX_FILE_LIFE: i64 = 2_592_000;
/// Shortest life of a public URL, seconds.
pub const MIN_PUBLIC_LIFE: i64 = 3_600;
/// Most items of a page.
pub const MAX_PAGE: u32 = 1_000;

fn check_limit(limit: u32) -> Result<u32, ApiError> {
    match limit {
        0 => Ok(100),
        1..=MAX_PAGE => Ok(limit),
        _ => Err(ApiError::invalid("limit", format!("limit {limit} is too large: use 1 to {MAX_PAGE}"))),
    }
}

/// A page that nobody handed out.
pub(crate) fn no_page(token: &str) -> ApiError {
    // A token is ours or anything: so much of it tells which.
    let token: String = token.chars().filter(|c| !c.is_control()).take(64).collect();
    let message =
        format!("pagination_token \"{token}\" is none of this list: use that of the last page, or start again");
    ApiError::invalid("pagination_token", message)
}

fn check_name(field: &str, name: &str, most: usize) -> Result<(), ApiError> {
    let length = name.chars().count();
    if name.trim().is_empty() || length > most || name.chars().any(char::is_control) {
        return Err(ApiError::invalid(field, format!("{field} must be 1 to {most} characters on one line")));
    }
    Ok(())
}

fn no_file(id: &str) -> ApiError {
    let shown: String = id.chars().take(80).collect();
    ApiError::not_found(format!("there is no file \"{shown}\": upload it first"))
}

fn no_batch(id: &str) -> ApiError {
    let shown: String = id.chars().take(80).collect();
    ApiError::not_found(format!("there is no batch \"{shown}\""))
}

fn no_folder() -> ApiError {
    ApiError::not_found("there is no such folder: list the folders for their ids")
}

impl Service {
    /// Stores a file as it is; nothing in it is read until it is used.
    pub async fn put_file(
        &self,
        account: &Account,
        filename: &str,
        purpose: &str,
        bytes: Bytes,
        expires_after: Option<i64>,
    ) -> Result<StoredFile, ApiError> {
        check_name("filename", filename, 255)?;
        if bytes.len() as u64 > MAX_FILE {
            let message = format!("the file has {} bytes: use at most {MAX_FILE}", bytes.len());
            return Err(ApiError::new(ApiErrorKind::PayloadTooLarge, message));
        }
        if let Some(seconds) = expires_after
            && !(1..=MAX_FILE_LIFE).contains(&seconds)
        {
            let message = format!("expires_after {seconds} is out of range: use 1 to {MAX_FILE_LIFE} seconds");
            return Err(ApiError::invalid("expires_after", message));
        }
        let now = now_ms();
        let file = StoredFile {
            id: format!("file_{}", ulid::Ulid::generate()),
            filename: filename.into(),
            purpose: purpose.chars().take(64).collect(),
            mime: sniff(&bytes).into(),
            size: bytes.len() as u64,
            sha256: self.inner.blobs.put(bytes).await?,
            created_at: now,
            expires_at: expires_after.map(|seconds| now + seconds * 1000),
            public_url: None,
            public_expires_at: None,
        };
        self.inner.store.insert_file(&account.id, &file).await?;
        Ok(file)
    }

    /// A file of the account.
    pub async fn file(&self, account: &Account, id: &str) -> Result<StoredFile, ApiError> {
        let file = self.inner.store.file(&account.id, id).await?.ok_or_else(|| no_file(id))?;
        Ok(self.with_address(file))
    }

    /// Fails unless a page of this table's entries can begin after `token`: after the end of a list nothing would come, and nobody would know why.
    pub(crate) async fn check_page(
        &self,
        table: &'static str,
        account: &Account,
        token: Option<&str>,
    ) -> Result<(), ApiError> {
        match token {
            Some(token) if !self.inner.store.has(table, &account.id, token).await? => Err(no_page(token)),
            _ => Ok(()),
        }
    }

    /// Files of the account.
    pub async fn list_files(
        &self,
        account: &Account,
        limit: u32,
        after: Option<&str>,
        ascending: bool,
    ) -> Result<Page<StoredFile>, ApiError> {
        self.check_page("file", account, after).await?;
        let page = self.inner.store.files(&account.id, check_limit(limit)?, after, ascending).await?;
        Ok(Page { items: page.items.into_iter().map(|file| self.with_address(file)).collect(), next: page.next })
    }

    /// Removes a file.
    pub async fn delete_file(&self, account: &Account, id: &str) -> Result<(), ApiError> {
        let hash = self.inner.store.delete_file(&account.id, id).await?.ok_or_else(|| no_file(id))?;
        self.discard([hash]).await;
        Ok(())
    }

    /// A file and its bytes.
    pub async fn read_file(&self, account: &Account, id: &str) -> Result<(StoredFile, Bytes), ApiError> {
        let file = self.file(account, id).await?;
        let bytes = self.inner.blobs.get(&file.sha256).await?;
        Ok((file, bytes))
    }

    /// Makes a public URL; a second time renews its end. `expires_after` in seconds, `None`: as long as the file.
    pub async fn publish_file(
        &self,
        account: &Account,
        id: &str,
        expires_after: Option<i64>,
    ) -> Result<StoredFile, ApiError> {
        if let Some(seconds) = expires_after
            && !(MIN_PUBLIC_LIFE..=MAX_FILE_LIFE).contains(&seconds)
        {
            let message =
                format!("expires_after {seconds} is out of range: use {MIN_PUBLIC_LIFE} to {MAX_FILE_LIFE} seconds");
            return Err(ApiError::invalid("expires_after", message));
        }
        let file = self.inner.store.file(&account.id, id).await?.ok_or_else(|| no_file(id))?;
        let token = file.public_url.unwrap_or_else(secrets::token);
        let until = expires_after.map(|seconds| now_ms() + seconds * 1000);
        self.inner.store.publish_file(&account.id, id, Some(&token), until).await?;
        self.file(account, id).await
    }

    /// Takes the public URL away. The file comes back as it was, with the URL that is gone.
    pub async fn unpublish_file(&self, account: &Account, id: &str) -> Result<StoredFile, ApiError> {
        let file = self.file(account, id).await?;
        self.inner.store.publish_file(&account.id, id, None, None).await?;
        Ok(file)
    }

    /// The store keeps the token; clients see an address.
    fn with_address(&self, mut file: StoredFile) -> StoredFile {
        let live = file.public_expires_at.is_none_or(|until| until > now_ms());
        let path = |token| format!("/files/public/{token}.{}", urls::ending(&file.mime));
        file.public_url =
            file.public_url.take().filter(|_| live).map(|token| urls::absolute(&self.base_url(), &path(token)));
        file
    }

    /// Makes an empty batch.
    pub async fn create_batch(&self, account: &Account, name: &str, input: Option<&str>) -> Result<Batch, ApiError> {
        check_name("name", name, 255)?;
        let id = self.inner.store.create_batch(&account.id, &account.key_id, name, input).await?;
        self.batch(account, &id).await
    }

    /// Counts `lines` of a batch against the limit of the key: each of them is a job. Called before their inputs are fetched.
    pub(crate) fn may_start(&self, account: &Account, lines: usize) -> Result<(), ApiError> {
        self.inner.limits.start(&account.key_id, u32::try_from(lines).unwrap_or(u32::MAX))
    }

    /// Adds lines to a batch, all or none; lines that are no valid jobs become errors of the batch.
    pub async fn add_to_batch(&self, account: &Account, id: &str, lines: Vec<BatchLine>) -> Result<Batch, ApiError> {
        let mut admitted = Vec::with_capacity(lines.len());
        for mut line in lines {
            let mut hold = 0;
            line.spec = match line.spec {
                Ok(mut spec) => match self.admit(account, &mut spec).await {
                    Ok(ticks) => {
                        hold = ticks;
                        Ok(spec)
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            admitted.push((line, hold));
        }
        self.inner.store.add_to_batch(&account.id, id, &admitted).await?;
        self.batch(account, id).await
    }

    /// A batch of the account.
    pub async fn batch(&self, account: &Account, id: &str) -> Result<Batch, ApiError> {
        self.inner.store.batch(&account.id, id).await?.ok_or_else(|| no_batch(id))
    }

    /// Batches of the account, newest first.
    pub async fn list_batches(
        &self,
        account: &Account,
        limit: u32,
        after: Option<&str>,
    ) -> Result<Page<Batch>, ApiError> {
        self.check_page("batch", account, after).await?;
        Ok(self.inner.store.batches(&account.id, check_limit(limit)?, after).await?)
    }

    /// Cancels what has not ended, and closes the batch.
    pub async fn cancel_batch(&self, account: &Account, id: &str) -> Result<Batch, ApiError> {
        self.batch(account, id).await?;
        self.inner.store.cancel_batch(&account.id, id).await?;
        self.batch(account, id).await
    }

    /// Requests of a batch in their order.
    pub async fn batch_items(
        &self,
        account: &Account,
        id: &str,
        limit: u32,
        after: Option<&str>,
    ) -> Result<Page<BatchItem>, ApiError> {
        self.batch(account, id).await?;
        let after = match after {
            None => 0,
            Some(token) => token.parse().ok().filter(|n: &i64| *n >= 0).ok_or_else(|| no_page(token))?,
        };
        Ok(self.inner.store.batch_items(&account.id, id, check_limit(limit)?, after).await?)
    }

    /// One request of a batch.
    pub async fn batch_item(&self, account: &Account, id: &str, request: &str) -> Result<BatchItem, ApiError> {
        self.batch(account, id).await?;
        let missing = || ApiError::not_found("there is no such request in this batch");
        self.inner.store.batch_item(&account.id, id, request).await?.ok_or_else(missing)
    }

    /// Makes a folder.
    pub async fn create_folder(&self, account: &Account, name: &str) -> Result<Folder, ApiError> {
        check_name("name", name, 100)?;
        self.inner.store.create_folder(&account.id, name.trim()).await
    }

    /// Renames a folder.
    pub async fn rename_folder(&self, account: &Account, id: &str, name: &str) -> Result<Folder, ApiError> {
        check_name("name", name, 100)?;
        if !self.inner.store.rename_folder(&account.id, id, name.trim()).await? {
            return Err(no_folder());
        }
        self.folders(account).await?.into_iter().find(|folder| folder.id == id).ok_or_else(no_folder)
    }

    /// The folders of the account by name.
    pub async fn folders(&self, account: &Account) -> Result<Vec<Folder>, ApiError> {
        Ok(self.inner.store.folders(&account.id).await?)
    }

    /// Removes a folder; its items stay, in none.
    pub async fn delete_folder(&self, account: &Account, id: &str) -> Result<(), ApiError> {
        if self.inner.store.delete_folder(&account.id, id).await? { Ok(()) } else { Err(no_folder()) }
    }

    /// Puts a job into a folder, or into none.
    pub async fn move_job(&self, account: &Account, job: &str, folder: Option<&str>) -> Result<Job, ApiError> {
        self.job(account, job).await?;
        if !self.inner.store.move_job(&account.id, job, folder).await? {
            return Err(no_folder());
        }
        self.job(account, job).await
    }

    /// The folder that a job is in now (`Job::spec` has the one that was asked for).
    pub async fn folder_of(&self, account: &Account, job: &str) -> Result<Option<String>, ApiError> {
        self.job(account, job).await?;
        Ok(self.inner.store.folder_of(job).await?)
    }

    /// What the account used since then (milliseconds since 1970).
    pub async fn usage(&self, account: &Account, since: i64) -> Result<UsageReport, ApiError> {
        Ok(self.inner.store.usage(&account.id, since).await?)
    }
}

/// The type of a file by its first bytes; what the client says is not believed.
fn sniff(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "video/mp4",
        [b'{' | b'[', ..] if std::str::from_utf8(bytes).is_ok() => "application/jsonl",
        _ => "application/octet-stream",
    }
}
