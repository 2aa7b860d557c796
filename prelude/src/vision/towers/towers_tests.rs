//! Tests of the towers' configs: every field read or refused, families told apart.

use super::*;

fn read(text: &str) -> Result<TowerConfig> {
    TowerConfig::from_json(text, Path::new("config.json"))
}

#[test]
fn configs_of_whole_models_and_of_towers_are_read() -> Result<()> {
    let whole =
        read(r#"{"model_type": "clip", "vision_config": {"image_size": 224, "patch_size": 16}}"#)?;
    let tower = read(r#"{"model_type": "clip_vision_model", "patch_size": 16}"#)?;
    assert_eq!(whole, tower);
    assert_eq!(
        (tower.activation, tower.grid()),
        (Activation::QuickGelu, 14)
    );
    let dino = read(
        r#"{"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6, "image_size": 518}"#,
    )?;
    assert_eq!((dino.intermediate_size, dino.grid()), (1536, 37));
    Ok(())
}

#[test]
fn bad_configs_say_why() {
    for (text, words) in [
        (r#"{"model_type": "vit"}"#, "none of CLIP"),
        (
            r#"{"model_type": "dinov2", "use_swiglu_ffn": true}"#,
            "use_swiglu_ffn",
        ),
        (
            r#"{"model_type": "dinov2", "image_size": 200}"#,
            "does not divide image_size",
        ),
        (
            r#"{"model_type": "siglip_vision_model", "hidden_act": "relu"}"#,
            "hidden_act",
        ),
        (
            r#"{"model_type": "siglip_vision_model", "patch_size": 0}"#,
            "patch_size is 0",
        ),
        (
            r#"{"model_type": "dinov2", "mlp_ratio": 3, "intermediate_size": 100}"#,
            "mlp_ratio 3",
        ),
        (
            r#"{"model_type": "clip_vision_model", "image_size": [224, 196]}"#,
            "224×196",
        ),
        (
            r#"{"model_type": "clip_vision_model", "image_size": "large"}"#,
            "image_size is \"large\"",
        ),
        (
            r#"{"model_type": "siglip_vision_model", "rope_theta": 100.0, "qk_norm": true}"#,
            "rope_theta, qk_norm are each not",
        ),
        (
            r#"{"model_type": "clip_vision_model", "attention_dropout": 0.1}"#,
            "attention_dropout is 0.1",
        ),
        (
            r#"{"model_type": "siglip_vision_model", "num_patches": 256}"#,
            "NaFlex",
        ),
        (
            r#"{"model_type": "clip_vision_model", "pruned_heads": {"0": [1]}}"#,
            "pruned_heads",
        ),
        (
            r#"{"model_type": "clip", "vision_config": 3}"#,
            "vision_config",
        ),
        (
            r#"{"model_type": "clip_vision_model", "layer_norm_eps": -1}"#,
            "layer_norm_eps",
        ),
        ("{}", "not valid"),
        ("[1", "not valid"),
    ] {
        let message = read(text).map(|_| ()).expect_err(text).to_string();
        assert!(
            message.contains(words) && message.contains("config.json"),
            "{message}"
        );
    }
}

/// What transformers 4 and 5 write of a config beside its sizes.
const BOOKKEEPING: &str = r#"{"transformers_version": "5.24.0", "architectures": null, "output_hidden_states": false,
    "return_dict": true, "dtype": null, "chunk_size_feed_forward": 0, "is_encoder_decoder": false, "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0}, "problem_type": null, "projection_dim": 512, "attention_dropout": 0.0, "initializer_range": 0.02,
    "initializer_factor": 1.0, "_name_or_path": "", "model_type": "clip_vision_model", "output_attentions": false,
    "add_cross_attention": false, "bad_words_ids": null, "diversity_penalty": 0.0, "do_sample": false, "dropout": 0.0,
    "pruned_heads": {}, "torch_dtype": null, "use_bfloat16": false, "top_k": 50, "vocab_size": 32000, "patch_size": [32, 32]}"#;

#[test]
fn bookkeeping_of_transformers_is_no_obstacle() -> Result<()> {
    let config = read(BOOKKEEPING)?;
    assert_eq!(config, read(r#"{"model_type": "clip_vision_model"}"#)?);
    assert_eq!((config.intermediate_size, config.patch_size), (3072, 32));
    Ok(())
}
