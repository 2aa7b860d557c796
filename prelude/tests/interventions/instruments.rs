//! Instruments, where the right answer is known: planted heads, linear models, sums.

use crate::{DECODERS, Outcome, decoder, ids, scaled, towers, vit, without_columns};
use glassbox_prelude::language::LlmInput;
use glassbox_prelude::prelude::*;

/// The head that carries everything in [`planted`]: layer and head.
const PLANTED: (usize, usize) = (1, 2);

/// Of a language model, every head but one and every MLP taken out: what one token says of another can only come through that head.
fn plant(llm: &mut Decoder) -> Result<()> {
    llm.remove_lora()?;
    for (index, layer) in llm.layers.iter_mut().enumerate() {
        let form = layer.self_attn.form().clone();
        let o_proj = &mut layer.self_attn.o_proj;
        for head in (0..form.heads).filter(|&head| (index, head) != PLANTED) {
            without_columns(o_proj, head * form.head_dim..(head + 1) * form.head_dim)?;
        }
        scaled(o_proj, 8.0)?;
        scaled(&mut layer.mlp.down_proj, 0.0)?;
    }
    Ok(())
}

fn planted() -> Result<Vlm> {
    let mut vlm = Vlm::tiny(&Device::Cpu)?;
    plant(&mut vlm.llm)?;
    Ok(vlm)
}

/// A picture of one colour with an answer of one token.
fn prompt(vlm: &Vlm, color: [u8; 3]) -> Result<Prompt> {
    let image = Image::filled(64, 64, color)?;
    let ids = vlm.llm_processor.encode_plain("red")?;
    Ok(vlm
        .caption_prompt(&image, "red")?
        .without_answer()
        .target(&ids[..1]))
}

fn shows(value: &dyn Render, sentence: &str) {
    let bundle = value.render();
    assert!(bundle.plain().contains(sentence), "{}", bundle.plain());
    assert!(bundle.html().is_some_and(|html| html.contains(sentence)));
}

#[test]
fn patching_finds_the_planted_head_and_the_way_to_it() -> Outcome {
    let vlm = planted()?;
    let (right, wrong) = (prompt(&vlm, [200, 30, 40])?, prompt(&vlm, [30, 80, 220])?);
    let map = patching_map(&vlm, &right, &wrong)?;
    let picture = map
        .columns()
        .iter()
        .position(|name| name.starts_with("picture"))
        .ok_or("a picture")?;
    let last = map.columns().len() - 1;
    for (layer, row) in map.recovered().iter().enumerate() {
        for (column, &share) in row.iter().enumerate() {
            // Up to the head the picture's tokens carry the difference, behind it the last token does.
            let carries = column == if layer <= PLANTED.0 { picture } else { last };
            let wanted = if carries { 1.0 } else { 0.0 };
            assert!(
                (share - wanted).abs() < 1e-3,
                "layer {layer}, {}: {share}",
                map.columns()[column]
            );
        }
    }
    shows(&map, "comes back");
    // What attention adds: only the planted head's layer, only at the last token.
    let added = patching_map_of(&vlm, &right, &wrong, "llm/layers[*]/attention")?;
    for (layer, row) in added.recovered().iter().enumerate() {
        let wanted = if layer == PLANTED.0 { 1.0 } else { 0.0 };
        assert!(
            (row[last] - wanted).abs() < 1e-3 && row[..last].iter().all(|share| share.abs() < 1e-3)
        );
    }
    // By hand: the head alone brings everything back, any other head nothing.
    let answer = |prompt: &Prompt| vlm.full_sequence_loss_of(prompt)?.value();
    let (best, kept) = Activations::read(&["llm/layers[*]/heads"], || answer(&right))?;
    let worst = answer(&wrong)?;
    for (layer, head) in
        (0..vlm.llm.layers.len()).flat_map(|layer| (0..4).map(move |head| (layer, head)))
    {
        let patch = Edits::new().patch(Site::heads("llm", layer).head(head), &kept);
        let wanted = if (layer, head) == PLANTED {
            best
        } else {
            worst
        };
        assert!(
            (patch.run(|| answer(&wrong))? - wanted).abs() < 1e-4,
            "{layer} {head}"
        );
    }
    Ok(())
}

#[test]
fn patching_of_a_whole_model_begins_with_the_picture_and_ends_with_the_last_token() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let map = patching_map(
        &vlm,
        &prompt(&vlm, [200, 30, 40])?,
        &prompt(&vlm, [30, 80, 220])?,
    )?;
    let picture = map
        .columns()
        .iter()
        .position(|name| name.starts_with("picture"))
        .ok_or("a picture")?;
    let (first, end) = (&map.recovered()[0], map.recovered().last().ok_or("layers")?);
    for (column, &share) in first.iter().enumerate() {
        let wanted = if column == picture { 1.0 } else { 0.0 };
        assert!((share - wanted).abs() < 1e-3, "{share}");
    }
    for (column, &share) in end.iter().enumerate() {
        let wanted = if column == end.len() - 1 { 1.0 } else { 0.0 };
        assert!((share - wanted).abs() < 1e-3, "{share}");
    }
    Ok(())
}

#[test]
fn prompts_that_can_not_be_compared_are_refused() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let red = prompt(&vlm, [200, 30, 40])?;
    let refused = |wrong: &Prompt, what: &str| {
        let error = patching_map(&vlm, &red, wrong).err();
        assert!(
            error
                .as_ref()
                .is_some_and(|error| error.to_string().contains(what)),
            "{error:?}"
        );
    };
    refused(&red, "nothing to bring back");
    let blue = Image::filled(64, 64, [30, 80, 220])?;
    refused(
        &vlm.question_prompt(&blue, "which colour is it?", "red")?,
        "same words",
    );
    refused(
        &prompt(&vlm, [30, 80, 220])?.without_answer().target(&[5]),
        "the right one",
    );
    let open = vlm.caption_prompt(&blue, "red")?.without_answer();
    assert!(matches!(
        patching_map(&vlm, &red, &open),
        Err(Error::NoTarget { .. })
    ));
    assert!(matches!(
        patching_map_of(&vlm, &red, &prompt(&vlm, [30, 80, 220])?, "llm/layer[*]/mlp"),
        Err(Error::NoSuchActivation { nearest, .. }) if nearest[0].starts_with("llm/layers[")
    ));
    Ok(())
}

#[test]
fn ablation_finds_the_planted_head_alone() -> Outcome {
    let vlm = planted()?;
    let red = prompt(&vlm, [200, 30, 40])?;
    for by in [Ablation::Zero, Ablation::Mean] {
        let table = prompt_head_ablation(&vlm, &red, by)?;
        assert_eq!(table.strongest(), Some(PLANTED));
        for (layer, row) in table.lost().iter().enumerate() {
            for (head, &lost) in row.iter().enumerate() {
                assert_eq!(
                    lost.abs() > 1e-4,
                    (layer, head) == PLANTED,
                    "{layer} {head}: {lost}"
                );
            }
        }
        shows(&table, "this head alone");
    }
    // In every family, by any score of a decoder alone.
    for family in DECODERS {
        let mut llm = decoder(family)?;
        let heads = llm.layers[0].self_attn.form().heads;
        let planted = (1, PLANTED.1.min(heads - 1));
        for (index, layer) in llm.layers.iter_mut().enumerate() {
            let width = layer.self_attn.form().head_dim;
            for head in (0..heads).filter(|&head| (index, head) != planted) {
                without_columns(
                    &mut layer.self_attn.o_proj,
                    head * width..(head + 1) * width,
                )?;
            }
        }
        let ids = ids(&llm)?;
        let score = || {
            let logits = llm.forward(&LlmInput::ids(&ids))?.logits()?.clone();
            Ok(f64::from(
                logits.get(0)?.get(8)?.get(3)?.to_scalar::<f32>()?,
            ))
        };
        let table = head_ablation("a logit", "llm", Ablation::Zero, &score)?;
        assert_eq!(
            table.strongest(),
            Some(planted),
            "{family}: {:?}",
            table.lost()
        );
        let others = table
            .lost()
            .iter()
            .flatten()
            .filter(|lost| lost.abs() > 1e-6)
            .count();
        assert_eq!(others, 1, "{family}");
    }
    Ok(())
}

/// One head of the last layer of an encoder left.
fn one_head_left<M: Modality + Clone>(model: &M, pixels: &Tensor) -> Outcome {
    let maps = model.attentions(pixels)?;
    let (layers, heads) = (maps.len(), maps[0].dim(1)?);
    let width = model.dim() / heads;
    let (at, keep) = (0, heads - 1);
    let mut model = model.clone();
    model.visit_mut(&mut |part| {
        if let PartMut::Linear(linear) = part {
            let name = linear.name().to_owned();
            if name.ends_with("attention.output.dense") || name.ends_with("out_proj") {
                let here = name.contains(&format!("layer.{at}."))
                    || name.contains(&format!("layers.{at}."));
                for head in (0..heads).filter(|&head| !(here && head == keep)) {
                    without_columns(linear, head * width..(head + 1) * width)?;
                }
            }
        }
        Ok(())
    })?;
    let score = || {
        Ok(f64::from(
            model
                .encode(pixels)?
                .get(0)?
                .get(0)?
                .get(0)?
                .to_scalar::<f32>()?,
        ))
    };
    let table = head_ablation("a feature", "image_encoder", Ablation::Zero, &score)?;
    assert_eq!(table.strongest(), Some((at, keep)), "{}", model.kind());
    let found = table
        .lost()
        .iter()
        .flatten()
        .filter(|lost| lost.abs() > 1e-7)
        .count();
    assert_eq!(found, 1, "{} of {layers} layers", model.kind());
    Ok(())
}

#[test]
fn ablation_finds_the_planted_head_of_every_encoder() -> Outcome {
    let fixture = vit()?;
    one_head_left(&fixture.model, &fixture.pixels)?;
    for fixture in towers()? {
        one_head_left(&fixture.model, &fixture.pixels)?;
    }
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let table = encoder_head_ablation(&vlm, &prompt(&vlm, [200, 30, 40])?, Ablation::Mean)?;
    assert!(table.lost().iter().flatten().any(|lost| lost.abs() > 1e-6));
    let none = head_ablation("nothing", "llm", Ablation::Zero, &|| Ok(1.0));
    assert!(matches!(none, Err(Error::NoSuchActivation { .. })));
    Ok(())
}

#[test]
fn the_only_image_token_that_says_anything_is_found() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let red = prompt(&vlm, [200, 30, 40])?;
    let count = vlm.image_positions()?.ok_or("places")?.count();
    let special = vlm.image_positions()?.ok_or("places")?.special;
    let only = special + 5;
    let rest = Edits::new()
        .zero(Site::new("image_tokens").tokens((0..count).filter(|&token| token != only)));
    let map = rest.run(|| image_token_ablation(&vlm, &red, 0, Ablation::Zero))?;
    for (patch, lost) in map.values().iter().enumerate() {
        assert_eq!(
            lost.abs() > 1e-6,
            patch + special == only,
            "{patch}: {lost}"
        );
    }
    shows(&map, "when its image token alone is set to zero");
    let whole = image_token_ablation(&vlm, &red, 0, Ablation::Mean)?;
    assert_eq!(whole.values().len(), count - special);
    assert!(image_token_ablation(&vlm, &red, 1, Ablation::Mean).is_err());
    let text = Prompt::new().text(&[5, 6]).target(&[7]);
    assert!(image_token_ablation(&vlm, &text, 0, Ablation::Mean).is_err());
    Ok(())
}

#[test]
fn attribution_sums_to_the_logit_in_every_family() -> Outcome {
    for family in DECODERS {
        let llm = decoder(family)?;
        let ids = ids(&llm)?.narrow(0, 0, 1)?;
        let input = LlmInput::ids(&ids);
        let logits = llm.forward(&input)?.logits()?.clone();
        for (place, token, against) in [(8, 3, None), (0, 7, None), (4, 11, Some(2))] {
            let parts = LogitAttribution::of(&llm, &input, place, token, against)?;
            let logit = |id: u32| {
                logits
                    .get(0)?
                    .get(place)?
                    .get(id as usize)?
                    .to_scalar::<f32>()
            };
            let wanted = match against {
                None => f64::from(logit(token)?),
                Some(other) => f64::from(logit(token)?) - f64::from(logit(other)?),
            };
            println!("{family}: {:.2e} of {wanted:.3}", parts.sum() - wanted);
            assert!((parts.logit() - wanted).abs() < 1e-5, "{family}");
            assert!(
                (parts.sum() - wanted).abs() < 1e-4,
                "{family}: {} is not {wanted}",
                parts.sum()
            );
            assert_eq!(parts.heads().len(), llm.layers.len());
            assert!(parts.heads().iter().flatten().all(|part| part.abs() > 0.0));
        }
        let two = LlmInput::ids(&Tensor::cat(&[&ids, &ids], 0)?);
        assert!(LogitAttribution::of(&llm, &two, 0, 0, None).is_err());
        assert!(LogitAttribution::of(&llm, &input, 99, 0, None).is_err());
        assert!(LogitAttribution::of(&llm, &input, 0, u32::MAX, None).is_err());
    }
    Ok(())
}

#[test]
fn a_part_of_the_attribution_is_what_its_removal_changes_before_the_norm() -> Outcome {
    let vlm = planted()?;
    let red = prompt(&vlm, [200, 30, 40])?;
    let parts = prompt_attribution(&vlm, &red, 0, None)?;
    assert!(
        (parts.sum() - parts.logit()).abs() < 1e-3,
        "{} {}",
        parts.sum(),
        parts.logit()
    );
    assert_eq!(parts.strongest_head(), Some(PLANTED));
    let others = parts
        .heads()
        .iter()
        .flatten()
        .filter(|part| part.abs() > 1e-6)
        .count();
    assert_eq!(others, 1);
    assert!(parts.mlp().iter().all(|part| part.abs() < 1e-6));
    shows(&parts, "they sum to");
    assert!(prompt_attribution(&vlm, &red, 1, None).is_err());
    // The whole model, with LoRA and what else it has.
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let parts = prompt_attribution(&vlm, &prompt(&vlm, [200, 30, 40])?, 0, Some(4))?;
    assert!((parts.sum() - parts.logit()).abs() < 1e-3);
    Ok(())
}

#[test]
fn integrated_gradients_of_a_linear_model_are_exact() -> Outcome {
    let weights = Tensor::rand(-1f32, 1.0, (1, 4, 6), &Device::Cpu)?;
    let input = Tensor::rand(-1f32, 1.0, (1, 4, 6), &Device::Cpu)?;
    let baseline = Tensor::rand(-1f32, 1.0, 6, &Device::Cpu)?;
    let score = || Ok((activation("x", input.clone())? * &weights)?.sum_all()?);
    for steps in [1, 7] {
        let made = integrated_gradients("x", Some(&baseline), steps, &score)?;
        let wanted = (input.broadcast_sub(&baseline)? * &weights)?;
        assert!(crate::difference(made.attributions(), &wanted)? < 1e-5);
        assert!(made.gap()?.abs() < 1e-4);
        shows(&made, "on the way from the baseline");
    }
    // A part of it: the rest stays as it is.
    let one = integrated_gradients(Site::new("x").token(2), None, 1, &score)?;
    let wanted = (input.narrow(1, 2, 1)? * weights.narrow(1, 2, 1)?)?;
    assert!(crate::difference(one.attributions(), &wanted)? < 1e-6);
    // Of a cubic one the gap falls with the square of the steps.
    let cubic = || Ok(activation("x", input.clone())?.powf(3.0)?.sum_all()?);
    let ones = Tensor::ones(6, DType::F32, &Device::Cpu)?;
    let gap = |steps| integrated_gradients("x", Some(&ones), steps, &cubic)?.gap();
    assert!(gap(8)?.abs() < gap(2)?.abs() / 8.0);
    // What can't be right is refused.
    let refused = |made: Result<IntegratedGradients>, what: &str| {
        let error = made.err();
        assert!(
            error
                .as_ref()
                .is_some_and(|error| error.to_string().contains(what)),
            "{error:?}"
        );
    };
    refused(
        integrated_gradients("x", None, 0, &score),
        "at least 1 step",
    );
    refused(integrated_gradients("y", None, 1, &score), "nearest are x");
    refused(
        integrated_gradients(
            "x",
            Some(&Tensor::ones(5, DType::F32, &Device::Cpu)?),
            1,
            &score,
        ),
        "[5]",
    );
    refused(
        integrated_gradients("x", None, 1, &|| activation("x", input.clone())),
        "one number",
    );
    let numbers = || {
        activation("x", input.clone())?;
        Ok(Tensor::new(1f32, &Device::Cpu)?)
    };
    let lost = integrated_gradients("x", None, 1, &numbers);
    refused(lost, "no gradient of the score reaches x");
    Ok(())
}

/// The sum over the patches of an encoder's picture is the difference of the scores.
fn complete<M: Modality>(model: &M, pixels: &Tensor) -> Outcome {
    let pixels = pixels.narrow(0, 0, 1)?;
    let score = || Ok(model.encode(&pixels)?.narrow(1, 0, 1)?.tanh()?.sum_all()?);
    let made = integrated_gradients("image_encoder/patch_embeddings", None, 200, &score)?;
    let (at_input, at_baseline) = made.scores();
    println!(
        "{}: off by {:.1e} of {:.3}",
        model.kind(),
        made.gap()?,
        at_input - at_baseline
    );
    assert!(
        made.gap()?.abs() < 0.02 * (at_input - at_baseline).abs().max(0.1),
        "{}",
        model.kind()
    );
    Ok(())
}

#[test]
fn integrated_gradients_are_complete_in_every_encoder() -> Outcome {
    let fixture = vit()?;
    complete(&fixture.model, &fixture.pixels)?;
    for fixture in towers()? {
        complete(&fixture.model, &fixture.pixels)?;
    }
    Ok(())
}

#[test]
fn integrated_gradients_of_a_whole_model_are_complete() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let red = prompt(&vlm, [200, 30, 40])?;
    let pixels = Image::filled(64, 64, [200, 30, 40])?.prepare(&vlm)?;
    let score = || Ok(vlm.full_sequence_loss_of(&red)?.loss.neg()?);
    for (part, steps) in [(0.9, 8), (0.5, 32)] {
        let from = (&pixels * part)?;
        let made = integrated_gradients("pixel_values", Some(&from), steps, &score)?;
        let (at_input, at_baseline) = made.scores();
        let off = made.gap()?.abs();
        println!(
            "from {part}: off by {off:.1e} of {:.4}",
            at_input - at_baseline
        );
        assert!(off < 0.02 * (at_input - at_baseline).abs(), "{part}: {off}");
    }
    let made = prompt_integrated_gradients(&vlm, &red, 0, 64)?;
    let (at_input, at_baseline) = made.scores();
    let off = made.gap()?.abs();
    let limit = 0.02 * (at_input - at_baseline).abs().max(0.5);
    println!("whole: off by {off:.1e} of {:.3}", at_input - at_baseline);
    let map = made.map().ok_or("a map")?;
    let by_patch: f32 = map.values().iter().sum();
    assert!((f64::from(by_patch) - made.sum()?).abs() < 1e-3);
    shows(&made, "steps");
    // The second of two pictures is the one that is asked about.
    let blue = Image::filled(64, 64, [30, 80, 220])?.prepare(&vlm)?;
    let first = Image::filled(64, 64, [200, 30, 40])?.prepare(&vlm)?;
    let two = Prompt::new()
        .input(&first)
        .input(&blue)
        .text(&[5])
        .target(&[6]);
    let made = prompt_integrated_gradients(&vlm, &two, 1, 8)?;
    let score = |second: &Tensor| -> Result<f64> {
        let prompt = Prompt::new()
            .input(&first)
            .input(second)
            .text(&[5])
            .target(&[6]);
        Ok(-f64::from(vlm.full_sequence_loss_of(&prompt)?.value()?))
    };
    let (at_input, at_baseline) = made.scores();
    assert!((at_input - score(&blue)?).abs() < 1e-5);
    assert!((at_baseline - score(&blue.zeros_like()?)?).abs() < 1e-5);
    assert!(prompt_integrated_gradients(&vlm, &two, 2, 4).is_err());
    assert!(off < limit, "{off}");
    Ok(())
}

#[test]
fn steering_along_a_words_own_direction_writes_that_word() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let image = Image::filled(64, 64, [200, 30, 40])?;
    let generate = vlm.generate(&image)?.max_new_tokens(4).stop_at(Vec::new());
    let plain = generate.clone().run()?;
    let word = vlm.llm_processor.encode_plain("blue")?[0];
    let mut one = vec![0f32; vlm.llm.config.vocab_size];
    one[word as usize] = 1.0;
    let direction = Direction {
        name: "logits".into(),
        vector: Tensor::new(one, &Device::Cpu)?,
    };
    let table = steer(&generate, &direction, &[0.0, 1e6])?;
    assert_eq!(table.texts()[0].1, plain.text);
    let always = direction.edits(1e6)?.run(|| generate.clone().run())?;
    assert_eq!(always.ids, [word; 4]);
    shows(&table, "at every token");
    // A difference of means is one.
    let prompts =
        |color| -> Result<Prompt> { vlm.caption_prompt(&Image::filled(64, 64, color)?, "a") };
    let (blue, red) = (prompts([30, 80, 220])?, prompts([200, 30, 40])?);
    let found = steering_direction(
        &vlm,
        2,
        &[blue.clone(), blue.clone()],
        std::slice::from_ref(&red),
    )?;
    let hidden = |prompt: &Prompt| -> Result<Tensor> {
        let sequence = vlm.sequence(std::slice::from_ref(prompt))?;
        let output = vlm.llm.forward(&sequence.input().with_hidden_states())?;
        Ok(output.hidden_states[2]
            .get(0)?
            .get(sequence.lengths[0] - 1)?)
    };
    let wanted = (hidden(&blue)? - hidden(&red)?)?;
    assert!(crate::difference(&found.vector, &wanted)? < 1e-5);
    // At the last token of one run, it makes the one the other from there on.
    let sequence = vlm.sequence(std::slice::from_ref(&red))?;
    let last = sequence.lengths[0] - 1;
    let moved = Edits::new().add(Site::hidden_states("llm", 2).token(last), &found.vector);
    let (_, seen) = moved.read(&["llm/hidden_states[2]"], || {
        vlm.llm.forward(&sequence.input())
    })?;
    let there = seen
        .at(Site::hidden_states("llm", 2).token(last))?
        .flatten_all()?;
    assert!(crate::difference(&there, &hidden(&blue)?)? < 1e-5);
    assert!(steering_direction(&vlm, 2, &[], std::slice::from_ref(&red)).is_err());
    assert!(steering_direction(&vlm, 99, &[blue], &[red]).is_err());
    Ok(())
}
