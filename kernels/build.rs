//! With the feature `cuda` and nvcc at hand: compiles `cuda/kernels.cu` to one file with machine code for several generations of GPUs and PTX for later ones.
//! nvcc is `$NVCC`, else `$CUDA_HOME/bin/nvcc`, else found on the path. Without it the program compiles the kernels where it runs, with NVRTC.

use std::path::PathBuf;
use std::process::Command;

/// Generations with machine code of their own; PTX is that of the first.
const ARCHITECTURES: [&str; 4] = ["80", "86", "89", "90"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(borealis_fatbin)");
    println!("cargo::rerun-if-changed=cuda");
    for name in ["NVCC", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("kernels.fatbin");
    match compile(&out) {
        Ok(()) => {
            println!("cargo::rustc-cfg=borealis_fatbin");
            println!("cargo::rustc-env=BOREALIS_FATBIN={}", out.display());
        }
        Err(why) => println!(
            "cargo::warning=no fat binary of the CUDA kernels ({why}): they are compiled by NVRTC on the machine that runs them"
        ),
    }
}

fn compile(out: &std::path::Path) -> Result<(), String> {
    let home = std::env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    let nvcc = std::env::var_os("NVCC").map(PathBuf::from).or(home).unwrap_or_else(|| "nvcc".into());
    let mut command = Command::new(&nvcc);
    command.args(["-std=c++17", "-O3", "-fatbin", "-o"]).arg(out).arg("cuda/kernels.cu");
    for arch in ARCHITECTURES {
        command.arg("-gencode").arg(format!("arch=compute_{arch},code=sm_{arch}"));
    }
    let first = ARCHITECTURES[0];
    command.arg("-gencode").arg(format!("arch=compute_{first},code=compute_{first}"));
    let done = command.output().map_err(|e| format!("{}: {e}", nvcc.display()))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr)
            .lines()
            .find(|l| l.contains("error"))
            .unwrap_or("nvcc failed")
            .into()),
    }
}
