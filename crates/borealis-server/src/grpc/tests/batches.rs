use super::super::proto::batch_mgmt_client::BatchMgmtClient;
use super::*;

#[tokio::test]
async fn batches_end_with_a_result_for_every_request() {
    let host = Host::start().await;
    let mut client = BatchMgmtClient::new(host.caller());
    let made = client.create_batch(CreateBatchRequest { name: "night".into(), ..Default::default() }).await.unwrap();
    let batch_id = made.into_inner().batch_id;
    let entry = |id: &str, request| BatchRequest { batch_request_id: Some(id.into()), request };
    let batch_requests = vec![
        entry("image", Some(batch_request::Request::ImageRequest(image("a")))),
        entry("video", Some(batch_request::Request::VideoRequest(video("a")))),
        entry("fails", Some(batch_request::Request::ImageRequest(image("fail")))),
        entry("wrong", Some(batch_request::Request::VideoRequest(video("")))),
        entry("chat", Some(batch_request::Request::CompletionRequest(GetCompletionsRequest {}))),
        entry("empty", None),
    ];
    let add = AddBatchRequestsRequest { batch_id: batch_id.clone(), batch_requests };
    client.add_batch_requests(add).await.unwrap();
    let request = GetBatchRequest { batch_id: batch_id.clone() };
    let state = loop {
        let state = client.get_batch(request.clone()).await.unwrap().into_inner().state.unwrap();
        if state.num_pending == 0 {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((state.num_requests, state.num_success, state.num_error), (6, 2, 4));

    let (mut results, mut token) = (Vec::new(), None);
    loop {
        let request = ListBatchResultsRequest { batch_id: batch_id.clone(), limit: 4, pagination_token: token };
        let page = client.list_batch_results(request).await.unwrap().into_inner();
        results.extend(page.results);
        token = page.pagination_token;
        if token.is_none() {
            break;
        }
    }
    let fine: Vec<_> = results.iter().filter(|r| matches!(r.result, Some(batch_result::Result::Response(_)))).collect();
    assert_eq!(fine.iter().map(|r| r.batch_request_id.as_str()).collect::<Vec<_>>(), ["image", "video"]);
    assert_eq!(results.len(), 6);

    let request = GetBatchRequestResultRequest { batch_id: batch_id.clone(), batch_request_id: "video".into() };
    let one = client.get_batch_request_result(request).await.unwrap().into_inner();
    let Some(batch_request::Request::VideoRequest(asked)) = one.request.unwrap().request else { panic!("not a video") };
    assert_eq!((asked.prompt.as_str(), asked.duration), ("a", Some(2)));
    assert_eq!(one.result.as_ref(), Some(fine[1]));

    let status = vec![batch_request_metadata::State::Failed.into()];
    let request = ListBatchRequestMetadataRequest { batch_id: batch_id.clone(), status, ..Default::default() };
    let failed = client.list_batch_request_metadata(request).await.unwrap().into_inner().batch_request_metadata;
    assert_eq!(
        failed.iter().map(|m| m.batch_request_id.as_str()).collect::<Vec<_>>(),
        ["fails", "wrong", "chat", "empty"]
    );
    let cancelled = client.cancel_batch(CancelBatchRequest { batch_id }).await.unwrap().into_inner();
    assert!(cancelled.cancel_time.is_some() && cancelled.state == Some(state));
    let missing = client.get_batch(GetBatchRequest { batch_id: "batch_nobody".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}
