//! Choosing where tensors live: `Device::best()`, `Device::gpu()`, and the switch that sends a whole program to a GPU.
//!
//! ```text
//! GLASSBOX_DEVICE ─► cpu | cuda | cuda:1 ─┐
//! the launcher's local rank ─► its GPU ───┴─► Device, one for each GPU of the process
//! ```
//! A GPU is opened once: candle takes tensors of two handles to the same GPU for tensors of different devices.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::Device;
use glassbox_wire::launcher;

use crate::{Error, Result};

/// Names the device of a whole program: `cpu`, `cuda` or `cuda:1`.
const SWITCH: &str = "GLASSBOX_DEVICE";

/// Devices by what they are good for, on candle's [`Device`]: in a cell, `let device = Device::best();`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let device = Device::best(); // a GPU if this session can use one
/// let x = Tensor::ones((2, 3), DType::F32, &device)?;
/// assert_eq!(x.dims(), [2, 3]);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub trait DeviceChoice: Sized {
    /// [`DeviceChoice::gpu`] if there is one, else the CPU; the CPU also where `GLASSBOX_DEVICE` is `cpu`.
    /// [`DeviceChoice::gpu`] says why there is none.
    fn best() -> Self;

    /// An NVIDIA GPU: the one that `GLASSBOX_DEVICE=cuda:N` names, else that of this process's place among those that a launcher has
    /// started on this machine (`OMPI_COMM_WORLD_LOCAL_RANK`, `MPI_LOCALRANKID`, `SLURM_LOCALID`, `LOCAL_RANK`), else the first. Every call
    /// gives the same device.
    ///
    /// # Errors
    /// `Config` when this library was built without the feature `cuda`, the driver finds no such GPU, or a variable is no number.
    fn gpu() -> Result<Self>;

    /// The device that `GLASSBOX_DEVICE` names (`cpu`, `cuda`, `cuda:1`), the CPU where it names none: what a program takes that is to run on
    /// either by one switch.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// let device = Device::chosen()?; // the CPU, unless GLASSBOX_DEVICE says otherwise
    /// let x = Tensor::ones(2, DType::F32, &device)?;
    /// assert!(device.same_device(x.device()));
    /// # Ok::<(), glassbox_prelude::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DeviceChoice::gpu`] where a GPU is named; `Config` for a name that is none of these.
    fn chosen() -> Result<Self>;
}

impl DeviceChoice for Device {
    fn best() -> Self {
        match named(&variable) {
            Ok(Some(Named::Cpu)) => Self::Cpu,
            _ => Self::gpu().unwrap_or(Self::Cpu),
        }
    }

    fn gpu() -> Result<Self> {
        if !cfg!(feature = "cuda") {
            return Err(Error::Config(
                "this session was built for the CPU: start it with --features cuda (for Jupyter: glassbox install \
                 --features cuda), or use Device::best()"
                    .into(),
            ));
        }
        opened(ordinal(&variable)?)
    }

    fn chosen() -> Result<Self> {
        match named(&variable)? {
            None | Some(Named::Cpu) => Ok(Self::Cpu),
            Some(Named::Gpu(_)) => Self::gpu(),
        }
    }
}

/// What the switch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Cpu,
    /// With the number, if it has one.
    Gpu(Option<usize>),
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn named(variable: Variable<'_>) -> Result<Option<Named>> {
    let text = variable(SWITCH).unwrap_or_default();
    match text.trim() {
        "" => Ok(None),
        "cpu" => Ok(Some(Named::Cpu)),
        "cuda" => Ok(Some(Named::Gpu(None))),
        other => match other.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(ordinal)) => Ok(Some(Named::Gpu(Some(ordinal)))),
            _ => Err(Error::Config(format!(
                "the variable {SWITCH} is {text:?}: it names a device by cpu, cuda or cuda:1"
            ))),
        },
    }
}

/// Which of the machine's GPUs is this process's.
fn ordinal(variable: Variable<'_>) -> Result<usize> {
    if let Some(Named::Gpu(Some(ordinal))) = named(variable)? {
        return Ok(ordinal);
    }
    let Some((name, text)) = launcher::local(variable) else {
        return Ok(0);
    };
    text.parse().map_err(|_| {
        Error::Config(format!(
            "the variable {name} is {text:?}, which is no place among the processes of a machine: unset it, or name the GPU by \
             {SWITCH}=cuda:0"
        ))
    })
}

/// The GPU with this number, opened once for the process.
fn opened(ordinal: usize) -> Result<Device> {
    static OPENED: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = opened.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda(ordinal).map_err(|error| {
        Error::Config(format!(
            "NVIDIA GPU {ordinal} can't be used ({error}): glassbox doctor says what was found"
        ))
    })?;
    opened.insert(ordinal, device.clone());
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(set: &[(&str, &str)], f: impl Fn(Variable<'_>) -> T) -> T {
        f(&|name| {
            let found = set.iter().find(|(own, _)| *own == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_the_best_device_is_the_cpu_and_asking_for_a_gpu_names_the_feature() {
        assert!(Device::best().is_cpu());
        let error = Device::gpu().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }

    #[test]
    fn the_switch_names_a_device_or_is_refused() -> Result<()> {
        for (text, device) in [
            ("", None),
            (" cpu ", Some(Named::Cpu)),
            ("cuda", Some(Named::Gpu(None))),
            ("cuda:3", Some(Named::Gpu(Some(3)))),
        ] {
            assert_eq!(with(&[(SWITCH, text)], named)?, device);
        }
        for text in ["gpu0", "cuda:", "cuda:-1", "metal"] {
            let error = with(&[(SWITCH, text)], named).unwrap_err().to_string();
            assert!(error.contains(SWITCH) && error.contains(text), "{error}");
        }
        Ok(())
    }

    #[test]
    fn a_process_takes_the_gpu_of_its_place_on_the_machine() -> Result<()> {
        assert_eq!(with(&[], ordinal)?, 0);
        for name in launcher::LOCAL {
            assert_eq!(with(&[(name, "2")], ordinal)?, 2);
            assert_eq!(
                with(&[(name, "2"), (SWITCH, "cuda:1")], ordinal)?,
                1,
                "the switch is nearer"
            );
            assert_eq!(with(&[(name, "2"), (SWITCH, "cuda")], ordinal)?, 2);
        }
        let both = [("SLURM_LOCALID", "0"), ("OMPI_COMM_WORLD_LOCAL_RANK", "3")];
        assert_eq!(with(&both, ordinal)?, 3, "mpirun within a job of Slurm");
        let error = with(&[("LOCAL_RANK", "x")], ordinal)
            .unwrap_err()
            .to_string();
        assert!(error.contains("LOCAL_RANK"), "{error}");
        Ok(())
    }
}
