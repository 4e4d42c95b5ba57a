# Sourced by the other scripts: moves to the repository's root and installs the system packages that a build needs, as far as they are missing.
# Debian and Ubuntu only; elsewhere it says what is needed. Nothing but the system's package archive is asked.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

install_packages() {
    local wanted=(gcc libc6-dev pkg-config clang libclang-dev libavcodec-dev libavformat-dev libavutil-dev libswscale-dev libswresample-dev libsqlite3-dev ffmpeg)
    local missing=() package root=()
    if ! command -v dpkg-query >/dev/null; then
        command -v pkg-config >/dev/null && pkg-config --exists libavcodec libavformat libswscale libswresample \
            || fail "install a C compiler, pkg-config, libclang and the development files of FFmpeg 5 or newer, then run this again"
        return
    fi
    for package in "${wanted[@]}"; do
        [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *"ok installed" ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "these packages are missing, and there is no sudo to install them: ${missing[*]}"
        root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${root[@]}" apt-get update -q
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

find_cargo() {
    command -v cargo >/dev/null && return
    # rustup was installed, but the shell was not started again since.
    [[ -f "$HOME/.cargo/env" ]] && source "$HOME/.cargo/env"
    command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.95 or newer with rustup (https://rustup.rs), then run this again"
}

install_packages
find_cargo
