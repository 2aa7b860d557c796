//! Which of an encoder's outputs goes into the projector: a setting, by the reference's names.

use candle_core::Tensor;

use crate::{Error, Result};

/// As many hidden states side by side as there may be.
const MOST_STATES: usize = 16;

/// Which of the encoder's outputs goes into the projector.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let config = ViTConfig::new(32, 8, 16, 32, 2, 2);
/// let last = Vit::new_random(&config, 1, &Device::Cpu)?;
/// let one_before = last.clone().with_feature(VisionFeature::HiddenState(-2))?; // as LLaVA does
/// assert_eq!(one_before.feature.to_string(), "hidden_states[-2]");
/// let pixel_values = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let states = last.forward(&pixel_values)?.hidden_states;
/// assert_eq!(one_before.encode(&pixel_values)?.to_vec3::<f32>()?, states[1].to_vec3::<f32>()?);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionFeature {
    /// `hidden_states[i]`, counted from the end when negative: -1 is the last layer's output *before* the final
    /// LayerNorm. The blog's choice.
    HiddenState(i32),
    /// Several of them side by side, so that a position is as wide as all of them: `hidden_states[-2,-5]`. LLaVA's
    /// `vision_feature_layer` may be such a list. [`VisionFeature::hidden_states`] makes it.
    HiddenStates {
        /// The first `count` of these.
        indices: [i32; MOST_STATES],
        /// How many they are.
        count: usize,
    },
    /// After the final LayerNorm.
    LastHiddenState,
}

impl VisionFeature {
    /// The hidden states of these indices side by side; of one, that one.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let settings = VlmSettings { vision_feature: VisionFeature::hidden_states(&[-1, 1])?, ..vlm.settings.clone() };
    /// let wide = vlm.with_settings(settings, 0)?; // its projector is twice as wide in front
    /// assert_eq!(wide.projector.config.input, 2 * vlm.projector.config.input);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for none, or more than 16.
    pub fn hidden_states(indices: &[i32]) -> Result<Self> {
        match *indices {
            [] => Err(Error::Config(
                "a vision feature of no hidden states: name at least one".into(),
            )),
            [index] => Ok(Self::HiddenState(index)),
            _ if indices.len() > MOST_STATES => Err(Error::Config(format!(
                "a vision feature of {} hidden states side by side: at most {MOST_STATES} are supported",
                indices.len()
            ))),
            _ => {
                let mut all = [0; MOST_STATES];
                all[..indices.len()].copy_from_slice(indices);
                Ok(Self::HiddenStates {
                    indices: all,
                    count: indices.len(),
                })
            }
        }
    }

    /// How many times an encoder's own width a position of it is wide.
    pub fn states(&self) -> usize {
        match self {
            VisionFeature::HiddenStates { count, .. } => *count,
            VisionFeature::HiddenState(_) | VisionFeature::LastHiddenState => 1,
        }
    }

    /// How many of an encoder's layers it needs.
    ///
    /// # Errors
    /// `Config` when there is no such hidden state.
    pub(super) fn depth(&self, layers: usize) -> Result<usize> {
        match self {
            VisionFeature::HiddenState(index) => place(*index, layers + 1),
            VisionFeature::HiddenStates { indices, count } => {
                let places = indices
                    .iter()
                    .take(*count)
                    .map(|index| place(*index, layers + 1));
                let places = places.collect::<Result<Vec<_>>>()?;
                places.into_iter().max().ok_or_else(|| {
                    Error::Config("a vision feature of no hidden states: name at least one".into())
                })
            }
            VisionFeature::LastHiddenState => Ok(layers),
        }
    }

    /// What it names, of an encoder's hidden states, `[B, P, D]` each, which reach at least as far as its depth.
    pub(super) fn of(
        &self,
        states: &[Tensor],
        layers: usize,
        final_norm: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let state = |index: i32| {
            let state = states.get(place(index, layers + 1)?);
            state.ok_or_else(|| Error::Config(format!("hidden_states[{index}] was not computed")))
        };
        match self {
            VisionFeature::HiddenState(index) => Ok(state(*index)?.clone()),
            VisionFeature::HiddenStates { indices, count } => {
                let several = indices.iter().take(*count).map(|index| state(*index));
                Ok(Tensor::cat(&several.collect::<Result<Vec<_>>>()?, 2)?) // [B, P, n·D]
            }
            VisionFeature::LastHiddenState => final_norm(state(-1)?),
        }
    }
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
            VisionFeature::HiddenStates { indices, count } => {
                let indices = indices.iter().take(*count).map(ToString::to_string);
                write!(
                    f,
                    "hidden_states[{}]",
                    indices.collect::<Vec<_>>().join(",")
                )
            }
            VisionFeature::LastHiddenState => f.write_str("last_hidden_state"),
        }
    }
}

impl std::str::FromStr for VisionFeature {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let list = name
            .strip_prefix("hidden_states[")
            .and_then(|rest| rest.strip_suffix(']'));
        let indices = list.map(|list| {
            let all = list.split(',').map(|index| index.trim().parse());
            all.collect::<std::result::Result<Vec<i32>, _>>()
        });
        match (name, indices) {
            ("last_hidden_state", _) => Ok(VisionFeature::LastHiddenState),
            (_, Some(Ok(indices))) => VisionFeature::hidden_states(&indices),
            _ => Err(Error::Config(format!(
                "there is no vision feature {name:?}: use hidden_states[-1], hidden_states[-2,-5] for several side by side, or \
                 last_hidden_state"
            ))),
        }
    }
}

/// The position of `index` in a list of `count`, from the end when negative.
fn place(index: i32, count: usize) -> Result<usize> {
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
