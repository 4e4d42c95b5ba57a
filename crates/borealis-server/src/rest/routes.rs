//! Every REST route, as data: the OpenAPI document and the docs page are made of it, and a test compares it with the router.

/// One route under `/v1`.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    /// Name of the body's schema; empty: no body.
    pub(super) body: &'static str,
    /// Parameters of the query.
    pub(super) query: &'static [&'static str],
    /// Status of success.
    pub(super) status: u16,
    /// What comes back.
    pub(super) answer: &'static str,
}

const PAGE: &[&str] = &["limit", "pagination_token"];
const ORDERED: &[&str] = &["limit", "pagination_token", "order"];

macro_rules! routes {
    ($($tag:literal { $($method:ident $path:literal $body:literal $query:expr, $status:literal, $summary:literal => $answer:literal;)* })*) => {
        &[$($(Route {
            method: stringify!($method), path: $path, tag: $tag, summary: $summary, body: $body, query: $query, status: $status, answer: $answer,
        },)*)*]
    };
}

/// All of them, in the order of the docs page.
pub(super) const ROUTES: &[Route] = routes! {
    "Images" {
        post "/images/generations" "ImageRequest" &[], 200, "Make pictures" => "{created, data: [{url | b64_json, mime_type}], usage}";
        post "/images/edits" "ImageRequest" &[], 200, "Change a picture or combine several; also multipart/form-data" => "{created, data: [{url | b64_json, mime_type}], usage}";
    }
    "Videos" {
        post "/videos/generations" "VideoRequest" &[], 200, "Make a clip from text, a first frame or references; with an object `input` it is a task (TaskRequest)" => "{request_id}";
        post "/videos/edits" "ClipRequest" &[], 200, "Change a clip" => "{request_id}";
        post "/videos/extensions" "ClipRequest" &[], 200, "Continue a clip" => "{request_id}";
        get "/videos/{id}" "" &[], 200, "Ask for a clip: 202 while it is pending; ids with video_ get OpenAI's shape" => "{status: pending | done | failed | expired, progress, video: {url, duration, respect_moderation}, model, usage}";
        delete "/videos/{id}" "" &[], 200, "Cancel a clip, or delete one that is done" => "{request_id, cancelled, deleted}";
        get "/videos/{id}/frame" "" &["at", "variant"], 200, "A frame as a PNG: at=last, first or a second" => "image/png";
    }
    "OpenAI videos" {
        post "/videos" "CreateVideoRequest" &[], 200, "Make a clip; JSON or multipart/form-data" => "{id, object: video, status: queued | in_progress | completed | failed, progress, seconds, size}";
        get "/videos" "" &["limit", "after", "order"], 200, "List clips" => "{object: list, data, first_id, last_id, has_more}";
        get "/videos/{id}/content" "" &["variant"], 200, "The bytes of a clip, with Range, or a thumbnail" => "video/mp4, image/png";
        post "/videos/{id}/remix" "RemixRequest" &[], 200, "Change an earlier clip" => "{id, object: video, status, remixed_from_video_id}";
    }
    "Tasks" {
        get "/tasks/{id}" "" &[], 200, "Ask for a task" => "{id, status: pending | processing | completed | failed, progress, results, error}";
        delete "/tasks/{id}" "" &[], 200, "Cancel a task" => "{id, status, ...}";
    }
    "Models" {
        get "/models" "" &[], 200, "All models" => "{object: list, data}";
        get "/models/{id}" "" &[], 200, "One model" => "{id, created, object, owned_by}";
        get "/image-generation-models" "" &[], 200, "Models that make pictures" => "{models}";
        get "/image-generation-models/{id}" "" &[], 200, "One of them" => "{id, aliases, input_modalities, output_modalities}";
        get "/video-generation-models" "" &[], 200, "Models that make clips" => "{models}";
        get "/video-generation-models/{id}" "" &[], 200, "One of them" => "{id, aliases, input_modalities, output_modalities}";
        get "/language-models" "" &[], 200, "None here" => "{models: []}";
    }
    "Account" {
        get "/api-key" "" &[], 200, "The key of this call" => "{redacted_api_key, name, acls, api_key_id, ...}";
        get "/me" "" &[], 200, "Who calls" => "{user_id, team_id, api_key}";
        get "/usage" "" &["days", "since"], 200, "What was used" => "{jobs, images, video_seconds, cost_in_usd_ticks, credits_in_usd_ticks}";
    }
    "Generations and folders" {
        get "/generations" "" &["folder_id", "kind", "limit", "pagination_token", "order"], 200, "What was made and is being made, newest first" => "{data: [{id, kind, status, progress, outputs, ...}], pagination_token}";
        get "/generations/{id}" "" &[], 200, "One of them" => "{id, kind, status, progress, outputs, ...}";
        patch "/generations/{id}" "MoveRequest" &[], 200, "Put it into a folder, or with null into none" => "{id, folder_id, ...}";
        delete "/generations/{id}" "" &[], 200, "Cancel it, or delete it when it has ended" => "{id, cancelled, deleted}";
        get "/folders" "" &[], 200, "All folders" => "{data: [{id, name, count}]}";
        post "/folders" "FolderRequest" &[], 201, "Make a folder" => "{id, name, count}";
        patch "/folders/{id}" "FolderRequest" &[], 200, "Rename a folder" => "{id, name, count}";
        delete "/folders/{id}" "" &[], 200, "Remove a folder; what is in it stays" => "{id, deleted}";
    }
    "Files" {
        post "/files" "UploadRequest" &[], 200, "Upload a file (multipart/form-data), at most 50 MB" => "{id, object: file, bytes, filename, ...}";
        get "/files" "" ORDERED, 200, "List files" => "{object: list, data, pagination_token}";
        get "/files/{id}" "" &[], 200, "One file" => "{id, object: file, bytes, filename, ...}";
        delete "/files/{id}" "" &[], 200, "Delete a file" => "{id, deleted}";
        get "/files/{id}/content" "" &[], 200, "Its bytes, with Range" => "*/*";
        post "/files/{id}/public-url" "PublishRequest" &[], 200, "Make a public URL" => "{public_url, expires_at}";
        post "/files/{id}/public-url/revoke" "" &[], 200, "Take it back" => "{id, public_url, revoked}";
    }
    "Batches" {
        post "/batches" "BatchRequest" &[], 200, "Run the requests of a JSONL file" => "{batch_id, name, state: {num_requests, num_pending, ...}}";
        get "/batches" "" PAGE, 200, "List batches" => "{batches, pagination_token}";
        get "/batches/{id}" "" &[], 200, "One batch" => "{batch_id, name, state}";
        post "/batches/{id}:cancel" "" &[], 200, "Cancel what has not ended" => "{batch_id, cancel_time, state}";
        get "/batches/{id}/results" "" PAGE, 200, "What has ended" => "{results: [{batch_request_id, batch_result}], pagination_token}";
    }
};
