use bytes::Bytes;

use super::super::proto::files_client::FilesClient;
use super::*;

fn upload(name: &str, sizes: &[usize]) -> Vec<UploadFileChunk> {
    let init = UploadFileInit { name: name.into(), expires_after: Some(7200) };
    let pieces = sizes.iter().map(|size| upload_file_chunk::Chunk::Data(Bytes::from(vec![1; *size])));
    std::iter::once(upload_file_chunk::Chunk::Init(init))
        .chain(pieces)
        .map(|c| UploadFileChunk { chunk: Some(c) })
        .collect()
}

#[tokio::test]
async fn files_go_in_and_out_in_pieces() {
    let host = Host::start().await;
    let mut client = FilesClient::new(host.caller());
    let sizes = [3 << 20, 3 << 20, 1];
    let file = client.upload_file(tokio_stream::iter(upload("a.bin", &sizes))).await.unwrap().into_inner();
    assert_eq!((file.size, file.filename.as_str()), (sizes.iter().sum::<usize>() as i64, "a.bin"));
    let life = file.expires_at.unwrap().seconds - file.created_at.unwrap().seconds;
    assert_eq!(life, 7200);
    let request = RetrieveFileContentRequest { file_id: file.id.clone(), format: None };
    let mut stream = client.retrieve_file_content(request).await.unwrap().into_inner();
    let mut size = 0;
    while let Some(piece) = stream.message().await.unwrap() {
        size += piece.data.len();
    }
    assert_eq!(size as i64, file.size);
    let headless = upload("a.bin", &[1]).split_off(1);
    let status = client.upload_file(tokio_stream::iter(headless)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let huge = vec![3 << 20; 17];
    assert!(client.upload_file(tokio_stream::iter(upload("huge.bin", &huge))).await.is_err());

    let public = CreatePublicUrlRequest { file_id: file.id.clone(), expires_after: Some(3599) };
    assert_eq!(client.create_public_url(public.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    let public =
        client.create_public_url(CreatePublicUrlRequest { expires_after: None, ..public }).await.unwrap().into_inner();
    let revoke = RevokePublicUrlRequest { file_id: file.id.clone() };
    let gone = client.revoke_public_url(revoke.clone()).await.unwrap().into_inner();
    assert_eq!((gone.revoked, gone.public_url), (true, Some(public.public_url)));
    let gone = client.revoke_public_url(revoke).await.unwrap().into_inner();
    assert_eq!((gone.revoked, gone.public_url), (false, None));
    assert!(client.delete_file(DeleteFileRequest { file_id: file.id.clone() }).await.unwrap().into_inner().deleted);
    let request = RetrieveFileRequest { file_id: file.id };
    assert_eq!(client.retrieve_file(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lists_of_files_are_sorted_filtered_and_paged() {
    let host = Host::start().await;
    let mut client = FilesClient::new(host.caller());
    for (name, size) in [("b", 20), ("a", 10), ("c", 30)] {
        client.upload_file(tokio_stream::iter(upload(name, &[size]))).await.unwrap();
    }
    let mut names = async |request: ListFilesRequest| {
        let (mut names, mut token) = (String::new(), None);
        loop {
            let request = ListFilesRequest { pagination_token: token, ..request.clone() };
            let page = client.list_files(request).await?.into_inner();
            names.extend(page.data.into_iter().map(|f| f.filename));
            token = page.pagination_token;
            if token.is_none() {
                return Ok::<_, Status>(names);
            }
        }
    };
    let all = ListFilesRequest { limit: 2, ..Default::default() };
    let by = |sort: FilesSortBy, order: Ordering| ListFilesRequest {
        sort_by: Some(sort.into()),
        order: order.into(),
        ..all.clone()
    };
    assert_eq!(names(by(FilesSortBy::Filename, Ordering::Ascending)).await.unwrap(), "abc");
    assert_eq!(names(by(FilesSortBy::Size, Ordering::Descending)).await.unwrap(), "cba");
    assert_eq!(names(by(FilesSortBy::CreatedAt, Ordering::Ascending)).await.unwrap(), "bac");
    let filtered = ListFilesRequest { filter: Some("size_bytes > 10 AND NOT name = \"c\"".into()), ..all.clone() };
    assert_eq!(names(filtered).await.unwrap(), "b");
    for wrong in
        [ListFilesRequest { filter: Some("nonsense".into()), ..all.clone() }, ListFilesRequest { limit: -1, ..all }]
    {
        assert_eq!(names(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
