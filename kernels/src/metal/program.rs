//! The kernels' text, which Metal compiles where the program runs.

/// Sources in the order in which they depend on each other.
const SOURCES: [&str; 6] = [
    include_str!("../../metal/common.metal"),
    include_str!("../../metal/matmul.metal"),
    include_str!("../../metal/rows.metal"),
    include_str!("../../metal/attention.metal"),
    include_str!("../../metal/moe.metal"),
    include_str!("../../metal/paint.metal"),
];

/// All of them as one text.
#[cfg_attr(not(target_os = "macos"), allow(dead_code))]
pub(super) fn source() -> String {
    SOURCES.concat()
}
