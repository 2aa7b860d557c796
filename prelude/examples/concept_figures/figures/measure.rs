//! The sizes of the tiny model, taken from tensors that it made.

use glassbox_prelude::nn::{AttentionRule, LoraTargets, Sight, Visibility};
use glassbox_prelude::prelude::*;

use super::sizes::{Mask, Sizes};

/// The caption that stands in the figures.
const CAPTION: &str = "a red circle and a blue square";
/// The parts of the interleaved sequence, a picture with fewer tokens than the model's so that they can be drawn.
const SHOTS: [(bool, usize); 6] = [
    (true, 3),
    (false, 2),
    (true, 3),
    (false, 2),
    (true, 3),
    (false, 1),
];

/// Of [`Vlm::tiny`].
///
/// # Errors
/// When the model cannot be made or run.
pub fn tiny() -> Result<Sizes> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let vit = vlm.image_encoder.vit()?;
    let [side, patch] = [vit.config.image_size, vit.config.patch_size];
    let picture = Tensor::zeros((1, 3, side, side), DType::F32, &Device::Cpu)?; // [1, 3, S, S]
    let features = vlm.image_encoder.encode(&picture)?; // [1, P, D_image]
    let image_tokens = vlm.image_tokens(&picture)?; // [1, P, D]
    let (_, tokens, encoder_width) = features.dims3()?;
    let (_, image, width) = image_tokens.dims3()?;
    let mlp = vlm.projector.mlp()?;
    let projector = [
        mlp.fc1.weight.tensor().dims2()?,
        mlp.fc2.weight.tensor().dims2()?,
    ];
    let values = vlm
        .projector
        .trainable_parameters()
        .iter()
        .map(Parameter::count)
        .sum();

    let caption = vlm.caption_ids(CAPTION)?;
    let sequence = vlm.concatenate(
        &image_tokens,
        &Query::Vector,
        std::slice::from_ref(&caption),
    )?; // [1, T, D]
    let [start, end, query] = [&vlm.start_vec, &vlm.end_vec, &vlm.query_vec]
        .map(|vector| vector.tensor().dims3().map(|(_, tokens, _)| tokens));
    let prompt = [start?, image, end?, query?];
    same(
        "tokens of the sequence",
        sequence.lengths[0],
        prompt.iter().sum::<usize>() + caption.len(),
    )?;
    let logits = vlm.forward(&sequence)?.logits()?.clone(); // [1, V]

    let config = &vlm.llm.config;
    let heads = (
        config.num_hidden_layers,
        config.kv_heads(),
        config.head_dim(),
    );
    let cache = vlm.llm.new_cache(1, 8)?;
    let bytes = vlm.llm.dtype().size_in_bytes();
    same(
        "bytes of a cache of 8 tokens",
        cache.bytes(),
        8 * 2 * heads.0 * heads.1 * heads.2 * bytes,
    )?;

    let name = "model.layers.0.self_attn.qkv_proj";
    let (mut layer, mut matrices, mut adapted) = (None, 0, 0);
    vlm.llm.visit(&mut |part| {
        if let Part::Linear(linear) = part
            && linear.name().contains(".layers.")
        {
            matrices += 1;
            adapted += usize::from(linear.lora.is_some());
            if linear.name() == name {
                layer = Some(linear.clone());
            }
        }
    });
    same(
        "matrices with LoRA, where a figure says all",
        adapted,
        matrices,
    )?;
    let layer = layer.ok_or_else(|| Error::Input(format!("there is no layer {name}")))?;
    let lora = layer
        .lora
        .clone()
        .ok_or_else(|| Error::Input(format!("{name} has no LoRA")))?;
    let (out, inner) = layer.weight.tensor().dims2()?;
    let (r, _) = lora.a.tensor().dims2()?;
    let Some(LoraTargets::Names(of_encoder)) = vlm
        .settings
        .vit_lora
        .clone()
        .map(|lora| lora.target_modules)
    else {
        return Err(Error::Input(
            "the encoder has no LoRA on layers by name".into(),
        ));
    };

    Ok(Sizes {
        side,
        patch,
        encoder: (encoder_width, vit.config.num_hidden_layers, tokens),
        encoder_lora: of_encoder.join(", "),
        projector,
        projector_values: values,
        vocabulary: logits.dims2()?.1,
        width,
        layers: heads,
        bytes,
        prompt,
        caption: caption
            .iter()
            .map(|id| vlm.llm_processor.token(*id).replace('▁', " "))
            .collect(),
        layer: ("qkv_proj of a layer".into(), out, inner),
        lora: (r, lora.scale),
        masks: masks(&vlm)?,
        shots: SHOTS.to_vec(),
    })
}

/// Where the attention probabilities of a forward pass are above zero.
fn masks(vlm: &Vlm) -> Result<Vec<Mask>> {
    let (mut inputs, mut tokens) = (Vec::new(), 0);
    for (picture, count) in SHOTS {
        if picture {
            inputs.push(tokens..tokens + count);
        }
        tokens += count;
    }
    let ids: Vec<u32> = (5..5 + tokens as u32).collect(); // any vectors: who sees whom is the rule's alone
    let vectors = vlm.llm.embed_ids(&ids)?; // [1, T, D]
    let rules = [
        ("causal", AttentionRule::Causal),
        ("last input (Flamingo)", AttentionRule::LastInput),
        ("prefix-LM (PaliGemma)", AttentionRule::PrefixLm),
    ];
    let mut masks = Vec::new();
    for (name, rule) in rules {
        let sight = Sight {
            rule,
            inputs: inputs.clone(),
        };
        let input = LlmInput::embeds(&vectors)
            .visibility(&Visibility::new(vec![sight])?)
            .with_attentions();
        let looks = vlm.llm.forward(&input)?.attentions[0].get(0)?.mean(0)?; // [T, T]
        let seen = looks
            .to_vec2::<f32>()?
            .into_iter()
            .map(|row| row.into_iter().map(|p| p > 0.0).collect());
        masks.push((name, seen.collect()));
    }
    Ok(masks)
}

/// What two ways to count must agree on.
fn same(what: &str, found: usize, counted: usize) -> Result<()> {
    if found == counted {
        return Ok(());
    }
    Err(Error::Input(format!(
        "{what}: {found}, but {counted} was counted"
    )))
}
