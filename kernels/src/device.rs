//! Where to compute: as the user says it, and what is there.

use crate::backend::Result;
use crate::{Cuda, KernelError};

/// Where to compute, as the user says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The best device that is there.
    Auto,
    /// [`crate::Cpu`].
    Cpu,
    /// [`crate::Cuda`]: the NVIDIA GPU with this number.
    Cuda(usize),
    /// [`crate::Reference`] on candle's CPU device.
    Reference,
}

/// A device that was found and can be used.
#[derive(Debug)]
pub enum Device {
    /// [`crate::Cpu`].
    Cpu,
    /// [`crate::Cuda`].
    Cuda(Cuda),
    /// [`crate::Reference`].
    Reference,
}

impl DeviceSpec {
    /// Looks for the device. [`DeviceSpec::Auto`] takes the first GPU when there is one that can be used, and the CPU otherwise; a device that was
    /// named is never replaced by another one: [`KernelError::Unavailable`] says why it cannot be used.
    pub fn open(&self) -> Result<Device> {
        match self {
            Self::Auto => Ok(Cuda::open(0).map_or(Device::Cpu, Device::Cuda)),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => Cuda::open(*ordinal).map(Device::Cuda),
            Self::Reference => Ok(Device::Reference),
        }
    }

    /// Why [`DeviceSpec::Auto`] computes on the CPU although there is a GPU's driver, in one line. `None` when it does not, when there is no driver
    /// (the CPU is the best device then, not a substitute), or when a device was named.
    pub fn fallback(&self) -> Option<String> {
        if *self != Self::Auto || !Cuda::driver_is_installed() {
            return None;
        }
        let why = Cuda::open(0).err()?;
        Some(format!("computing on the CPU: {why}"))
    }
}

impl std::str::FromStr for DeviceSpec {
    type Err = KernelError;
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "reference" => Ok(Self::Reference),
            _ => match s.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
                Some(n) => Ok(Self::Cuda(n)),
                None => Err(KernelError::Device(s.to_string())),
            },
        }
    }
}

impl std::fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Reference => f.write_str("reference"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["auto", "cpu", "cuda:0", "cuda:17", "reference"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceSpec>().unwrap(), DeviceSpec::Cuda(0));
        for bad in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(matches!(bad.parse::<DeviceSpec>(), Err(KernelError::Device(name)) if name == bad));
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_refused() {
        let error = DeviceSpec::Cuda(4711).open().unwrap_err();
        assert!(error.to_string().starts_with("device \"cuda:4711\" cannot be used: "), "{error}");
    }
}
