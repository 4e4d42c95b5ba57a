//! Bytes that nobody needs any more.

use std::sync::PoisonError;

use super::Service;

impl Service {
    /// Removes bytes whose assets or files are gone: at once when nobody else has the same ones and they are old enough, else with one of the next sweeps.
    pub(crate) async fn discard(&self, hashes: impl IntoIterator<Item = String>) {
        self.inner.discarded.lock().unwrap_or_else(PoisonError::into_inner).extend(hashes);
        self.sweep_discarded().await;
    }

    /// Looks again at what was discarded. After a restart, [`Service::sweep_forgotten`] finds it.
    pub(crate) async fn sweep_discarded(&self) {
        let all: Vec<String> =
            self.inner.discarded.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        for hash in all {
            match self.removed(&hash).await {
                Ok(false) => {}
                Ok(true) => drop(self.inner.discarded.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash)),
                Err(error) => tracing::warn!(%error, "a deleted result could not be removed: it is tried again"),
            }
        }
    }

    /// Whether nothing is left to do: the bytes are gone, or somebody has them.
    async fn removed(&self, hash: &str) -> crate::Result<bool> {
        Ok(self.inner.store.is_needed(hash).await? || self.inner.blobs.remove_old(hash).await?)
    }

    /// Removes bytes that no asset and no file has, whoever left them behind.
    pub(crate) async fn sweep_forgotten(&self) -> crate::Result<()> {
        for hash in self.inner.blobs.old().await? {
            if !self.inner.store.is_needed(&hash).await? {
                self.inner.blobs.remove(&hash).await?;
            }
        }
        Ok(())
    }
}
