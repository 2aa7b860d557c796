//! How encoders, their parts and settings show themselves.

use super::image::{AlphaPolicy, DecodeOptions, ExifPolicy};
use super::image_processor::Resize;
use super::resize::Resample;
use super::towers::{Activation, TowerConfig};
use super::{
    Encoder, ImageProcessor, ImageProcessorConfig, Modality, Positions, Rescaling, Stages,
};
use super::{Tower, ViTConfig, VisionFeature, Vit, VitLayer, VitOutput};
use crate::display::facts::{debug_by_facts, shown_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render};
use crate::nn::{LayerNorm, Linear, Parameter, show};
use candle_core::Tensor;

fn title(encoder: &dyn Modality) -> String {
    let positions = encoder.positions();
    format!(
        "{}: {} positions of {} values",
        encoder.kind(),
        positions.count(),
        encoder.dim()
    )
}

fn facts(name: &str, encoder: &dyn Modality) -> Facts {
    Facts::new(format!("{name} {}", title(encoder)))
        .fact("parameters", show::parameters(&encoder.named_parameters()))
}

fn table(encoder: &dyn Modality) -> MimeBundle {
    show::network(title(encoder), &encoder.named_parameters()).render()
}

macro_rules! encoders {
    ($($type:ident by $inner:expr),+) => {$(
        impl $type {
            fn facts(&self) -> Facts {
                let inner: fn(&$type) -> &dyn Modality = $inner;
                facts(stringify!($type), inner(self))
            }
        }

        impl Render for $type {
            fn render(&self) -> MimeBundle {
                let inner: fn(&$type) -> &dyn Modality = $inner;
                table(inner(self))
            }
        }
    )+};
}
encoders!(Encoder by |encoder| &**encoder, Vit by |vit| vit, Tower by |tower| tower);
debug_by_facts!(Encoder, Vit, Tower);

impl VitLayer {
    fn parameters(&self) -> Vec<Parameter> {
        let norm = |norm: &LayerNorm| [norm.weight.parameter(), norm.bias.parameter()];
        let linear = |layers: &[&Linear]| -> Vec<Parameter> {
            layers.iter().flat_map(|layer| layer.parameters()).collect()
        };
        let mut all = norm(&self.layernorm_before).to_vec();
        all.extend(linear(&[
            &self.query,
            &self.key,
            &self.value,
            &self.attention_output,
        ]));
        all.extend(norm(&self.layernorm_after));
        all.extend(linear(&[&self.intermediate, &self.output]));
        all
    }

    fn title(&self) -> String {
        let name = self.query.name();
        let end = name.find(".attention").unwrap_or(name.len());
        format!("VitLayer {}", &name[..end])
    }

    fn facts(&self) -> Facts {
        Facts::new(self.title()).fact("parameters", show::parameters(&self.parameters()))
    }
}

impl Render for VitLayer {
    fn render(&self) -> MimeBundle {
        show::block(self.title(), &self.parameters()).render()
    }
}

debug_by_facts!(VitLayer);

fn several(tensors: &[Tensor]) -> Option<String> {
    let first = tensors.first()?;
    Some(format!("{} × {}", tensors.len(), show::shape(first)))
}

impl VitOutput {
    fn facts(&self) -> Facts {
        Facts::new("VitOutput: what comes out of a ViT")
            .fact("patch_embeddings", show::shape(&self.patch_embeddings))
            .fact_if("hidden_states", several(&self.hidden_states))
            .fact("last_hidden_state", show::shape(&self.last_hidden_state))
            .fact_if(
                "pooler_output",
                self.pooler_output.as_ref().map(show::shape),
            )
            .fact_if(
                "classifier_logits",
                self.classifier_logits.as_ref().map(show::shape),
            )
            .fact_if("attentions", several(&self.attentions))
    }
}

impl Stages {
    fn facts(&self) -> Facts {
        let named = self.named.iter();
        named
            .fold(
                Facts::new("Stages of an encoder"),
                |facts, (name, tensor)| facts.fact(name.as_str(), show::shape(tensor)),
            )
            .fact("features", show::shape(&self.features))
    }
}

impl ImageProcessor {
    fn facts(&self) -> Facts {
        if let Some((kind, takes)) = self.refused() {
            return Facts::new("ImageProcessor: none").hint(format!(
                "the encoder {kind} takes no pictures: give it {takes}"
            ));
        }
        let fields = Facts::fields(self.config());
        fields
            .titled("ImageProcessor: picture → pixel values")
            .hint("`.preprocess(&image)?` gives pixel values [1, 3, H, W]")
    }
}

shown_by_facts!(VitOutput, Stages, ImageProcessor);
shown_by_fields!(
    ViTConfig,
    TowerConfig,
    ImageProcessorConfig,
    Positions,
    VisionFeature,
    Rescaling,
    Resize,
    Resample,
    AlphaPolicy,
    ExifPolicy,
    DecodeOptions,
    Activation,
);
