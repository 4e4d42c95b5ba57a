//! On which cores a thread may run.
#![allow(unsafe_code)]

/// Lets the calling thread run on every core that the system allows, also when its process was bound to some (`mpirun --bind-to core`): for threads that must answer
/// in time while the others compute. A system that does not allow it, or knows no such thing, leaves it as it is.
pub fn run_on_any_core() {
    #[cfg(target_os = "linux")]
    {
        /// Bits of a `cpu_set_t`.
        const CORES: usize = 1024;
        unsafe extern "C" {
            fn sched_setaffinity(thread: std::ffi::c_int, bytes: usize, mask: *const u64) -> std::ffi::c_int;
        }
        let all = [u64::MAX; CORES / 64];
        // SAFETY: the mask has as many bytes as is said, and is only read; 0 is the calling thread.
        unsafe { sched_setaffinity(0, size_of_val(&all), all.as_ptr()) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    /// The cores of the calling thread, as Linux lists them.
    fn cores() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_string()
    }

    #[test]
    fn a_bound_thread_gets_its_cores_back() {
        std::thread::spawn(|| {
            super::run_on_any_core();
            let all = cores();
            let bind = |mask: u64| {
                unsafe extern "C" {
                    fn sched_setaffinity(thread: std::ffi::c_int, bytes: usize, mask: *const u64) -> std::ffi::c_int;
                }
                // SAFETY: a mask of eight bytes.
                unsafe { sched_setaffinity(0, 8, &mask) }
            };
            if bind(1) == 0 {
                assert_eq!(cores(), "0");
                super::run_on_any_core();
            }
            assert_eq!(cores(), all);
        })
        .join()
        .unwrap();
    }
}
