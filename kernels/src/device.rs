//! Where to compute: as the user says it, and what is there.

use crate::backend::Result;
use crate::{Cuda, KernelError, Metal, Reference};

/// Where to compute, as the user says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The best device that is there.
    Auto,
    /// [`crate::Cpu`].
    Cpu,
    /// [`crate::Cuda`]: the NVIDIA GPU with this number.
    Cuda(usize),
    /// The same without CUDA graphs, for comparisons: the results have the same bits.
    CudaEager(usize),
    /// [`crate::Metal`]: the GPU of a Mac.
    Metal,
    /// [`crate::Reference`] on candle's CPU device.
    Reference,
    /// [`crate::Reference`] on candle's Metal device: our own Metal kernels play no part.
    ReferenceMetal,
}

/// A device that was found and can be used.
#[derive(Debug)]
pub enum Device {
    /// [`crate::Cpu`].
    Cpu,
    /// [`crate::Cuda`].
    Cuda(Cuda),
    /// [`crate::Metal`].
    Metal(Metal),
    /// [`crate::Reference`].
    Reference(Reference),
}

impl DeviceSpec {
    /// Looks for the device. [`DeviceSpec::Auto`] takes the Mac's GPU or the first NVIDIA GPU when there is one that can be used, and the CPU otherwise; a
    /// device that was named is never replaced by another one: [`KernelError::Unavailable`] says why it cannot be used.
    pub fn open(&self) -> Result<Device> {
        match self {
            Self::Auto => Ok(Self::best().and_then(|best| best.open().ok()).unwrap_or(Device::Cpu)),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => Cuda::open(*ordinal).map(Device::Cuda),
            Self::CudaEager(ordinal) => {
                let cuda = Cuda::open(*ordinal)?;
                cuda.graphs(false)?;
                Ok(Device::Cuda(cuda))
            }
            Self::Metal => Metal::open().map(Device::Metal),
            Self::Reference => Ok(Device::Reference(Reference::new())),
            Self::ReferenceMetal => Reference::on_metal().map(Device::Reference),
        }
    }

    /// The GPU that [`DeviceSpec::Auto`] tries: `None` when there is nothing that could be one.
    fn best() -> Option<Self> {
        if cfg!(target_os = "macos") {
            return Some(Self::Metal);
        }
        Cuda::driver_is_installed().then_some(Self::Cuda(0))
    }

    /// Why [`DeviceSpec::Auto`] computes on the CPU although there is a GPU's driver, in one line. `None` when it does not, when there is no driver
    /// (the CPU is the best device then, not a substitute), or when a device was named.
    pub fn fallback(&self) -> Option<String> {
        if *self != Self::Auto {
            return None;
        }
        let why = Self::best()?.open().err()?;
        Some(format!("computing on the CPU: {why}"))
    }
}

impl Device {
    /// Whether weights and caches lie in another memory than the program's own.
    pub fn has_own_memory(&self) -> bool {
        matches!(self, Self::Cuda(_))
    }

    /// Bytes of its memory that are free now; `None` where the system does not say.
    pub fn free_memory(&self) -> Option<u64> {
        match self {
            Self::Cuda(cuda) => Some(cuda.memory().ok()?.0 as u64),
            Self::Cpu | Self::Metal(_) | Self::Reference(_) => host_memory(),
        }
    }

    /// As [`crate::Backend::name`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Metal(_) => "metal",
            Self::Reference(reference) => crate::Backend::name(reference),
        }
    }
}

impl DeviceSpec {
    /// The devices of `ranks` ranks on one machine, when this one is named for all of them: a GPU's ranks have a GPU each, numbered on from it. [`DeviceSpec::Auto`]
    /// takes GPUs when there are as many, and the CPU otherwise.
    pub fn for_ranks(&self, ranks: usize) -> Vec<Self> {
        match self {
            Self::Cuda(first) => (0..ranks).map(|i| Self::Cuda(first + i)).collect(),
            Self::Auto if ranks > 1 => {
                let all = Self::best().map(|best| best.for_ranks(ranks));
                all.filter(|all| all.iter().all(|one| one.open().is_ok())).unwrap_or_else(|| vec![Self::Cpu; ranks])
            }
            other => vec![other.clone(); ranks],
        }
    }
}

/// Bytes of this machine's memory that a program can have without swapping, on Linux.
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

impl std::str::FromStr for DeviceSpec {
    type Err = KernelError;
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            "reference" => Ok(Self::Reference),
            "reference:metal" => Ok(Self::ReferenceMetal),
            "cuda-eager" => Ok(Self::CudaEager(0)),
            _ => {
                let number = |prefix: &str| s.strip_prefix(prefix).and_then(|n| n.parse().ok());
                let eager = || number("cuda-eager:").map(Self::CudaEager);
                number("cuda:").map(Self::Cuda).or_else(eager).ok_or_else(|| KernelError::Device(s.to_string()))
            }
        }
    }
}

impl std::fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::CudaEager(n) => write!(f, "cuda-eager:{n}"),
            Self::Metal => f.write_str("metal"),
            Self::Reference => f.write_str("reference"),
            Self::ReferenceMetal => f.write_str("reference:metal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["auto", "cpu", "cuda:0", "cuda:17", "cuda-eager:2", "metal", "reference", "reference:metal"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceSpec>().unwrap(), DeviceSpec::Cuda(0));
        for bad in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda-eager:", "CPU", "metal:0", "reference:cuda"] {
            assert!(matches!(bad.parse::<DeviceSpec>(), Err(KernelError::Device(name)) if name == bad));
        }
    }

    #[test]
    fn ranks_have_a_gpu_each() {
        let two = |spec: DeviceSpec| spec.for_ranks(2);
        assert_eq!(two(DeviceSpec::Cuda(3)), [DeviceSpec::Cuda(3), DeviceSpec::Cuda(4)]);
        assert_eq!(two(DeviceSpec::Cpu), [DeviceSpec::Cpu, DeviceSpec::Cpu]);
        assert_eq!(DeviceSpec::Auto.for_ranks(1), [DeviceSpec::Auto]);
        // More GPUs than any machine has.
        assert_eq!(DeviceSpec::Auto.for_ranks(4711), vec![DeviceSpec::Cpu; 4711]);
    }

    #[test]
    fn a_device_that_is_not_there_is_refused() {
        let error = DeviceSpec::Cuda(4711).open().unwrap_err();
        assert!(error.to_string().starts_with("device \"cuda:4711\" cannot be used: "), "{error}");
    }

    #[test]
    #[cfg(not(target_os = "macos"))]
    fn metal_is_refused_where_it_is_not() {
        let said = |device: DeviceSpec| device.open().unwrap_err().to_string();
        assert_eq!(
            said(DeviceSpec::ReferenceMetal),
            "device \"reference:metal\" cannot be used: Metal is a part of macOS"
        );
        // With the emulator on the search path there is one.
        if let Err(error) = DeviceSpec::Metal.open() {
            assert_eq!(error.to_string(), "device \"metal\" cannot be used: Metal is a part of macOS");
        }
    }
}
