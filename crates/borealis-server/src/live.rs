//! A clip that is watched while it is made: its worker writes fragments to a file, everybody else reads along.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{Method, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::auth::refuse;
use crate::error::ApiError;
use crate::service::Service;
use crate::types::JobState;

/// Pause between two looks at a file that grows.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of one piece.
const PIECE: usize = 64 << 10;

/// Where the n-th clip of a job grows. Job ids are UUIDs that the store gave.
pub(crate) fn path(data: &Path, job: &str, n: usize) -> PathBuf {
    data.join("live").join(format!("{job}-{n}.mp4"))
}

/// Removes the growing files of a job; whoever has one open reads it to its end.
pub(crate) fn remove(data: &Path, job: &str, outputs: usize) {
    for n in 0..outputs {
        // Pictures have none, and a second end finds none.
        let _ = std::fs::remove_file(path(data, job, n));
    }
}

/// Answers with the fragments of output `<job>-<n>` as they come.
pub(crate) async fn watch(service: &Service, id: &str, method: &Method) -> Response {
    let found = id.rsplit_once('-').and_then(|(job, n)| Some((job, n.parse::<usize>().ok()?)));
    let Some((job, n)) = found else { return missing() };
    let state = match service.state_of(job).await {
        Ok(Some((state, kind))) if !kind.is_still() => state,
        Ok(_) => return missing(),
        Err(error) => return refuse(&error, false),
    };
    if state.is_final() {
        return missing();
    }
    let headers = [(CONTENT_TYPE, "video/mp4"), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if *method == Method::HEAD {
        return (StatusCode::OK, headers).into_response();
    }
    let reader = Reader { service: service.clone(), job: job.to_string(), n, file: None, at: 0 };
    (StatusCode::OK, headers, Body::from_stream(stream::try_unfold(reader, Reader::next))).into_response()
}

fn missing() -> Response {
    refuse(
        &ApiError::not_found("nothing is being made under this address: ask for the job, its result may be there"),
        false,
    )
}

/// Reads a file that grows.
struct Reader {
    service: Service,
    job: String,
    n: usize,
    file: Option<File>,
    at: u64,
}

impl Reader {
    /// The next piece; waits for it. Ends when the job has ended and everything is read, and when the job starts anew after something was shown.
    async fn next(mut self) -> std::io::Result<Option<(Bytes, Self)>> {
        loop {
            let state = self.service.state_of(&self.job).await.map_err(std::io::Error::other)?;
            let ended = state.is_none_or(|(state, _)| state.is_final());
            if self.file.is_none() {
                self.file = File::open(path(&self.service.config().data, &self.job, self.n)).await.ok();
            }
            if let Some(file) = &mut self.file {
                file.seek(std::io::SeekFrom::Start(self.at)).await?;
                let mut piece = vec![0; PIECE];
                let n = file.read(&mut piece).await?;
                if n > 0 {
                    self.at += n as u64;
                    piece.truncate(n);
                    return Ok(Some((piece.into(), self)));
                }
            }
            let again = self.at > 0 && state.is_some_and(|(state, _)| state == JobState::Queued);
            if ended || again {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
