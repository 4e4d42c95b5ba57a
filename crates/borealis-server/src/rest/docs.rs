//! The docs page: plain HTML made from the OpenAPI document, no scripts.

use std::fmt::Write;

use serde_json::Value;

use super::routes::{ROUTES, Route};

const STYLE: &str = include_str!("docs.css");

/// The page.
pub(super) fn page(document: &Value) -> String {
    let mut out = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">",
    );
    let mut tags: Vec<&str> = ROUTES.iter().map(|r| r.tag).collect();
    tags.dedup();
    let links: String = tags.iter().map(|t| format!("<a href=\"#{}\">{t}</a> ", anchor(t))).collect();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<title>Borealis API</title><style>{STYLE}</style><header><h1>Borealis API</h1><p>{} Send <code>Authorization: Bearer KEY</code>. \
         Errors are <code>{{\"code\", \"error\"}}</code>. The same as data: <a href=\"/openapi.json\">/openapi.json</a>. The page: <a href=\"/\">playground</a>.</p>\
         <nav>{links}</nav></header><main>",
        escape(document["info"]["description"].as_str().unwrap_or_default()),
    );
    for tag in tags {
        let _ = write!(out, "<section id=\"{}\"><h2>{tag}</h2>", anchor(tag));
        for route in ROUTES.iter().filter(|r| r.tag == tag) {
            entry(&mut out, route, &document["components"]["schemas"]);
        }
        out.push_str("</section>");
    }
    out.push_str("</main></html>");
    out
}

fn anchor(tag: &str) -> String {
    tag.to_ascii_lowercase().replace(' ', "-")
}

fn entry(out: &mut String, route: &Route, schemas: &Value) {
    let _ = write!(
        out,
        "<details><summary><b class={m}>{m}</b> <code>/v1{}</code> <span>{}</span></summary>",
        route.path,
        escape(route.summary),
        m = route.method,
    );
    if !route.query.is_empty() {
        let _ = write!(out, "<p>Query: <code>{}</code></p>", route.query.join("</code>, <code>"));
    }
    if !route.body.is_empty() {
        fields(out, &schemas[route.body]);
    }
    if route.path == "/videos/generations" {
        out.push_str("<p>As a task: <code>model</code>, <code>callback_url</code> and <code>input</code> with</p>");
        fields(out, &schemas["TaskInput"]);
    }
    let _ = write!(out, "<p>Answer {}: <code>{}</code></p></details>", route.status, escape(route.answer));
}

fn fields(out: &mut String, schema: &Value) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    out.push_str("<table><tbody>");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let star = if required.contains(&name.as_str()) { " <i>required</i>" } else { "" };
        let default = match &field["default"] {
            Value::Null => String::new(),
            value => format!(" Default {}.", escape(value.to_string().trim_matches('"'))),
        };
        // What refers to another schema has its description one level down.
        let inside = || field["oneOf"].as_array()?.iter().find_map(|f| f["description"].as_str());
        let text = escape(field["description"].as_str().or_else(inside).unwrap_or_default());
        let _ = write!(out, "<tr><td><code>{name}</code>{star}<td>{text}{default}");
    }
    out.push_str("</tbody></table>");
}

/// Text as HTML; `code` marks stay readable.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('`', "")
}
