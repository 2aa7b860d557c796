//! nanoVLM in its own layout, e.g. <https://huggingface.co/lusxvr/nanoVLM-222M>: SigLIP, pixel shuffle and a linear layer, Llama, under names of
//! its own. A folder has one flat `config.json` without `model_type`, and the name of a repository in the place of a tokenizer.
//!
//! The code changed with the models, and the fields tell its days apart:
//!
//! | days | fields | a picture | a prompt |
//! |---|---|---|---|
//! | v0.1 | no `vlm_extra_tokens` | one square, in front of the text | `Question: … Answer:` |
//! | v0.2 | `vlm_extra_tokens`, `mp_image_token_length` | one square, at `image_token` | `Question: … Answer:` |
//! | June 2025 | and `lm_chat_template` | one square each | the chat template |
//! | since July | and `max_img_size` | tiles, each named | the chat template, several pictures numbered |
//! | since August | and `global_image_token` | tiles, the whole in front | the same |

use super::folder::Folder;
use super::idefics3::shuffled;
use super::{Blueprint, Layout, text_model};
use crate::language::LlmProcessor;
use crate::nn::checkpoint::Rule;
use crate::nn::{Activation, Checkpoint};
use crate::projector::{PixelShuffle, Projector};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::{
    ImageProcessor, ImageProcessorConfig, NanoSplit, Tiling, TowerConfig, VisionFeature,
};
use serde_json::{Map, Value, json};

pub(super) const LAYOUT: Layout = Layout {
    name: "nanoVLM",
    model_type: "nanovlm",
    architecture: "VisionLanguageModel",
    names: &[TIED_NAMES, NAMES],
    template: None,
    video: None,
    read,
};

macro_rules! names {
    ($($head:expr),+) => {
        &[
            Rule::new("vision_encoder.patch_embedding.conv.", &["image_encoder.embeddings.patch_embedding."]),
            Rule::new(
                "vision_encoder.patch_embedding.position_embedding",
                &["image_encoder.embeddings.position_embedding.weight"],
            ),
            Rule::new("vision_encoder.blocks.*.ln1.", &["image_encoder.encoder.layers.*.layer_norm1."]),
            Rule::new("vision_encoder.blocks.*.ln2.", &["image_encoder.encoder.layers.*.layer_norm2."]),
            Rule::new(
                "vision_encoder.blocks.*.attn.qkv_proj.",
                &[
                    "image_encoder.encoder.layers.*.self_attn.q_proj.",
                    "image_encoder.encoder.layers.*.self_attn.k_proj.",
                    "image_encoder.encoder.layers.*.self_attn.v_proj.",
                ],
            ),
            Rule::new("vision_encoder.blocks.*.attn.", &["image_encoder.encoder.layers.*.self_attn."]),
            Rule::new("vision_encoder.blocks.*.mlp.", &["image_encoder.encoder.layers.*.mlp."]),
            Rule::new("vision_encoder.layer_norm.", &["image_encoder.post_layernorm."]),
            Rule::new("MP.proj.", &["projector.fc1."]),
            Rule::new("decoder.rotary_embd.", &["llm.model.rotary_emb."]),
            Rule::new("decoder.blocks.*.norm1.", &["llm.model.layers.*.input_layernorm."]),
            Rule::new("decoder.blocks.*.norm2.", &["llm.model.layers.*.post_attention_layernorm."]),
            Rule::new("decoder.blocks.*.attn.out_proj.", &["llm.model.layers.*.self_attn.o_proj."]),
            Rule::new("decoder.blocks.*.attn.", &["llm.model.layers.*.self_attn."]),
            Rule::new("decoder.blocks.*.mlp.", &["llm.model.layers.*.mlp."]),
            Rule::new("decoder.norm.", &["llm.model.norm."]),
            $($head),+
        ]
    };
}

const NAMES: &[Rule] = names!(
    Rule::new("decoder.token_embedding.", &["llm.model.embed_tokens."]),
    Rule::new("decoder.head.", &["llm.lm_head."])
);
/// Of a matrix that is both, safetensors keeps the first name.
const TIED_NAMES: &[Rule] = names!(Rule::new("decoder.head.", &["llm.model.embed_tokens."]));

/// What marks a picture's place where the model has no token for it.
const PLACE: &str = "<|image|>";

fn read(fields: &mut Fields, folder: &Folder) -> Complaint<Blueprint> {
    let tower = TowerConfig {
        model_type: "siglip_vision_model".into(),
        hidden_size: needed(fields, "vit_hidden_dim")?,
        intermediate_size: needed(fields, "vit_inter_dim")?,
        num_hidden_layers: needed(fields, "vit_n_blocks")?,
        num_attention_heads: needed(fields, "vit_n_heads")?,
        image_size: needed(fields, "vit_img_size")?,
        patch_size: needed(fields, "vit_patch_size")?,
        num_channels: 3,
        layer_norm_eps: fields.take_or("vit_ln_eps", 1e-6)?,
        activation: Activation::GeluTanh,
        qkv_bias: true,
    };
    let tower = tower.checked()?;
    let llm = language_model(fields)?;
    for (name, value, why) in [
        ("vit_cls_flag", json!(false), "a class token in the place of the patches leaves nothing to shuffle"),
        ("vit_dropout", json!(0), "there is no dropout in the encoder here"),
        ("lm_dropout", json!(0), "there is no dropout in the language model here"),
        ("lm_attn_scaling", json!(1), "rotary positions are not scaled here"),
        ("lm_use_tokens", json!(false), "a model that takes tokens only sees no pictures"),
    ] {
        fields.only(name, &value, why)?;
    }
    // Where it came from, how it was trained, and figures that others follow from.
    fields.ignore(&[
        "extra_token_amount",
        "hf_repo_name",
        "lm_base_vocab_size",
        "lm_eos_token_id",
        "lm_max_length",
        "lm_model_type",
        "vit_model_type",
        "vlm_checkpoint_path",
        "vlm_load_backbone_weights",
    ]);
    let factor: usize = needed(fields, "mp_pixel_shuffle_factor")?;
    let tokens = shuffled(&tower, factor, "mp_pixel_shuffle_factor")?;
    let length: Option<usize> = fields.take("mp_image_token_length")?;
    if length.is_some_and(|length| length != tokens) {
        return Err(format!(
            "mp_image_token_length is {}, a tile becomes {tokens} tokens (vit_img_size, vit_patch_size, mp_pixel_shuffle_factor)",
            length.unwrap_or_default()
        ));
    }
    let extra = extra_tokens(fields)?;
    if !extra.is_empty() && length.is_none() {
        return Err(
            "vlm_extra_tokens without mp_image_token_length is of a day between v0.1 and v0.2, which is not read: add \
             mp_image_token_length if the model was trained with v0.2's prompts"
                .into(),
        );
    }
    let image_token = match extra.iter().find(|(name, _)| name == "image_token") {
        Some((_, token)) => token.clone(),
        None if extra.is_empty() => PLACE.into(),
        None => return Err("vlm_extra_tokens has no image_token".into()),
    };
    let side = tower.image_size as u32;
    let tiling = tiling(fields, side, &extra)?;
    let chat: Option<String> = fields.take("lm_chat_template")?;
    if chat.is_none() && tiling.is_some() {
        return Err("max_img_size without lm_chat_template: no day of nanoVLM had that".into());
    }
    let template = match &chat {
        Some(own) => flattened(own, &image_token, tiling.is_some()),
        None => question(&image_token),
    };
    let name: String = needed(fields, "lm_tokenizer")?;
    let values: Vec<String> = extra.into_iter().map(|(_, token)| token).collect();
    let words = tokenizer(folder, &name, &values)?.with_chat_template(template);
    let square = ImageProcessorConfig {
        normalize: None,
        ..ImageProcessorConfig::vit(side)
    };
    let image_processor = ImageProcessor::new(square).map_err(|error| error.to_string())?;
    let (input, output) = (tower.hidden_size, llm.hidden_size);
    let projector = move |weights: &Checkpoint, _| {
        let shuffle = PixelShuffle::read(weights, factor, input, output, false)?;
        Ok(Projector::from(shuffle))
    };
    Ok(Blueprint {
        tower,
        feature: VisionFeature::LastHiddenState,
        llm,
        projector: Box::new(projector),
        image_processor,
        tiling,
        image_token,
        words: Some(words),
    })
}

/// A field that its code always writes.
fn needed<T: serde::de::DeserializeOwned>(fields: &mut Fields, name: &str) -> Complaint<T> {
    fields
        .take(name)?
        .ok_or_else(|| format!("{name} is missing"))
}

/// The `lm_…` fields as those of a Llama.
fn language_model(fields: &mut Fields) -> Complaint<crate::language::DecoderConfig> {
    let mut llama = Map::new();
    for (theirs, ours) in [
        ("lm_vocab_size", "vocab_size"),
        ("lm_hidden_dim", "hidden_size"),
        ("lm_inter_dim", "intermediate_size"),
        ("lm_n_blocks", "num_hidden_layers"),
        ("lm_n_heads", "num_attention_heads"),
        ("lm_n_kv_heads", "num_key_value_heads"),
        ("lm_rms_eps", "rms_norm_eps"),
        ("lm_re_base", "rope_theta"),
        ("lm_max_position_embeddings", "max_position_embeddings"),
        ("lm_tie_weights", "tie_word_embeddings"),
    ] {
        llama.insert(ours.into(), needed(fields, theirs)?);
    }
    text_model::decoder(Value::Object(llama), "llama", false)
        .map_err(|complaint| format!("of the lm_… fields, by Llama's names: {complaint}"))
}

/// Names and tokens, in their order.
fn extra_tokens(fields: &mut Fields) -> Complaint<Vec<(String, String)>> {
    let extra: Map<String, Value> = fields.take_or("vlm_extra_tokens", Map::new())?;
    let pairs = extra.into_iter().map(|(name, token)| match token {
        Value::String(token) => Ok((name, token)),
        other => Err(format!("vlm_extra_tokens.{name} is {other}, which is no text")),
    });
    pairs.collect()
}

fn tiling(
    fields: &mut Fields,
    side: u32,
    extra: &[(String, String)],
) -> Complaint<Option<Tiling>> {
    let enlarge = fields.take_or("resize_to_max_side_len", false)?;
    let Some(most) = fields.take::<u32>("max_img_size")? else {
        return Ok(None);
    };
    let way = NanoSplit::new(side, most, enlarge, extra.iter().cloned().collect());
    Ok(Some(Tiling::Nano(way.map_err(|error| error.to_string())?)))
}

/// The tokenizer that lies in the folder, else that of the repository which the config names, with the model's own tokens.
fn tokenizer(folder: &Folder, name: &str, extra: &[String]) -> Complaint<LlmProcessor> {
    let read = || {
        let there = folder.dir.join("tokenizer.json").is_file();
        let from = match there {
            true => folder.dir.clone(),
            false => crate::hub::resolve_tokenizer(name, &folder.hub)?,
        };
        Ok(LlmProcessor::from_dir(from)?.with_new_tokens(extra)?.0)
    };
    read().map_err(|error: crate::Error| {
        format!(
            "lm_tokenizer is {name:?}: {error}. A tokenizer.json (and tokenizer_config.json) beside config.json is read in its place"
        )
    })
}

/// `Question: … Answer:` of v0.1 and v0.2: one question, pictures in front.
fn question(image_token: &str) -> String {
    format!(
        "{{% for message in messages %}}{{% if loop.first and message['role'] == 'user' %}}\
         {{% if message['content'] is string %}}{{{{ 'Question: ' + message['content'] + ' Answer:' }}}}{{% else %}}\
         {{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}{{{{ {token} }}}}{{% endif %}}{{% endfor %}}\
         {{{{ 'Question: ' }}}}\
         {{% for part in message['content'] %}}{{% if part['type'] == 'text' %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}\
         {{{{ ' Answer:' }}}}{{% endif %}}\
         {{% elif loop.index == 2 and message['role'] == 'assistant' %}}\
         {{% if message['content'] is string %}}{{{{ message['content'] }}}}{{% else %}}\
         {{% for part in message['content'] %}}{{{{ part['text'] }}}}{{% endfor %}}{{% endif %}}{{{{ eos_token }}}}\
         {{% else %}}{{{{ raise_exception('a nanoVLM of this day reads one question, and its answer') }}}}{{% endif %}}{{% endfor %}}",
        token = json!(image_token)
    )
}

/// The model's own template, which takes texts, behind one that makes texts of parts: pictures as their token, numbered where a turn
/// shows several in tiles.
fn flattened(own: &str, image_token: &str, numbered: bool) -> String {
    let number = match numbered {
        true => "{% if pictures > 1 %}{% set said.text = said.text ~ '<image: ' ~ said.shown ~ '>' %}{% endif %}",
        false => "",
    };
    format!(
        "{{% set flat = namespace(messages=[]) %}}{{% for message in messages %}}{{% if message['content'] is string %}}\
         {{% set flat.messages = flat.messages + [message] %}}{{% else %}}\
         {{% set pictures = message['content'] | selectattr('type', 'equalto', 'image') | list | length %}}\
         {{% set said = namespace(text='', shown=0) %}}{{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}{number}\
         {{% set said.text = said.text ~ {token} %}}{{% set said.shown = said.shown + 1 %}}{{% else %}}\
         {{% set said.text = said.text ~ part['text'] %}}{{% endif %}}{{% endfor %}}\
         {{% set flat.messages = flat.messages + [{{'role': message['role'], 'content': said.text}}] %}}{{% endif %}}{{% endfor %}}\
         {{% set messages = flat.messages %}}{{{{ '' }}}}{own}",
        token = json!(image_token)
    )
}
