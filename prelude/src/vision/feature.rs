//! Which of an encoder's outputs goes into the projector: a setting, by the reference's names.

use crate::{Error, Result};

/// Which of the encoder's outputs goes into the projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionFeature {
    /// `hidden_states[i]`, counted from the end when negative: -1 is the last layer's output *before* the final
    /// LayerNorm. The blog's choice.
    HiddenState(i32),
    /// After the final LayerNorm.
    LastHiddenState,
}

impl Default for VisionFeature {
    fn default() -> Self {
        VisionFeature::HiddenState(-1)
    }
}

impl std::fmt::Display for VisionFeature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VisionFeature::HiddenState(index) => write!(f, "hidden_states[{index}]"),
            VisionFeature::LastHiddenState => f.write_str("last_hidden_state"),
        }
    }
}

impl std::str::FromStr for VisionFeature {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let index = name
            .strip_prefix("hidden_states[")
            .and_then(|rest| rest.strip_suffix(']'));
        match (name, index.map(str::parse)) {
            ("last_hidden_state", _) => Ok(VisionFeature::LastHiddenState),
            (_, Some(Ok(index))) => Ok(VisionFeature::HiddenState(index)),
            _ => Err(Error::Config(format!(
                "there is no vision feature {name:?}: use hidden_states[-1] or last_hidden_state"
            ))),
        }
    }
}

/// The position of `index` in a list of `count`, from the end when negative.
pub(super) fn place(index: i32, count: usize) -> Result<usize> {
    let found = match index < 0 {
        true => i64::from(index) + count as i64,
        false => i64::from(index),
    };
    usize::try_from(found)
        .ok()
        .filter(|found| *found < count)
        .ok_or_else(|| {
            Error::Config(format!(
                "there is no hidden_states[{index}]: this encoder has {count}, 0 to {}",
                count.saturating_sub(1)
            ))
        })
}
