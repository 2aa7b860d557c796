//! Models of candle-transformers beside ours: its SigLIP as the frozen encoder of a model whose projector trains, its Llama as
//! the frozen decoder of the same sequences.
//!
//! `cargo run --release -p glassbox-prelude --features candle-transformers --example candle_models`; in a cell the crate is in
//! reach as `candle_transformers` once the session was started with `--features candle-transformers`.
//!
//! What its interfaces do not give, and so this cannot show: its weights are private, so that they are not listed, take no LoRA
//! and never train; its norms, its softmax and its rotary positions have no backward pass, so that no gradient comes through a
//! decoder to a projector in front of it; its Llama takes embeddings (`forward_input_embed`), but no padding mask (a batch must
//! be of one length), and gives the logits of the last place only, no hidden states and no attention maps.

use std::collections::HashMap;
use std::path::Path;

use glassbox_prelude::candle_transformers::models::{llama, siglip};
use glassbox_prelude::prelude::*;
use glassbox_prelude::vision::Resample;
use glassbox_prelude::{candle_core, candle_nn, serde_json};

use candle_nn::{Module, VarBuilder};

/// candle-transformers' SigLIP as an encoder. It lists no weights: they are private there.
#[derive(Clone, Debug)]
pub struct CandleSiglip {
    model: siglip::VisionModel,
    config: siglip::VisionConfig,
}

impl CandleSiglip {
    /// A folder with SigLIP's image half, as on the hub.
    pub fn load(dir: &Path) -> Result<Self> {
        let file = |name: &str| dir.join(name);
        let text = std::fs::read_to_string(file("config.json")).map_err(|source| Error::Io {
            path: file("config.json"),
            source,
        })?;
        let config = serde_json::from_str(&text).map_err(|source| Error::Json {
            path: file("config.json"),
            source,
        })?;
        let weights = candle_core::safetensors::load(file("model.safetensors"), &Device::Cpu)?;
        let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let model = siglip::VisionModel::new(&config, false, weights.pp("vision_model"))?;
        Ok(Self { model, config })
    }
}

parts!(CandleSiglip {});

impl Modality for CandleSiglip {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.model.forward(input)?.detach()) // [B, 3, S, S] → [B, P, D]
    }

    fn dim(&self) -> usize {
        self.config.hidden_size
    }

    fn positions(&self) -> Positions {
        let side = self.config.image_size / self.config.patch_size;
        Positions {
            special: 0,
            rows: side,
            columns: side,
        }
    }

    fn image_processor(&self) -> Option<ImageProcessorConfig> {
        Some(ImageProcessorConfig {
            resample: Resample::Bicubic,
            ..ImageProcessorConfig::vit(self.config.image_size as u32)
        })
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        Ok(TensorView::new(input).render())
    }
}

/// A model's own language model as candle-transformers' Llama: the same weights, with the fused projections of Phi-3 split.
pub struct CandleLlama {
    model: llama::Llama,
    config: llama::Config,
}

impl CandleLlama {
    /// From the model in `vlm`, which must have plain rotary positions and no LoRA.
    pub fn of(vlm: &Vlm) -> Result<Self> {
        let from = &vlm.llm.config;
        let (d, kv_heads) = (
            from.hidden_size,
            from.num_key_value_heads.unwrap_or(from.num_attention_heads),
        );
        let kv = d / from.num_attention_heads * kv_heads;
        let mut tensors = HashMap::new();
        for parameter in vlm.llm.named_parameters() {
            let (name, tensor) = (parameter.name, parameter.tensor.detach());
            let parts: &[(&str, usize, usize)] = match name.rsplit('.').nth(1) {
                Some("qkv_proj") => &[("q_proj", 0, d), ("k_proj", d, kv), ("v_proj", d + kv, kv)],
                Some("gate_up_proj") => {
                    let wide = from.intermediate_size;
                    &[("gate_proj", 0, wide), ("up_proj", wide, wide)]
                }
                _ => &[],
            };
            for (part, first, rows) in parts {
                let fused = if *part == "gate_proj" || *part == "up_proj" {
                    "gate_up_proj"
                } else {
                    "qkv_proj"
                };
                let rows = tensor.narrow(0, *first, *rows)?;
                tensors.insert(name.replace(fused, part), rows);
            }
            if parts.is_empty() {
                tensors.insert(name, tensor);
            }
        }
        let config = llama::Config {
            hidden_size: d,
            intermediate_size: from.intermediate_size,
            vocab_size: from.vocab_size,
            num_hidden_layers: from.num_hidden_layers,
            num_attention_heads: from.num_attention_heads,
            num_key_value_heads: kv_heads,
            use_flash_attn: false,
            rms_norm_eps: from.norm_eps,
            rope_theta: from.rope_theta as f32,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling: None,
            max_position_embeddings: from.max_position_embeddings,
            tie_word_embeddings: false,
        };
        let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Ok(Self {
            model: llama::Llama::load(weights, &config)?,
            config,
        })
    }

    /// An empty cache.
    pub fn cache(&self) -> Result<llama::Cache> {
        Ok(llama::Cache::new(
            true,
            DType::F32,
            &self.config,
            &Device::Cpu,
        )?)
    }

    /// Logits behind embeddings `[1, T, D]` that begin at place `first`: `[1, V]`.
    pub fn logits(
        &self,
        embeds: &Tensor,
        first: usize,
        cache: &mut llama::Cache,
    ) -> Result<Tensor> {
        Ok(self.model.forward_input_embed(embeds, first, cache)?)
    }

    /// The most probable continuation of a sequence of embeddings, with candle's cache.
    pub fn generate(&self, embeds: &Tensor, most: usize, eos: &[u32]) -> Result<Vec<u32>> {
        let mut cache = self.cache()?;
        let mut logits = self.logits(embeds, 0, &mut cache)?; // [1, V]
        let (mut ids, mut length) = (Vec::new(), embeds.dim(1)?);
        while ids.len() < most {
            let next = logits.squeeze(0)?.argmax(0)?.to_scalar::<u32>()?;
            if eos.contains(&next) {
                break;
            }
            ids.push(next);
            let embed = self.model.embed(&Tensor::new(&[[next]], &Device::Cpu)?)?; // [1, 1, D]
            logits = self.logits(&embed, length, &mut cache)?;
            length += 1;
        }
        Ok(ids)
    }
}

/// What the run found.
pub struct Findings {
    /// Validation loss of the projector behind candle's SigLIP, before and after.
    pub losses: (f64, f64),
    /// Largest difference of the logits of candle's Llama and ours behind a picture's sequence.
    pub logits: f32,
    /// What both write of a picture.
    pub texts: (String, String),
}

/// Trains the projector behind candle's SigLIP, then lets candle's Llama read a picture.
pub fn run(siglip: &Path) -> Result<Findings> {
    let settings = VlmSettings {
        vit_lora: None,
        llm_lora: None,
        prompt_vectors: PromptVectors::Fixed,
        ..VlmSettings::tiny()
    };
    // 1. Its SigLIP in the place of the encoder, frozen: only the projector trains.
    let preset = Preset::tiny()
        .settings(settings.clone())
        .encoder(CandleSiglip::load(siglip)?);
    let vlm = Vlm::from_pretrained(&preset, &Device::Cpu)?;
    let shapes = Shapes::new(ShapesConfig {
        image_size: 32,
        ..ShapesConfig::default()
    })?;
    let set: Vec<(Image, Vec<String>)> = (0..24)
        .map(|index| {
            let sample = shapes.sample(Split::Train, index)?;
            Ok((sample.image, sample.captions))
        })
        .collect::<Result<_>>()?;
    let config = TrainerConfig {
        batch_size: 4,
        steps: 40,
        validate_every: 0,
        validation_samples: 24,
        loss: LossKind::FullSequence,
        ..TrainerConfig::tour()
    };
    let report = Trainer::new(config)?.fit(&vlm, &set, &set)?;
    let losses = report
        .validation
        .ok_or_else(|| Error::Input("nothing was measured".into()))?;

    // 2. The tiny pretrained pair, whose language model is read by its Llama.
    let pair = Vlm::from_pretrained(&Preset::tiny().settings(settings), &Device::Cpu)?;
    let decoder = CandleLlama::of(&pair)?;
    let pixels = pair.image_processor.preprocess(&set[0].0)?;
    let sequence = pair.concatenate(&pair.image_tokens(&pixels)?, &Query::Vector, &[])?;
    let ours = pair.forward(&sequence)?.logits()?.clone(); // [1, V]
    let theirs = decoder.logits(&sequence.inputs_embeds, 0, &mut decoder.cache()?)?;
    let logits = (ours - theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
    let written = pair
        .generate_from(&pixels)
        .query(Query::Vector)
        .max_new_tokens(8)
        .run()?;
    let eos = pair.llm_processor.eos_ids();
    let ids = decoder.generate(&sequence.inputs_embeds, 8, eos)?;
    let ended = written.ids.iter().filter(|id| !eos.contains(id));
    let ours = pair
        .llm_processor
        .decode(&ended.copied().collect::<Vec<_>>())?;
    let text = pair.llm_processor.decode(&ids)?;
    Ok(Findings {
        losses,
        logits,
        texts: (ours, text),
    })
}

#[allow(dead_code, clippy::print_stdout)] // The tests use this file as a module.
fn main() -> Result<()> {
    let siglip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/towers/siglip");
    let found = run(&siglip)?;
    let (before, after) = found.losses;
    println!("candle's SigLIP in front, the projector trained: loss {before:.3} → {after:.3}");
    println!(
        "candle's Llama behind a picture: logits within {:.1e} of ours",
        found.logits
    );
    println!(
        "ours writes   {:?}\ncandle writes {:?}",
        found.texts.0, found.texts.1
    );
    Ok(())
}
