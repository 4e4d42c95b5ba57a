//! The kernels' machine code: built with this program by nvcc (feature `cuda`), or compiled once on the user's machine by NVRTC and kept.

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use cudarc::nvrtc::sys;

/// Sources in the order of `kernels.cu`, which includes them.
const SOURCES: [(&str, &str); 8] = [
    ("common.cuh", include_str!("../../cuda/common.cuh")),
    ("matmul.cuh", include_str!("../../cuda/matmul.cuh")),
    ("tensor.cuh", include_str!("../../cuda/tensor.cuh")),
    ("rows.cuh", include_str!("../../cuda/rows.cuh")),
    ("attention.cuh", include_str!("../../cuda/attention.cuh")),
    ("moe.cuh", include_str!("../../cuda/moe.cuh")),
    ("paint.cuh", include_str!("../../cuda/paint.cuh")),
    ("sample.cuh", include_str!("../../cuda/sample.cuh")),
];

/// Machine code of the architectures that build.rs names, and PTX for later ones.
#[cfg(borealis_fatbin)]
const FATBIN: Option<&[u8]> = Some(include_bytes!(env!("BOREALIS_FATBIN")));
#[cfg(not(borealis_fatbin))]
const FATBIN: Option<&[u8]> = None;

/// Hands machine code for a device to `accept` until it takes one: what was built in, what was kept, or what NVRTC makes now.
/// The error says what is missing and what to do.
pub(super) fn load(capability: (i32, i32), driver: i32, mut accept: impl FnMut(&[u8]) -> bool) -> Result<(), String> {
    if FATBIN.is_some_and(&mut accept) {
        return Ok(());
    }
    let kept = kept(capability, driver);
    if let Some(image) = kept.as_ref().and_then(|path| std::fs::read(path).ok())
        && accept(&image)
    {
        return Ok(());
    }
    let image = compile(capability)?;
    if !accept(&image) {
        return Err("the driver refuses the compiled kernels: update the driver".into());
    }
    if let Some(path) = kept {
        // Without a cache the next start compiles again; that is all.
        let _ = keep(&path, &image);
    }
    Ok(())
}

/// Where the code for these sources, this architecture and this driver is kept.
fn kept((major, minor): (i32, i32), driver: i32) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    // FNV-1a: the same on every machine and in every version of the compiler.
    let bytes = SOURCES.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    Some(cache.join("borealis").join(format!("kernels-{hash:016x}-sm{major}{minor}-{driver}.cubin")))
}

/// Written whole under another name first: a program beside this one never reads half a file.
fn keep(path: &std::path::Path, image: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&new, image)?;
    std::fs::rename(&new, path)
}

/// Compiles the sources with NVRTC.
fn compile((major, minor): (i32, i32)) -> Result<Vec<u8>, String> {
    // SAFETY: looks for a library, calls nothing in it.
    if !unsafe { sys::is_culib_present() } {
        let remedy = "install the CUDA toolkit (or its library libnvrtc), or use a build with the feature `cuda`";
        return Err(format!("this program was built without kernels for it and NVRTC is not installed: {remedy}"));
    }
    let text = |s: &str| CString::new(s).map_err(|e| e.to_string());
    let main = SOURCES.iter().map(|(name, _)| format!("#include \"{name}\"\n")).collect::<String>();
    let main = text(&main)?;
    let names = SOURCES.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>, _>>()?;
    let bodies = SOURCES.iter().map(|(_, body)| text(body)).collect::<Result<Vec<_>, _>>()?;
    let (name_pointers, body_pointers): (Vec<_>, Vec<_>) =
        (names.iter().map(|n| n.as_ptr()).collect(), bodies.iter().map(|b| b.as_ptr()).collect());
    let options = [text(&format!("--gpu-architecture=sm_{major}{minor}"))?, text("--std=c++17")?];
    let option_pointers: Vec<_> = options.iter().map(|o| o.as_ptr()).collect();
    let count = SOURCES.len() as i32;
    let mut program = std::ptr::null_mut();
    // SAFETY: NVRTC is there; all strings live until the end of this function and arrays have `count` entries.
    unsafe {
        let created = sys::nvrtcCreateProgram(
            &mut program,
            main.as_ptr(),
            c"kernels.cu".as_ptr(),
            count,
            body_pointers.as_ptr(),
            name_pointers.as_ptr(),
        );
        done("create", created)?;
        let compiled = sys::nvrtcCompileProgram(program, option_pointers.len() as i32, option_pointers.as_ptr());
        let image = match done("compile", compiled) {
            Ok(()) => machine_code(program),
            Err(error) => Err(format!("{error}: {}", log(program))),
        };
        sys::nvrtcDestroyProgram(&mut program);
        image
    }
}

/// # Safety
/// `program` was compiled.
unsafe fn machine_code(program: sys::nvrtcProgram) -> Result<Vec<u8>, String> {
    let mut size = 0;
    // SAFETY: the caller's promise; the buffer has the size that NVRTC asked for.
    unsafe {
        done("size", sys::nvrtcGetCUBINSize(program, &mut size))?;
        let mut image = vec![0u8; size];
        done("code", sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()))?;
        Ok(image)
    }
}

/// The compiler's first complaint.
///
/// # Safety
/// `program` is a program.
unsafe fn log(program: sys::nvrtcProgram) -> String {
    let mut size = 0;
    // SAFETY: the caller's promise; the buffer has the size that NVRTC asked for.
    let log = unsafe {
        if sys::nvrtcGetProgramLogSize(program, &mut size) != sys::nvrtcResult::NVRTC_SUCCESS || size == 0 {
            return "no message".into();
        }
        let mut log = vec![0u8; size];
        sys::nvrtcGetProgramLog(program, log.as_mut_ptr().cast());
        log
    };
    let text = CStr::from_bytes_until_nul(&log).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
    text.lines().find(|l| l.contains("error")).unwrap_or("no message").to_string()
}

fn done(what: &str, result: sys::nvrtcResult) -> Result<(), String> {
    match result {
        sys::nvrtcResult::NVRTC_SUCCESS => Ok(()),
        error => Err(format!("NVRTC, {what}: {error:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_those_of_the_main_file() {
        let main = include_str!("../../cuda/kernels.cu");
        let included: Vec<_> = main.lines().filter_map(|l| l.strip_prefix("#include \"")?.strip_suffix('"')).collect();
        assert_eq!(included, SOURCES.map(|s| s.0));
    }

    #[test]
    fn code_is_kept_for_one_driver_and_architecture() {
        let paths = [kept((8, 0), 12_000), kept((9, 0), 12_000), kept((9, 0), 13_000)].map(Option::unwrap);
        assert!(paths[0] != paths[1] && paths[1] != paths[2]);
    }
}
