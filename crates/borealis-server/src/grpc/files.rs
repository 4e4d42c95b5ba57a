//! `xai_api.Files`: uploads in pieces, downloads in pieces, public URLs.

use std::cmp::Ordering as Order;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::MAX_PAGE;
use super::filter::Filter;
use super::proto::files_server::Files;
use super::proto::{
    self, CreatePublicUrlRequest, CreatePublicUrlResponse, DeleteFileRequest, DeleteFileResponse, DownloadFormat,
    FileContentChunk, FilesSortBy, ListFilesRequest, ListFilesResponse, Ordering, RetrieveFileContentRequest,
    RetrieveFileRequest, RevokePublicUrlRequest, RevokePublicUrlResponse, UploadFileChunk, UploadFileInit,
};
use super::{account, convert};
use crate::config::MAX_FILE;
use crate::service::library::no_page;
use crate::service::{Account, ApiError, ApiErrorKind, Service, StoredFile};

/// Bytes of a piece of a download.
const PIECE: usize = 3 << 20;

#[tonic::async_trait]
impl Files for Service {
    async fn upload_file(&self, request: Request<Streaming<UploadFileChunk>>) -> Result<Response<proto::File>, Status> {
        let account = account(&request)?;
        let (init, bytes) = receive(request.into_inner()).await?;
        let file = self.put_file(&account, &init.name, "", bytes, init.expires_after).await?;
        Ok(Response::new(file_message(file)))
    }

    async fn list_files(&self, request: Request<ListFilesRequest>) -> Result<Response<ListFilesResponse>, Status> {
        let account = account(&request)?;
        let message = request.into_inner();
        let order: Ordering = convert::known("order", message.order)?;
        let sort: FilesSortBy = convert::known("sort_by", message.sort_by.unwrap_or_default())?;
        let limit = convert::limit(message.limit)?;
        let token = message.pagination_token.as_deref().and_then(convert::given);
        let ascending = order == Ordering::Ascending;
        let page = match (message.filter.as_deref().and_then(convert::given), sort) {
            (None, FilesSortBy::CreatedAt) => {
                let page = Service::list_files(self, &account, limit, token, ascending).await?;
                (page.items, page.next)
            }
            (filter, sort) => {
                let filter = filter.map(Filter::parse).transpose()?;
                let mut files = all_files(self, &account).await?;
                files.retain(|file| filter.as_ref().is_none_or(|f| f.matches(file)));
                files.sort_by(|a, b| if ascending { compare(sort, a, b) } else { compare(sort, b, a) });
                cut(files, token, limit as usize)?
            }
        };
        Ok(Response::new(ListFilesResponse {
            data: page.0.into_iter().map(file_message).collect(),
            pagination_token: page.1,
        }))
    }

    async fn retrieve_file(&self, request: Request<RetrieveFileRequest>) -> Result<Response<proto::File>, Status> {
        let account = account(&request)?;
        Ok(Response::new(file_message(self.file(&account, &request.get_ref().file_id).await?)))
    }

    async fn delete_file(&self, request: Request<DeleteFileRequest>) -> Result<Response<DeleteFileResponse>, Status> {
        let account = account(&request)?;
        let id = request.into_inner().file_id;
        Service::delete_file(self, &account, &id).await?;
        Ok(Response::new(DeleteFileResponse { id, deleted: true }))
    }

    type RetrieveFileContentStream = Pin<Box<dyn Stream<Item = Result<FileContentChunk, Status>> + Send>>;

    async fn retrieve_file_content(
        &self,
        request: Request<RetrieveFileContentRequest>,
    ) -> Result<Response<Self::RetrieveFileContentStream>, Status> {
        let account = account(&request)?;
        let message = request.get_ref();
        let format: DownloadFormat = convert::known("format", message.format.unwrap_or_default())?;
        if format == DownloadFormat::Text {
            return Err(Status::invalid_argument("format: files are not turned into text: ask for the original"));
        }
        let (_, bytes) = self.read_file(&account, &message.file_id).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces(bytes)))))
    }

    async fn create_public_url(
        &self,
        request: Request<CreatePublicUrlRequest>,
    ) -> Result<Response<CreatePublicUrlResponse>, Status> {
        let account = account(&request)?;
        let message = request.get_ref();
        let file = self.publish_file(&account, &message.file_id, message.expires_after).await?;
        let public_url = file.public_url.ok_or_else(|| Status::internal("the file got no public URL"))?;
        Ok(Response::new(CreatePublicUrlResponse {
            public_url,
            expires_at: file.public_expires_at.map(convert::timestamp),
        }))
    }

    async fn revoke_public_url(
        &self,
        request: Request<RevokePublicUrlRequest>,
    ) -> Result<Response<RevokePublicUrlResponse>, Status> {
        let account = account(&request)?;
        let file_id = request.into_inner().file_id;
        let public_url = self.file(&account, &file_id).await?.public_url;
        if public_url.is_some() {
            self.unpublish_file(&account, &file_id).await?;
        }
        Ok(Response::new(RevokePublicUrlResponse { file_id, revoked: public_url.is_some(), public_url }))
    }
}

/// An upload: what it is called, then its bytes.
async fn receive(mut pieces: Streaming<UploadFileChunk>) -> Result<(UploadFileInit, Bytes), Status> {
    use proto::upload_file_chunk::Chunk;
    let first = pieces.message().await?.and_then(|piece| piece.chunk);
    let Some(Chunk::Init(init)) = first else {
        return Err(Status::invalid_argument("the first message of an upload must be init, with the file's name"));
    };
    if init.name.is_empty() {
        return Err(Status::invalid_argument("init.name is empty: give the file a name"));
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = pieces.message().await? {
        match piece.chunk {
            Some(Chunk::Data(data)) => bytes.extend_from_slice(&data),
            Some(Chunk::Init(_)) => return Err(Status::invalid_argument("init came twice: send it once, then data")),
            None => {}
        }
        if bytes.len() as u64 > MAX_FILE {
            let text = format!("the file is larger than {} MiB: that is the most that is kept", MAX_FILE >> 20);
            return Err(ApiError::new(ApiErrorKind::PayloadTooLarge, text).into());
        }
    }
    Ok((init, bytes.freeze()))
}

/// The pieces of a download; an empty file is one empty piece.
fn pieces(mut bytes: Bytes) -> Vec<Result<FileContentChunk, Status>> {
    let mut pieces = Vec::new();
    while bytes.len() > PIECE {
        pieces.push(Ok(FileContentChunk { data: bytes.split_to(PIECE) }));
    }
    pieces.push(Ok(FileContentChunk { data: bytes }));
    pieces
}

async fn all_files(service: &Service, account: &Account) -> Result<Vec<StoredFile>, ApiError> {
    let mut files = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = service.list_files(account, MAX_PAGE, token.as_deref(), true).await?;
        files.extend(page.items);
        token = page.next;
        if token.is_none() {
            return Ok(files);
        }
    }
}

/// Ties are told apart by the id, so that pages never repeat a file.
fn compare(sort: FilesSortBy, a: &StoredFile, b: &StoredFile) -> Order {
    let order = match sort {
        FilesSortBy::CreatedAt => a.created_at.cmp(&b.created_at),
        FilesSortBy::Filename => a.filename.cmp(&b.filename),
        FilesSortBy::Size => a.size.cmp(&b.size),
    };
    order.then_with(|| a.id.cmp(&b.id))
}

/// The page after the file that `token` names.
fn cut(
    mut files: Vec<StoredFile>,
    token: Option<&str>,
    limit: usize,
) -> Result<(Vec<StoredFile>, Option<String>), ApiError> {
    if let Some(token) = token {
        let last = files.iter().position(|file| file.id == token);
        let last = last.ok_or_else(|| no_page(token))?;
        files.drain(..=last);
    }
    let more = files.len() > limit;
    files.truncate(limit);
    let next = files.last().filter(|_| more).map(|file| file.id.clone());
    Ok((files, next))
}

fn file_message(file: StoredFile) -> proto::File {
    proto::File {
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        created_at: Some(convert::timestamp(file.created_at)),
        expires_at: file.expires_at.map(convert::timestamp),
        filename: file.filename,
        id: file.id,
        public_url_expires_at: file.public_url.as_ref().and(file.public_expires_at).map(convert::timestamp),
        public_url: file.public_url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: &str, size: u64) -> StoredFile {
        StoredFile {
            id: id.into(),
            filename: format!("{id}.png"),
            purpose: String::new(),
            mime: "image/png".into(),
            sha256: String::new(),
            size,
            created_at: 0,
            expires_at: None,
            public_url: None,
            public_expires_at: None,
        }
    }

    #[test]
    fn pages_hold_every_file_once() {
        let files: Vec<_> = (0..7).map(|i| file(&format!("f{i}"), 1)).collect();
        let (mut token, mut seen) = (None, Vec::new());
        loop {
            let (page, next) = cut(files.clone(), token.as_deref(), 3).unwrap();
            seen.extend(page.into_iter().map(|f| f.id));
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["f0", "f1", "f2", "f3", "f4", "f5", "f6"]);
        assert!(cut(files, Some("gone"), 3).is_err());
    }

    #[test]
    fn pieces_add_up() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE] {
            let all: Vec<_> = pieces(Bytes::from(vec![7; size])).into_iter().map(Result::unwrap).collect();
            assert_eq!(all.iter().map(|p| p.data.len()).sum::<usize>(), size);
            assert!(all.iter().all(|p| p.data.len() <= PIECE) && !all.is_empty());
        }
    }

    #[test]
    fn equal_sizes_are_ordered_by_id() {
        assert_eq!(compare(FilesSortBy::Size, &file("a", 2), &file("b", 1)), Order::Greater);
        assert_eq!(compare(FilesSortBy::Size, &file("a", 1), &file("b", 1)), Order::Less);
    }
}
