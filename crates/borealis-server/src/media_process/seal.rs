//! What a media process cannot do any more: open a file, talk to anybody, start a program.
//!
//! Two locks, either of which would hold alone for files. Landlock takes the file system away, and TCP and signals where the kernel knows those rights;
//! seccomp leaves the system calls that decoding and encoding need and answers all others as a kernel would that has never heard of them. Neither can be
//! taken off again. Where a kernel has neither, the process has its limits of memory and time alone; [`open_doors`] finds out, and the API's log tells.

use std::fs::File;
use std::net::UdpSocket;

/// Locks the calling thread, and all that it starts from now on. Locks that the system does not have are left out.
#[cfg(target_os = "linux")]
pub(super) fn seal() {
    // What holds is found out by trying, not by what these say: see `open_doors`.
    let _ = no_files();
    let _ = few_calls();
}

/// Only Linux has such locks; elsewhere limits of memory and time must do.
#[cfg(not(target_os = "linux"))]
pub(super) fn seal() {}

/// Landlock without a single rule: nothing beneath any folder can be opened, made, removed or run.
#[cfg(target_os = "linux")]
fn no_files() -> Result<(), landlock::RulesetError> {
    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};
    // Older kernels leave out the rights that they do not know.
    let newest = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()
        .map(drop)
}

/// System calls that are let through whatever their arguments: memory, threads, clocks, and what is open already.
#[cfg(target_os = "linux")]
const CALLS: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Leaves [`CALLS`], and a few calls on this process itself; every other one does not exist.
#[cfg(target_os = "linux")]
fn few_calls() -> Result<(), seccompiler::Error> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };
    let argument = |n: u8, is: SeccompCmpOp, value: u64| SeccompCondition::new(n, SeccompCmpArgLen::Dword, is, value);
    let only = |conditions: Vec<Result<SeccompCondition, _>>| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        Ok(vec![SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)?])
    };
    let own = || vec![argument(0, SeccompCmpOp::Eq, 0), argument(1, SeccompCmpOp::Eq, 0)];
    let thread = libc::CLONE_THREAD as u64;
    let mut rules: Vec<(libc::c_long, Vec<SeccompRule>)> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    rules.extend([
        // Threads, no processes. clone3 hides its flags behind a pointer: without it, the C library uses clone.
        (libc::SYS_clone, only(vec![argument(0, SeccompCmpOp::MaskedEq(thread), thread)])?),
        (libc::SYS_prctl, only(vec![argument(0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)])?),
        // An abort is a signal of the process to itself.
        (libc::SYS_tgkill, only(vec![argument(0, SeccompCmpOp::Eq, u64::from(std::process::id()))])?),
        (libc::SYS_prlimit64, only(vec![argument(0, SeccompCmpOp::Eq, 0)])?),
        (libc::SYS_getpriority, only(own())?),
        (libc::SYS_setpriority, only(own())?),
    ]);
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let machine = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules.into_iter().collect(), unknown, SeccompAction::Allow, machine)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

/// Tries what must be impossible; returns what was possible nevertheless.
pub(super) fn open_doors() -> Vec<String> {
    let tried = [
        ("files", File::open("/").is_ok() || File::open("/proc/self/status").is_ok()),
        ("sockets", UdpSocket::bind(("127.0.0.1", 0)).is_ok()),
        ("programs", can_run()),
    ];
    tried.into_iter().filter(|(_, open)| *open).map(|(name, _)| name.to_string()).collect()
}

/// Whether the system looks for a program at all when it is asked to become one.
#[cfg(unix)]
fn can_run() -> bool {
    use std::os::unix::process::CommandExt;
    std::process::Command::new("/no/such/program").exec().kind() == std::io::ErrorKind::NotFound
}

#[cfg(not(unix))]
fn can_run() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own: a lock cannot be taken off again.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_sealed_thread_decodes_and_can_do_nothing_else() {
        use crate::media_process::{Task, child};
        use borealis_media::{Frame, Mp4Writer, PixelFormat, VideoSpec, encode_png};
        use std::os::unix::net::{UnixListener, UnixStream};

        let picture = encode_png(&Frame::solid(64, 48, PixelFormat::Rgb8, [20, 200, 30])).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let mut writer = Mp4Writer::create(&path, VideoSpec::new(64, 48, 24)).unwrap();
        (0..24).for_each(|n| writer.push_owned(Frame::solid(64, 48, PixelFormat::Rgb8, [n * 9, 0, 0])).unwrap());
        writer.finish().unwrap();
        let clip = std::fs::read(&path).unwrap();
        assert_eq!(open_doors(), ["files", "sockets", "programs"], "nothing is locked yet");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        std::thread::spawn(move || {
            seal();
            assert_eq!(open_doors(), Vec::<String>::new());
            assert!(std::fs::read(&path).is_err() && std::fs::write(&path, b"x").is_err());
            assert!(std::fs::metadata(&path).is_err() && std::fs::read_dir("/").is_err());
            assert!(std::fs::remove_file(&path).is_err() && std::fs::create_dir(path.with_extension("d")).is_err());
            assert!(
                std::net::TcpStream::connect(address).is_err() && std::net::TcpListener::bind("127.0.0.1:0").is_err()
            );
            assert!(UnixStream::connect(&socket).is_err() && UnixStream::pair().is_err());
            assert!(std::process::Command::new("/proc/self/exe").spawn().is_err());
            // Locks pass on to threads, and threads still start.
            assert!(std::thread::spawn(|| open_doors().is_empty()).join().unwrap());
            for (task, bytes) in [(Task::Picture, &picture), (Task::Clip, &clip), (Task::Frame { second: None }, &clip)]
            {
                let (head, out) = child::perform(task, bytes);
                assert_eq!((head.refused, out.is_empty()), (None, false), "{task:?}");
            }
            let (head, _) = child::perform(Task::Clip, &clip[..clip.len() / 3]);
            assert!(head.refused.is_some());
        })
        .join()
        .unwrap();
        drop((listener, port));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the clip and the socket");
    }
}
