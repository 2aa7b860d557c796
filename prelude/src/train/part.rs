//! The parts of a model that train, each of which may have a learning rate and a weight decay of its own.

use serde::{Deserialize, Serialize};

use crate::nn::{Parameter, Role, VlmPart};

/// A part of a model, as settings name it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let mut values = std::collections::BTreeMap::new();
/// for parameter in vlm.trainable_parameters() {
///     *values.entry(TrainedPart::of(&parameter).name()).or_insert(0) += parameter.tensor.elem_count();
/// }
/// assert!(values.contains_key("projector"));
/// assert!(!values.contains_key("encoder")); // frozen
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainedPart {
    /// The projector, and those of other encoders.
    Projector,
    /// LoRA on the language model.
    LlmLora,
    /// LoRA on an encoder.
    EncoderLora,
    /// Start, end and query vectors.
    Vectors,
    /// Rows of new tokens in embedding table and head.
    NewRows,
    /// An encoder's own weights, where they train.
    Encoder,
    /// The language model's own weights, where they train.
    Llm,
}

/// What one part has of its own; what is left out is as for all.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let slower = PartSettings { learning_rate: Some(1e-4), weight_decay: None }; // the run's weight decay
/// let mut settings = TrainerSettings::tour();
/// settings.parts.insert(TrainedPart::LlmLora, slower);
/// assert_eq!(TrainerSettings::from_json(r#"{"parts": {"llm_lora": {"learning_rate": 1e-4}}}"#)?.parts, settings.parts);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartSettings {
    /// The highest learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// AdamW's decoupled weight decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

impl TrainedPart {
    /// The part that a parameter of a [`Vlm`](crate::vlm::Vlm) belongs to.
    pub fn of(parameter: &Parameter) -> Self {
        let lora = parameter.role.is_lora();
        match (&parameter.part, parameter.role) {
            (Some(VlmPart::Projector | VlmPart::OtherProjector(_)), _) => Self::Projector,
            (Some(VlmPart::ImageEncoder | VlmPart::OtherEncoder(_)), _) if lora => {
                Self::EncoderLora
            }
            (Some(VlmPart::ImageEncoder | VlmPart::OtherEncoder(_)), _) => Self::Encoder,
            (Some(VlmPart::PromptVectors), _) | (_, Role::PromptVector) => Self::Vectors,
            (_, Role::NewRows) => Self::NewRows,
            (Some(VlmPart::Llm) | None, _) if lora => Self::LlmLora,
            (Some(VlmPart::Llm) | None, _) => Self::Llm,
        }
    }

    /// As settings write it: `llm_lora`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Projector => "projector",
            Self::LlmLora => "llm_lora",
            Self::EncoderLora => "encoder_lora",
            Self::Vectors => "vectors",
            Self::NewRows => "new_rows",
            Self::Encoder => "encoder",
            Self::Llm => "llm",
        }
    }
}

/// Whether it is LoRA's B, which LoRA+ moves faster than A.
pub(super) fn is_lora_b(parameter: &Parameter) -> bool {
    parameter.role == Role::LoraB
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Weight;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn a_part_is_known_by_where_the_parameter_stands() -> crate::Result<()> {
        let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
        let at = |part: &VlmPart, role: Role| {
            let weight = Weight::frozen("w", tensor.clone()).with_role(role);
            weight.parameter().of_part(part)
        };
        let near = || "near".into();
        let cases = [
            (VlmPart::Projector, Role::Base, TrainedPart::Projector),
            (
                VlmPart::OtherProjector(near()),
                Role::Base,
                TrainedPart::Projector,
            ),
            (
                VlmPart::OtherEncoder(near()),
                Role::Base,
                TrainedPart::Encoder,
            ),
            (
                VlmPart::OtherEncoder(near()),
                Role::LoraB,
                TrainedPart::EncoderLora,
            ),
            (VlmPart::ImageEncoder, Role::LoraA, TrainedPart::EncoderLora),
            (VlmPart::ImageEncoder, Role::Base, TrainedPart::Encoder),
            (
                VlmPart::PromptVectors,
                Role::PromptVector,
                TrainedPart::Vectors,
            ),
            (VlmPart::Llm, Role::NewRows, TrainedPart::NewRows),
            (VlmPart::Llm, Role::LoraB, TrainedPart::LlmLora),
            (VlmPart::Llm, Role::Base, TrainedPart::Llm),
        ];
        for (place, role, part) in cases {
            assert_eq!(TrainedPart::of(&at(&place, role)), part, "{place} {role:?}");
            assert_eq!(
                serde_json::to_value(part).expect("a word"),
                part.name(),
                "files name it alike"
            );
        }
        Ok(())
    }
}
