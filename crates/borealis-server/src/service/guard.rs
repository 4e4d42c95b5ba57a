//! Jobs whose caller waits on the line.

use super::{Account, Service};

/// Cancels the job of a caller that goes away before it has ended: nobody else knows its id.
pub(crate) struct CancelOnDrop {
    service: Service,
    account: Account,
    job: Option<String>,
}

impl CancelOnDrop {
    /// Watches over `job`, unless its call is `repeatable`: with an idempotency key the caller may ask again and wants the same result then.
    pub fn new(service: &Service, account: &Account, job: &str, repeatable: bool) -> Self {
        let job = (!repeatable).then(|| job.to_string());
        Self { service: service.clone(), account: account.clone(), job }
    }

    /// The caller has what it came for.
    pub fn release(mut self) {
        self.job = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some(job) = self.job.take() else { return };
        let (service, account) = (self.service.clone(), self.account.clone());
        tokio::spawn(async move {
            if let Err(error) = service.cancel(&account, &job).await {
                tracing::warn!(%job, %error, "the job of a caller who is gone could not be cancelled");
            }
        });
    }
}
