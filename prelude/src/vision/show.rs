//! How encoders, their parts and settings show themselves.

use super::image::{AlphaPolicy, DecodeOptions, ExifPolicy};
use super::image_processor::Resize;
use super::resize::Resample;
use super::towers::TowerConfig;
use super::{Anyres, GridSplit, NanoSplit, TilePiece, Tiles, Tiling};
use super::{
    Encoder, ImageProcessor, ImageProcessorConfig, Modality, Positions, Rescaling, Stages,
};
use super::{Tower, ViTConfig, VisionFeature, Vit, VitLayer, VitOutput};
use crate::display::facts::{debug_by_facts, shown_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render};
use crate::nn::{LayerNorm, Linear, Parameter, Weight, show};
use candle_core::Tensor;

fn title(encoder: &dyn Modality) -> String {
    format!("{}: {}", encoder.kind(), positions(encoder))
}

/// How many positions an encoder gives, and how wide they are.
pub(crate) fn positions(encoder: &dyn Modality) -> String {
    let (count, dim) = (encoder.positions().count(), encoder.dim());
    match encoder.positions().is_of_the_input() {
        true => format!("as many positions as the input has parts, of {dim} values"),
        false => format!("{count} positions of {dim} values"),
    }
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
        let scale = |scale: &Option<Weight>| scale.as_ref().map(Weight::parameter);
        let mut all = norm(&self.layernorm_before).to_vec();
        all.extend(linear(&[
            &self.query,
            &self.key,
            &self.value,
            &self.attention_output,
        ]));
        all.extend(scale(&self.attention_scale));
        all.extend(norm(&self.layernorm_after));
        all.extend(linear(&[&self.intermediate, &self.output]));
        all.extend(scale(&self.output_scale));
        all
    }

    fn title(&self) -> String {
        let name = self.query.name();
        let end = [".attention", ".self_attn"]
            .into_iter()
            .find_map(|part| name.find(part));
        let end = end.unwrap_or(name.len());
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

impl Anyres {
    fn facts(&self) -> Facts {
        let sizes = self.pinpoints().len();
        Facts::fields(self.numbers())
            .titled("Anyres: LLaVA's way to cut pictures into tiles")
            .fact("sizes to fit into", sizes)
            .hint("`.tile(&image)?` gives tiles [N, 3, H, W], the whole first")
    }
}

impl GridSplit {
    fn facts(&self) -> Facts {
        Facts::fields(self.numbers())
            .titled("GridSplit: Idefics3's way to cut pictures into tiles")
            .hint("`.tile(&image)?` gives tiles [N, 3, H, W], the whole last")
    }
}

impl NanoSplit {
    fn facts(&self) -> Facts {
        Facts::fields(self.numbers())
            .titled("NanoSplit: nanoVLM's way to cut pictures into tiles")
            .hint("`.tile(&image)?` gives tiles [N, 3, H, W], the whole first if it is shown")
    }
}

impl Tiling {
    fn facts(&self) -> Facts {
        match self {
            Tiling::Anyres(way) => way.facts(),
            Tiling::Split(way) => way.facts(),
            Tiling::Nano(way) => way.facts(),
        }
    }
}

shown_by_facts!(
    VitOutput,
    Stages,
    ImageProcessor,
    Anyres,
    GridSplit,
    NanoSplit,
    Tiling
);
debug_by_facts!(Tiles);
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
    TilePiece,
);
