#!/usr/bin/env bash
# Pictures and clips by curl: `BOREALIS_KEY=bk-... bash curl.sh`.
set -euo pipefail
url=${BOREALIS_URL:-http://127.0.0.1:8080}

call() { # METHOD PATH [JSON]
    curl -sS --fail-with-body -X "$1" "$url/v1$2" -H "Authorization: Bearer $BOREALIS_KEY" ${3:+-H "Content-Type: application/json" -d "$3"}
}
field() { # NAME: the first string of that name in the JSON on standard input
    grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4
}

# A picture comes at once.
picture=$(call POST /images/generations '{"prompt": "a red ball on grass", "aspect_ratio": "1:1", "seed": 7}' | field url)
curl -sS --fail -o ball.jpg "$picture"

# A clip is started, then asked for until it is done.
id=$(call POST /videos/generations '{"prompt": "a red ball bounces on grass", "duration": 2, "resolution": "480p"}' | field request_id)
until answer=$(call GET "/videos/$id") && [ "$(field status <<<"$answer")" != pending ]; do sleep 0.5; done
[ "$(field status <<<"$answer")" = done ] || { echo "$answer" >&2; exit 1; }
curl -sS --fail -o ball.mp4 "$(field url <<<"$answer")"

# Its last frame is a picture, and the start of another clip.
curl -sS --fail -o last.png "$url/v1/videos/$id/frame?at=last" -H "Authorization: Bearer $BOREALIS_KEY"
call POST /videos/generations "{\"prompt\": \"it rolls to the left\", \"duration\": 1, \"image\": {\"id\": \"$id\", \"frame\": \"last\"}}" >/dev/null
ls -l ball.jpg ball.mp4 last.png
