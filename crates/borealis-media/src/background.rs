//! Threads that should not compete with the one that generates.

/// Lowers the priority of the calling thread: decoding and encoding follow generation, and where cores are few they
/// take what it leaves. Only Linux gives threads a priority of their own; elsewhere, and where it is refused, nothing changes.
pub fn run_in_background() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}
