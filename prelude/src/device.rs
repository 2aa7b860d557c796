//! Choosing where tensors live: `Device::best()`.

use crate::{Error, Result};
use candle_core::Device;

/// Devices by what they are good for, on candle's [`Device`]: in a cell, `let device = Device::best();`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let device = Device::best(); // a GPU if this session can use one
/// let x = Tensor::ones((2, 3), DType::F32, &device)?;
/// assert_eq!(x.dims(), [2, 3]);
/// assert_eq!(device.is_cuda(), Device::gpu().is_ok()); // an error of `Device::gpu()` says why there is none
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub trait DeviceChoice: Sized {
    /// The first NVIDIA GPU, if this library was built with the feature `cuda` and the GPU answers; else the CPU.
    /// [`DeviceChoice::gpu`] says why there is none.
    fn best() -> Self;

    /// The first NVIDIA GPU.
    ///
    /// # Errors
    /// When this library was built without the feature `cuda`, or the driver finds no GPU.
    fn gpu() -> Result<Self>;
}

impl DeviceChoice for Device {
    fn best() -> Self {
        Self::gpu().unwrap_or(Self::Cpu)
    }

    fn gpu() -> Result<Self> {
        if !cfg!(feature = "cuda") {
            return Err(Error::Config(
                "this session was built for the CPU: start it with --features cuda (for Jupyter: glassbox install \
                 --features cuda), or use Device::best()"
                    .into(),
            ));
        }
        Self::new_cuda(0).map_err(|error| {
            Error::Config(format!(
                "no NVIDIA GPU can be used ({error}): glassbox doctor says what was found"
            ))
        })
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_the_best_device_is_the_cpu_and_asking_for_a_gpu_names_the_feature() {
        assert!(Device::best().is_cpu());
        let error = Device::gpu().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
