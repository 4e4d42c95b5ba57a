use super::super::routes::ROUTES;
use super::*;
use crate::testing::bench;

fn ask(method: &str, path: &str, key: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn every_documented_route_exists_and_needs_a_key() {
    let bench = bench().await;
    for route in ROUTES {
        for prefix in ["/v1", "/inline/v1", "/proxy/xai/v1"] {
            let path = format!("{prefix}{}", route.path.replace("{id}", "some"));
            let refused = send(&bench, ask(route.method, &path, None)).await;
            assert_eq!((refused.status, refused.json()["code"].as_str()), (401, Some("unauthenticated")), "{path}");
            assert!(refused.header("www-authenticate").is_some());
            let got = send(&bench, ask(route.method, &path, Some(&bench.key))).await;
            let text = String::from_utf8_lossy(&got.bytes).into_owned();
            assert!(
                got.status != 405 && got.status < 500 && !text.contains("there is nothing at"),
                "{} {path}: {text}",
                route.method
            );
        }
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let bench = bench().await;
    let document = send(&bench, ask("get", "/openapi.json", None)).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let operations: usize = document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(operations, ROUTES.len());
    let video = &document["components"]["schemas"]["VideoRequest"]["properties"];
    assert_eq!(
        (&video["duration"]["maximum"], &video["seed"]["description"].is_string()),
        (&Value::from(15), &true),
        "{video}"
    );
    let ids: std::collections::HashSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|p| p.as_object().unwrap().values().map(|o| o["operationId"].as_str().unwrap()))
        .collect();
    assert_eq!(ids.len(), operations);
}

#[tokio::test]
async fn the_docs_page_shows_every_route_and_runs_nothing() {
    let bench = bench().await;
    let page = send(&bench, ask("get", "/docs", None)).await;
    let text = String::from_utf8(page.bytes.to_vec()).unwrap();
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(ROUTES.iter().all(|route| text.contains(&format!("<code>/v1{}</code>", route.path))));
    assert!(!text.contains("<script") && text.contains("aspect_ratio") && text.contains("The first frame."));
}
