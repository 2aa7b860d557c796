//! What a parameter is and where it stands: set where it is made, so that nobody has to know it by its name.

use std::fmt;
use std::sync::Arc;

/// What a weight is to the model that holds it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let parameters = vlm.named_parameters();
/// let a = parameters.iter().filter(|parameter| parameter.role == Role::LoraA).count();
/// let b = parameters.iter().filter(|parameter| parameter.role == Role::LoraB).count();
/// assert!(a > 0 && a == b); // they come in pairs
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A weight of the network itself.
    #[default]
    Base,
    /// LoRA's factor A, `[r, in]`.
    LoraA,
    /// LoRA's factor B, `[out, r]`.
    LoraB,
    /// DoRA's lengths of the rows of the adapted weight, `[out]`.
    LoraMagnitude,
    /// Rows of new tokens, which stand in for some of a table's: [`TokenRows`](super::TokenRows).
    NewRows,
    /// A vector of the prompt: start, end or query.
    PromptVector,
}

impl Role {
    /// Whether it belongs to LoRA: one of its two factors, or DoRA's lengths.
    pub fn is_lora(self) -> bool {
        matches!(self, Self::LoraA | Self::LoraB | Self::LoraMagnitude)
    }
}

/// The part of a vision-language model that a parameter belongs to. Its text is where the parameter's name begins, but for prompt
/// vectors.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let of = |part: VlmPart| -> usize {
///     let parameters = vlm.trainable_parameters();
///     parameters.iter().filter(|one| one.part.as_ref() == Some(&part)).map(Parameter::count).sum()
/// };
/// assert_eq!(of(VlmPart::Projector), (96 + 1) * 128 + (128 + 1) * 128);
/// assert!(of(VlmPart::Llm) > of(VlmPart::ImageEncoder)); // their LoRA
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VlmPart {
    /// `image_encoder`
    ImageEncoder,
    /// `projector`
    Projector,
    /// `start_vec`, `end_vec`, `query_vec`: each stands by itself.
    PromptVectors,
    /// `llm`
    Llm,
    /// `other_encoders.<name>.encoder`
    OtherEncoder(Arc<str>),
    /// `other_encoders.<name>.projector`
    OtherProjector(Arc<str>),
}

impl fmt::Display for VlmPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImageEncoder => f.write_str("image_encoder"),
            Self::Projector => f.write_str("projector"),
            Self::PromptVectors => f.write_str("prompt vectors"),
            Self::Llm => f.write_str("llm"),
            Self::OtherEncoder(name) => write!(f, "other_encoders.{name}.encoder"),
            Self::OtherProjector(name) => write!(f, "other_encoders.{name}.projector"),
        }
    }
}
