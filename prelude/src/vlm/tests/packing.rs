//! Several prompts in one row give the losses and gradients of each in a row of its own.

use super::*;
use crate::nn::{AttentionRule, Network};
use crate::train::Gradients;

/// Families with rotary positions of other kinds: one for all layers, a part of each head, windows with positions of their own.
const FAMILIES: [&str; 4] = [
    r#""model_type": "llama", "num_key_value_heads": 1"#,
    r#""model_type": "phi", "partial_rotary_factor": 0.5"#,
    r#""model_type": "qwen3", "num_key_value_heads": 1, "head_dim": 16"#,
    r#""model_type": "gemma3_text", "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16,
       "sliding_window": 6, "sliding_window_pattern": 2"#,
];

/// One of [`FAMILIES`] in place of the language model, or the usual one.
fn with_family(family: Option<&str>) -> Result<Vlm> {
    let mut parts = parts()?;
    if let Some(family) = family {
        let vocabulary = parts.llm_processor.vocab_size() + 3;
        let config = DecoderConfig::from_json(&format!(
            r#"{{{family}, "vocab_size": {vocabulary}, "hidden_size": {WIDTH}, "intermediate_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "max_position_embeddings": 128}}"#
        ))?;
        parts.llm = Decoder::new_random(&config, 2, &Device::Cpu)?;
    }
    let settings = VlmSettings {
        llm_lora: None,
        vit_lora: None,
        ..VlmSettings::corrected()
    };
    let mut vlm = Vlm::new(parts, settings, 3)?;
    vlm.llm.set_trainable(true)?;
    vlm.image_encoder.set_trainable(true)?;
    Ok(vlm)
}

/// Prompts of several lengths: captions, one with two pictures and two answers, one with an answer of one word.
fn prompts(vlm: &Vlm, rules: &[AttentionRule]) -> Result<Vec<Prompt>> {
    let [red, green] = [[200, 30, 40], [20, 180, 60]];
    let (red, green) = (Image::filled(40, 30, red)?, Image::filled(40, 30, green)?);
    let ids = |text: &str| vlm.llm_processor.encode_plain(text);
    let two = Prompt::new()
        .text(&ids("first")?)
        .input(&red.prepare(vlm)?)
        .target(&ids("a red square")?)
        .text(&ids("then")?)
        .input(&green.prepare(vlm)?)
        .target(&ids("a green one")?);
    let all = [
        vlm.caption_prompt(&red, "two red squares and a green circle")?,
        two,
        vlm.caption_prompt(&green, "green")?,
        Prompt::new()
            .text(&ids("no picture")?)
            .target(&ids("at all")?),
        vlm.caption_prompt(&red, "three blue stars")?,
    ];
    let ruled = all.into_iter().zip(rules.iter().cycle());
    Ok(ruled
        .map(|(prompt, rule)| prompt.attention(*rule))
        .collect())
}

/// Losses, gradients, and how many rows there were.
fn learned(vlm: &Vlm, prompts: &[Prompt], packed: Option<usize>) -> Result<(Vec<f32>, Gradients)> {
    let places: Vec<(usize, usize)> = prompts
        .iter()
        .enumerate()
        .flat_map(|(b, prompt)| prompt.target_places().into_iter().map(move |at| (b, at)))
        .collect();
    let weights: Vec<f32> = (0..places.len())
        .map(|at| 0.01 + 0.003 * at as f32)
        .collect();
    let output = vlm.loss_in_rows(prompts, &places, &weights, (0.1, packed))?;
    let losses = output.cross_entropy.to_vec1::<f32>()?;
    Ok((
        losses,
        Gradients::of(&output.loss, &vlm.trainable_parameters())?,
    ))
}

fn assert_same(vlm: &Vlm, prompts: &[Prompt], packed: usize, what: &str) -> Result<()> {
    let (plain, gradients) = learned(vlm, prompts, None)?;
    let (losses, packed) = learned(vlm, prompts, Some(packed))?;
    for (at, (one, other)) in plain.iter().zip(&losses).enumerate() {
        assert!(
            (one - other).abs() < 1e-5,
            "{what}, target {at}: {one} {other}"
        );
    }
    let mut moved = 0;
    for (name, gradient) in gradients.iter() {
        let other = packed
            .get(name)
            .unwrap_or_else(|| panic!("{what}: {name} has no gradient"));
        let apart = (gradient - other)?
            .abs()?
            .flatten_all()?
            .max(0)?
            .to_scalar::<f32>()?;
        assert!(apart < 1e-5, "{what}, {name}: {apart}");
        let most = gradient.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        moved += usize::from(most > 1e-4);
    }
    assert!(
        moved > 20,
        "{what}: the gradients are not all nothing, {moved}"
    );
    Ok(())
}

#[test]
fn packed_prompts_learn_what_they_learn_in_rows_of_their_own() -> Result<()> {
    use AttentionRule::{Causal, LastInput, PrefixLm};
    let families = FAMILIES.iter().map(|family| Some(*family));
    for family in families.chain([None]) {
        let vlm = with_family(family)?;
        for rules in [
            &[Causal][..],
            &[PrefixLm],
            &[LastInput],
            &[Causal, PrefixLm, LastInput],
        ] {
            let prompts = prompts(&vlm, rules)?;
            for rows in [1000, 60, 10] {
                let what = format!("{family:?} {rules:?} rows of {rows}");
                assert_same(&vlm, &prompts, rows, &what)?;
            }
        }
    }
    Ok(())
}

#[test]
fn rows_hold_several_prompts_and_a_row_may_be_longer_than_the_context() -> Result<()> {
    let vlm = with_family(None)?;
    let one = prompts(&vlm, &[AttentionRule::Causal])?;
    let many: Vec<Prompt> = (0..4).flat_map(|_| one.clone()).collect();
    let packed = vlm.packed(&many, 1000)?;
    assert!(packed.tokens > vlm.llm.config.max_position_embeddings);
    assert!(packed.places.iter().all(|(row, _)| *row == 0));
    assert_same(&vlm, &many, 1000, "one long row")?;
    let packed = vlm.packed(&one, 60)?;
    let rows = packed.places.iter().map(|(row, _)| row + 1).max();
    assert!(
        rows.is_some_and(|rows| rows > 1 && rows < one.len()),
        "{rows:?}"
    );
    Ok(())
}
