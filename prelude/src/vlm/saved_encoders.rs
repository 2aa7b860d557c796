//! What a fine-tune keeps of encoders besides the first: which they are, their projectors, their LoRA, and what of them trained.
//!
//! ```text
//! NamedEncoder ─► settings.json "other_encoders": SavedEncoder ─► the same encoder, given in code or found by its source
//!              ─► vlm.safetensors: other_encoders.<name>.projector.*, and .encoder.* where its own weights train
//!              ─► other_encoders/<name>/: its PEFT adapter, if it has LoRA
//! ```

use super::other_encoders::NamedEncoder;
use super::save::read_part;
use super::{BaseModels, Vlm};
use crate::lora::{TaskType, drop_adapter, load_adapter, save_adapter};
use crate::nn::{Checkpoint, Network, Parameter, PartMut, Weight};
use crate::projector::ProjectorKind;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folder of the encoders' adapters.
const ADAPTERS: &str = "other_encoders";

/// What a saved fine-tune says of an encoder besides the first.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SavedEncoder {
    pub(super) name: String,
    pub(super) kind: String,
    /// The folder or repository that its weights are in, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    pub(super) projector: ProjectorKind,
    /// The name of the projector's type, where it is one of the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    projector_type: Option<String>,
    /// Which of its outputs goes into the projector, where there is a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vision_feature: Option<String>,
    /// Whether its own weights are saved with the fine-tune.
    trained: bool,
    /// Which of them train, where it is not all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trains: Vec<String>,
    /// Whether it has LoRA.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lora: bool,
}

impl SavedEncoder {
    pub(super) fn of(other: &NamedEncoder) -> Self {
        let own = own_weights(&other.encoder);
        let trains = own.iter().filter(|p| p.is_trainable());
        let trains: Vec<String> = trains.map(|p| p.name.clone()).collect();
        let kind = other.projector.config.kind;
        Self {
            name: other.name.clone(),
            kind: other.encoder.kind(),
            source: other.encoder.source().map(ToOwned::to_owned),
            projector: kind,
            projector_type: (kind == ProjectorKind::Own).then(|| other.projector.kind()),
            vision_feature: other.encoder.feature().map(|feature| feature.to_string()),
            trained: !trains.is_empty(),
            trains: match trains.len() < own.len() {
                true => trains,
                false => Vec::new(),
            },
            lora: other.encoder.lora_config().is_some(),
        }
    }

    /// Makes those of the encoder's own weights train that did.
    fn unfreeze(&self, encoder: &mut dyn Network) -> Result<()> {
        let named: BTreeSet<&str> = self.trains.iter().map(String::as_str).collect();
        let trains =
            |weight: &Weight| self.trained && (named.is_empty() || named.contains(weight.name()));
        encoder.visit_mut(&mut |part| match part {
            PartMut::Weight(weight) => weight.set_trainable(trains(weight)),
            PartMut::Linear(linear) => {
                linear.weight.set_trainable(trains(&linear.weight))?;
                let bias = linear.bias.as_mut();
                bias.map_or(Ok(()), |bias| bias.set_trainable(trains(bias)))
            }
        })
    }
}

/// An encoder's weights without its LoRA.
fn own_weights(encoder: &dyn Network) -> Vec<Parameter> {
    let mut own = encoder.named_parameters();
    own.retain(|parameter| !parameter.role.is_lora());
    own
}

fn adapter(dir: &Path, name: &str) -> PathBuf {
    dir.join(ADAPTERS).join(name)
}

impl NamedEncoder {
    /// Whether any of its encoder's own weights train.
    pub(super) fn trains(&self) -> bool {
        own_weights(&self.encoder)
            .iter()
            .any(Parameter::is_trainable)
    }

    /// Its projector's weights, and the encoder's own where some of them train.
    pub(super) fn saved_weights(&self) -> Result<Vec<(String, Tensor)>> {
        let named = |part: &str, parameters: Vec<Parameter>| {
            let at = format!("other_encoders.{}.{part}", self.name);
            let one = |p: Parameter| Ok((format!("{at}.{}", p.name), p.values()?));
            parameters.into_iter().map(one).collect::<Result<Vec<_>>>()
        };
        let mut weights = named("projector", self.projector.named_parameters())?;
        if self.trains() {
            weights.extend(named("encoder", own_weights(&self.encoder))?);
        }
        Ok(weights)
    }

    /// Writes its LoRA, if it has any, as a PEFT adapter.
    pub(super) fn save_adapter(&self, dir: &Path) -> Result<()> {
        if self.encoder.lora_config().is_none() {
            return drop_adapter(&adapter(dir, &self.name));
        }
        let base = self.encoder.source();
        let base = base.filter(|base| BaseModels::is_in_file(base));
        save_adapter(
            &self.encoder,
            TaskType::None,
            base,
            adapter(dir, &self.name),
        )
    }
}

impl Vlm {
    /// Refuses a fine-tune with encoders that this model does not have, or has otherwise.
    pub(super) fn check_encoders(&self, saved: &[SavedEncoder], dir: &Path) -> Result<()> {
        for wanted in saved {
            let name = &wanted.name;
            let found = self.other_encoders.iter().find(|other| other.name == *name);
            let kind = found.map(|other| other.encoder.kind());
            if kind.as_ref() != Some(&wanted.kind) {
                return Err(Error::Config(format!(
                    "{}: the fine-tune was made with the encoder {name:?} of the kind {}, this model has {}: give it with \
                     `vlm.add_encoder({name:?}, …)` before you load it, or with `Preset::other_encoder({name:?}, …)`",
                    dir.display(),
                    wanted.kind,
                    kind.map_or_else(
                        || self.encoder_names().join(", "),
                        |kind| format!("a {kind} there")
                    ),
                )));
            }
            let projector = found.map(|other| &other.projector);
            let own = projector.filter(|own| own.config.kind == ProjectorKind::Own);
            if wanted.projector == ProjectorKind::Own
                && own.map(|own| own.kind()) != wanted.projector_type
            {
                return Err(Error::Config(format!(
                    "{}: the fine-tune was made with the projector {} behind the encoder {name:?}, which was given in code: give it \
                     with `vlm.set_projector_for({name:?}, own)?` before you load it",
                    dir.display(),
                    wanted
                        .projector_type
                        .as_deref()
                        .unwrap_or("of somebody's own")
                )));
            }
        }
        Ok(())
    }

    /// Reads what a fine-tune in `dir` changed of encoders besides the first; `file` holds its weights.
    pub(super) fn load_encoders(
        &mut self,
        saved: &[SavedEncoder],
        dir: &Path,
        file: &Path,
    ) -> Result<()> {
        let device = self.device().clone();
        let weights = Checkpoint::open(file, DType::F32, &device)?;
        for wanted in saved {
            let at = format!("other_encoders.{}", wanted.name);
            let other = self.other_encoder_mut(&wanted.name)?;
            if let Some(feature) = &wanted.vision_feature {
                other.encoder.set_feature(feature.parse()?)?;
            }
            let projector = other.projector.config.change();
            (projector.kind, projector.input) = (wanted.projector, other.encoder.dim());
            let own = weights.below(&format!("{at}.projector."));
            other.projector = other.projector.with_weights(&own)?;
            other.projector.positions(other.encoder.positions())?;
            if wanted.trained {
                let own = weights.below(&format!("{at}.encoder."));
                other
                    .encoder
                    .visit_mut(&mut |part| read_part(part, "", &own))?;
            }
            match wanted.lora {
                true => {
                    load_adapter(&mut other.encoder, adapter(dir, &wanted.name))?;
                }
                false => other.encoder.remove_lora()?,
            }
        }
        Ok(())
    }

    /// Makes those weights of encoders besides the first train that did.
    pub(super) fn unfreeze_encoders(&mut self, saved: &[SavedEncoder]) -> Result<()> {
        for wanted in saved {
            let other = self.other_encoder_mut(&wanted.name)?;
            wanted.unfreeze(&mut other.encoder)?;
        }
        Ok(())
    }
}
