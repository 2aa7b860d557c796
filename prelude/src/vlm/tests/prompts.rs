//! Prompts of every form: what they read, what of it carries loss, and that they train, generate and come back from a folder.

// A sequence with one input has a list of one range; places of a sequence index what attention says of them.
#![allow(clippy::single_range_in_vec_init, clippy::needless_range_loop)]

use super::*;
use crate::display::Render;
use crate::nn::AttentionRule;
use crate::train::{Example, Trainer, TrainerConfig};
use rand::Rng;

const RULES: [AttentionRule; 3] = [
    AttentionRule::Causal,
    AttentionRule::LastInput,
    AttentionRule::PrefixLm,
];

fn images() -> Result<[Image; 3]> {
    let [red, green, blue] = [[200, 30, 40], [20, 180, 60], [30, 60, 220]];
    Ok([
        Image::filled(40, 30, red)?,
        Image::filled(40, 30, green)?,
        Image::filled(40, 30, blue)?,
    ])
}

/// All text of a prompt, its inputs left out.
fn words(vlm: &Vlm, prompt: &Prompt) -> Result<String> {
    let own = vlm.prompt_words()?;
    let mut ids = Vec::new();
    for piece in &prompt.pieces {
        match piece {
            Piece::Text(_, text) => ids.extend(text),
            Piece::Target(target) => ids.extend(&target.ids),
            Piece::Vector(PromptPart::Start) => ids.extend(&own.start),
            Piece::Vector(PromptPart::End) => ids.extend(&own.end),
            Piece::Vector(PromptPart::Query) => ids.extend(&own.query),
            Piece::Input(_) => {}
        }
    }
    let text = vlm.llm_processor.decode_with_special(&ids)?;
    Ok(text.split_whitespace().collect())
}

#[test]
fn a_caption_prompt_is_the_blogs_sequence() -> Result<()> {
    for settings in [
        VlmSettings::blog(),
        VlmSettings::corrected(),
        VlmSettings::new_tokens(),
    ] {
        let vlm = vlm(settings)?;
        let [red, ..] = images()?;
        let prompt = vlm.caption_prompt(&red, "two red squares")?;
        let pixels = red.prepare(&vlm)?;
        let batch = vlm.caption_batch(&pixels, &["two red squares"])?;
        let (ours, blogs) = (
            vlm.full_sequence_loss_of(&prompt)?,
            vlm.full_sequence_loss_of(&batch)?,
        );
        assert_eq!(ours.value()?, blogs.value()?);
        assert_eq!(ours.places, blogs.places);
        let ids = vlm.caption_ids("two red squares")?;
        let by_tokens = vlm.concatenate(&vlm.image_tokens(&pixels)?, &Query::Vector, &[ids])?;
        let by_pieces = vlm.sequence(&[prompt])?;
        let difference = (&by_tokens.inputs_embeds - &by_pieces.inputs_embeds)?
            .abs()?
            .max_all()?;
        assert_eq!(difference.to_scalar::<f32>()?, 0.0);
        assert_eq!(by_tokens.prompt_lengths, by_pieces.prompt_lengths);
    }
    Ok(())
}

#[test]
fn a_conversation_of_one_turn_is_a_question() -> Result<()> {
    for settings in [VlmSettings::blog(), VlmSettings::corrected()] {
        let vlm = vlm(settings)?;
        let [red, ..] = images()?;
        let turn = Turn::asks("what is it")
            .shows(&red.prepare(&vlm)?)
            .answer("a red square");
        let talk = vlm.full_sequence_loss_of(&vlm.conversation(&[turn])?)?;
        let question = vlm.question_prompt(&red, "what is it", "a red square")?;
        assert_eq!(
            talk.value()?,
            vlm.full_sequence_loss_of(&question)?.value()?
        );
    }
    Ok(())
}

#[test]
fn a_conversation_reads_as_its_template_writes_it_and_only_answers_carry_loss() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let [red, green, _] = images()?;
    let talk = [
        Turn::asks("what is it")
            .shows(&red.prepare(&vlm)?)
            .answer("a red square"),
        Turn::asks("which colour").answer("red"),
        Turn::asks("and here")
            .shows(&green.prepare(&vlm)?)
            .answer("green"),
    ];
    let prompt = vlm.conversation(&talk)?;
    let loss = vlm.full_sequence_loss_of(&prompt)?;
    let answers: Result<Vec<_>> = ["a red square", "red", "green"]
        .iter()
        .map(|a| vlm.caption_ids(a))
        .collect();
    assert_eq!(loss.targets, answers?.concat());
    let (start, end) = (&vlm.settings.start_text, &vlm.settings.end_text);
    let text = vlm.llm_processor.render_chat(
        &[
            crate::language::ChatMessage::user(format!("{start}{end}\nwhat is it")),
            crate::language::ChatMessage::assistant("a red square"),
            crate::language::ChatMessage::user("which colour"),
            crate::language::ChatMessage::assistant("red"),
            crate::language::ChatMessage::user(format!("{start}{end}\nand here")),
            crate::language::ChatMessage::assistant("green"),
        ],
        false,
    )?;
    let want: String = text.split_whitespace().collect();
    let found = words(&vlm, &prompt)?;
    let eos = vlm
        .llm_processor
        .token(vlm.llm_processor.eos_id().expect("an end"));
    let same = |text: &str| {
        text.replace(&eos, "")
            .replace("<|end|>", "")
            .replace("<s>", "")
    };
    assert_eq!(same(&found), same(&want));
    let plain = prompt.render().plain().to_owned();
    assert_eq!(plain.matches("| target").count(), 3, "{plain}");
    // Open, it is where generation goes on; written, it is refused.
    let open = prompt.without_answer();
    assert!(!vlm.generate(&open)?.max_new_tokens(3).run()?.ids.is_empty());
    assert!(vlm.generate(&prompt).is_err());
    let gap = [Turn::asks("a"), Turn::asks("b").answer("c")];
    assert!(
        vlm.conversation(&gap)
            .is_err_and(|e| e.to_string().contains("turn 0 has no answer"))
    );
    assert!(vlm.conversation(&[]).is_err());
    Ok(())
}

#[test]
fn few_shot_prompts_ask_for_the_last_caption_only() -> Result<()> {
    let vlm = vlm(VlmSettings::tiny())?;
    let [red, green, blue] = images()?;
    let shots: [(&dyn VlmInput, &str); 2] = [(&red, "red"), (&green, "green")];
    let prompt = vlm.few_shot(&shots, &blue, Some("blue"))?;
    assert_eq!(prompt.inputs().count(), 3);
    let loss = vlm.full_sequence_loss_of(&prompt)?;
    assert_eq!(loss.targets, vlm.caption_ids("blue")?);
    let open = vlm.few_shot(&shots, &blue, None)?;
    let sequence = vlm.sequence(std::slice::from_ref(&open))?;
    assert_eq!(sequence.visibility.sequences()[0].inputs.len(), 3);
    assert_eq!(
        vlm.sequence(&[prompt.without_answer()])?.lengths,
        sequence.lengths
    );
    Ok(())
}

#[test]
fn infilling_prompts_are_written_in_both_orders() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let [red, ..] = images()?;
    let parts = ["a small", "red", "square"];
    let written = |order| -> Result<(String, Vec<u32>)> {
        let form = Infilling {
            order,
            ..Infilling::default()
        };
        let prompt = vlm.infilling_prompt(&red, &form, parts)?;
        let loss = vlm.full_sequence_loss_of(&prompt)?;
        Ok((words(&vlm, &prompt)?, loss.targets))
    };
    let (psm, targets) = written(GapOrder::Psm)?;
    assert!(psm.contains("<PRE>asmall<SUF>square<MID>red"), "{psm}");
    let (spm, _) = written(GapOrder::Spm)?;
    assert!(spm.contains("<PRE><SUF>square<MID>asmallred"), "{spm}");
    let mut want = vlm.llm_processor.encode_plain("red")?;
    want.extend(vlm.llm_processor.eos_id());
    assert_eq!(targets, want);
    // As new tokens each mark is one id, whose row trains.
    let marks = Infilling::default().new_tokens();
    let own = super::vlm(VlmSettings {
        new_tokens: marks.clone(),
        ..VlmSettings::corrected()
    })?;
    let prompt = own.infilling_prompt(&red, &Infilling::default(), parts)?;
    let id = own.llm_processor.token_id(&marks[0]).expect("a new token");
    let has = |piece: &Piece| matches!(piece, Piece::Text(_, ids) if ids.first() == Some(&id));
    assert!(prompt.pieces.iter().any(has));
    Ok(())
}

/// Prompts with two inputs, of different length.
fn ragged(vlm: &Vlm, rule: AttentionRule) -> Result<Vec<Prompt>> {
    let [red, green, blue] = images()?;
    let shots: [(&dyn VlmInput, &str); 1] = [(&red, "a red square")];
    let other: [(&dyn VlmInput, &str); 1] = [(&green, "green")];
    let prompts = [
        vlm.few_shot(&shots, &blue, None)?,
        vlm.few_shot(&other, &red, None)?,
    ];
    Ok(prompts.map(|prompt| prompt.attention(rule)).to_vec())
}

#[test]
fn every_rule_generates_the_same_cached_and_not_alone_and_in_a_batch() -> Result<()> {
    let mut settings = VlmSettings::tiny();
    settings.start_text = "<".into();
    settings.end_text = ">".into();
    settings.query_text = "?".into();
    let vlm = vlm(settings)?;
    stir(&vlm)?;
    let mut texts = Vec::new();
    for rule in RULES {
        let prompts = ragged(&vlm, rule)?;
        let ask = || {
            let generate = vlm.generation_of(prompts.clone());
            generate.max_new_tokens(6).stop_at(Vec::new()).keep_logits()
        };
        let (cached, again) = (ask().run_all()?, ask().without_cache().run_all()?);
        for ((cached, again), prompt) in cached.iter().zip(&again).zip(&prompts) {
            assert_eq!(cached.ids, again.ids, "{rule:?}");
            let logits = cached
                .logits
                .as_ref()
                .zip(again.logits.as_ref())
                .expect("kept");
            let difference = (logits.0 - logits.1)?
                .abs()?
                .max_all()?
                .to_scalar::<f32>()?;
            assert!(difference < 1e-5, "{rule:?}: {difference}");
            let alone = vlm
                .generate(prompt)?
                .max_new_tokens(6)
                .stop_at(Vec::new())
                .run()?;
            assert_eq!(alone.ids, cached.ids, "{rule:?}");
            let beams = |generate: Generate| generate.max_new_tokens(4).num_beams(3).run();
            let searched = beams(vlm.generate(prompt)?)?;
            assert_eq!(
                searched.ids,
                beams(vlm.generate(prompt)?.without_cache())?.ids,
                "{rule:?}"
            );
        }
        texts.push(cached[0].logits.as_ref().expect("kept").to_vec2::<f32>()?);
    }
    assert!(
        texts[0] != texts[1] && texts[0] != texts[2],
        "a rule changes nothing"
    );
    Ok(())
}

#[test]
fn every_rule_gives_every_trainable_parameter_a_gradient() -> Result<()> {
    for rule in RULES {
        let vlm = vlm(VlmSettings {
            attention: rule,
            ..VlmSettings::tiny()
        })?;
        stir(&vlm)?;
        let [red, green, _] = images()?;
        let shots: [(&dyn VlmInput, &str); 1] = [(&red, "red")];
        let prompt = vlm.few_shot(&shots, &green, Some("green"))?;
        let loss = vlm.full_sequence_loss_of(&prompt)?;
        let grads = loss.loss.backward()?;
        for parameter in vlm.trainable_parameters() {
            let gradient = grads.get(&parameter.tensor);
            let size = gradient
                .map(|g| g.abs()?.sum_all()?.to_scalar::<f32>())
                .transpose()?;
            assert!(
                size.is_some_and(|size| size > 0.0),
                "{rule:?}: {}",
                parameter.name
            );
        }
    }
    Ok(())
}

#[test]
fn two_encoders_train_generate_and_come_back_from_a_folder() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let second = || Vit::new_random(&ViTConfig::new(24, 8, 12, 24, 1, 2), 5, &Device::Cpu);
    let mut vlm = vlm(VlmSettings::tiny())?;
    vlm.add_encoder("close-up", second()?, ProjectorKind::Linear, 7)?;
    assert!(
        vlm.add_encoder("close-up", second()?, ProjectorKind::Linear, 7)
            .is_err()
    );
    let [red, green, _] = images()?;
    let near = vlm.other_encoder("close-up")?.prepare(&green)?;
    let ids = vlm.llm_processor.encode_plain("and close")?;
    let prompt = Prompt::new()
        .input(&red.prepare(&vlm)?)
        .text(&ids)
        .input_for("close-up", &near)
        .target(&vlm.caption_ids("red")?);
    let set = vec![prompt.clone()];
    let config = TrainerConfig {
        steps: 2,
        batch_size: 2,
        ..TrainerConfig::tour()
    };
    Trainer::new(config)?.fit(&vlm, &set, &set)?;
    assert_eq!(vlm.sequence(&set)?.segments[0][2].1[0], "close-up 0");
    vlm.save(dir.path())?;
    let mut again = super::vlm(VlmSettings::tiny())?;
    let error = again.load_fine_tune(dir.path()).unwrap_err().to_string();
    assert!(error.contains("close-up"), "{error}");
    again.add_encoder("close-up", second()?, ProjectorKind::Mlp2xGelu, 1)?;
    again.load_fine_tune(dir.path())?;
    let loss = |vlm: &Vlm| vlm.full_sequence_loss_of(&prompt)?.value();
    assert_eq!(loss(&vlm)?, loss(&again)?);
    let open = prompt.without_answer();
    assert_eq!(
        vlm.generate(&open)?.run()?.ids,
        again.generate(&open)?.run()?.ids
    );
    Ok(())
}

#[test]
fn pieces_that_the_model_cannot_read_are_named() -> Result<()> {
    let vlm = vlm(VlmSettings::tiny())?;
    let input = images()?[0].prepare(&vlm)?;
    let refused = |prompt: Prompt| vlm.sequence(&[prompt]).map(|_| ()).unwrap_err();
    let error = refused(Prompt::new().input_for("sound", &input));
    assert!(
        matches!(&error, Error::NoSuchEncoder { encoder, .. } if encoder == "sound"),
        "{error}"
    );
    assert!(error.to_string().contains("image_encoder"), "{error}");
    let error = refused(Prompt::new().input(&input).text(&[5]).place());
    assert!(
        matches!(
            error,
            Error::InputCount {
                places: 2,
                inputs: 1
            }
        ),
        "{error}"
    );
    let error = refused(Prompt::new().input(&Tensor::cat(&[&input, &input], 0)?));
    assert!(error.to_string().contains("a piece of its own"), "{error}");
    assert!(
        refused(Prompt::new().text(&[]))
            .to_string()
            .contains("no tokens")
    );
    let error = refused(Prompt::new().input(&input).text(&[7; 200]));
    let Error::ContextOverflow {
        pieces,
        context: 128,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        pieces,
        &[("image".to_owned(), 17), ("text".to_owned(), 200)]
    );
    let silent = [
        Prompt::new().text(&[5]).target(&[6]),
        Prompt::new().text(&[5]),
    ];
    let error = vlm.full_sequence_loss_of(&silent).unwrap_err();
    assert!(
        matches!(&error, Error::NoTarget { samples, .. } if samples.len() == 1),
        "{error}"
    );
    assert!(error.to_string().contains("prompt 1"), "{error}");
    let first = Prompt::new().target(&[6, 7]);
    assert!(
        vlm.full_sequence_loss_of(&first)
            .is_err_and(|e| e.to_string().contains("begins with a target"))
    );
    let mask = Tensor::new(&[[1u8, 1], [0, 0]], &Device::Cpu)?;
    let ids = Tensor::new(&[[1u32, 2], [3, 4]], &Device::Cpu)?;
    let error = vlm
        .llm
        .forward(&LlmInput::ids(&ids).attention_mask(&mask))
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(&error, Error::NothingVisible { sequences } if sequences == &[1]),
        "{error}"
    );
    Ok(())
}

#[test]
fn smoothed_targets_are_what_they_say() -> Result<()> {
    let vlm = vlm(VlmSettings::tiny())?;
    let prompt = vlm.caption_prompt(&images()?[0], "red")?;
    let plain = vlm.full_sequence_loss_of(&prompt)?;
    let log_p = candle_nn::ops::log_softmax(&plain.logits, 1)?; // [N, V]
    let any = f64::from(log_p.mean_all()?.neg()?.to_scalar::<f32>()?);
    let want = 0.9 * f64::from(plain.value()?) + 0.1 * any;
    let smoothed = f64::from(vlm.smoothed_loss_of(&prompt, 0.1)?.value()?);
    assert!((smoothed - want).abs() < 1e-5, "{smoothed} {want}");
    assert!(vlm.smoothed_loss_of(&prompt, 1.5).is_err());
    Ok(())
}

#[test]
fn inputs_of_several_shapes_are_one_batch() -> Result<()> {
    let vlm = vlm(VlmSettings::tiny())?;
    let pixels = images()?[0].prepare(&vlm)?;
    let hidden = vlm.image_encoder.encode(&pixels)?; // [1, P, D of the encoder]
    let tokens = vlm.project(&hidden)?; // [1, P, D]
    let ids = vlm.caption_ids("red")?;
    let read = |prompt: Prompt| prompt.text(&[5]).target(&ids);
    let prompts = [
        read(Prompt::new().input(&pixels)),
        read(Prompt::new().input(&hidden)),
        read(Prompt::new().image_tokens(&tokens)),
        read(Prompt::new().image_tokens(&tokens.narrow(1, 0, 3)?)),
    ];
    let together = vlm
        .full_sequence_loss_of(&prompts)?
        .cross_entropy
        .to_vec1::<f32>()?;
    for (b, prompt) in prompts.iter().enumerate() {
        let alone = vlm
            .full_sequence_loss_of(prompt)?
            .cross_entropy
            .to_vec1::<f32>()?;
        for (one, other) in alone.iter().zip(&together[b * ids.len()..]) {
            assert!((one - other).abs() < 1e-5);
        }
    }
    assert!((together[0] - together[ids.len()]).abs() < 1e-6);
    Ok(())
}

/// A decoder of one layer: what a place depends on is what it sees.
#[test]
fn a_decoder_follows_every_rule_whole_in_chunks_and_step_by_step() -> Result<()> {
    use crate::nn::{Sight, Visibility};
    let llm = Decoder::new_random(&DecoderConfig::new(50, WIDTH, 32, 1, 2), 3, &Device::Cpu)?;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let values: Vec<f32> = (0..2 * 13 * WIDTH)
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    let embeds = candle_core::Var::from_vec(values, (2, 13, WIDTH), &Device::Cpu)?;
    let places = [vec![1..4, 4..6, 9..12], vec![0..5, 8..9]];
    for rule in RULES {
        let sights: Vec<Sight> = places
            .iter()
            .map(|inputs| Sight {
                rule,
                inputs: inputs.clone(),
            })
            .collect();
        let visibility = Visibility::new(sights.clone())?;
        let whole = llm.forward(
            &LlmInput::embeds(&embeds)
                .visibility(&visibility)
                .with_attentions(),
        )?;
        let hidden = &whole.last_hidden_state; // [2, 13, D]
        let p = whole.attentions[0].mean(1)?.to_vec3::<f32>()?; // [2, 13, 13]
        for (b, sight) in sights.iter().enumerate() {
            for i in 0..13 {
                let one = hidden.get(b)?.get(i)?.sqr()?.sum_all()?;
                let grads = one.backward()?;
                let gradient = grads
                    .get(&embeds)
                    .expect("a gradient")
                    .abs()?
                    .sum(2)?
                    .to_vec2::<f32>()?;
                for j in 0..13 {
                    let sees = sight.sees(i, j);
                    assert_eq!(p[b][i][j] > 0.0, sees, "{rule:?} {b} {i} {j}");
                    assert_eq!(gradient[b][j] > 0.0, sees, "{rule:?} {b} {i} {j}");
                    assert_eq!(gradient[1 - b][j], 0.0);
                }
            }
        }
        // Chunks may end where no input is cut that has to be read at once.
        let chunks: &[usize] = match rule {
            AttentionRule::PrefixLm => &[6, 6, 1],
            _ => &[2, 3, 5, 2, 1],
        };
        let single = [1; 13];
        for sizes in [chunks, &single] {
            if rule == AttentionRule::PrefixLm && sizes.len() == 13 {
                continue;
            }
            let cache = llm.new_cache(2, 13)?;
            let (mut start, mut parts) = (0, Vec::new());
            for (at, &size) in sizes.iter().enumerate() {
                let input = LlmInput::embeds(&embeds.narrow(1, start, size)?).cache(&cache);
                // Said once, the cache knows it for what follows.
                let input = if at == 0 {
                    input.visibility(&visibility)
                } else {
                    input
                };
                parts.push(llm.forward(&input)?.last_hidden_state);
                start += size;
            }
            let difference = (Tensor::cat(&parts, 1)? - hidden)?
                .abs()?
                .max_all()?
                .to_scalar::<f32>()?;
            assert!(difference < 2e-6, "{rule:?}: {difference}");
        }
    }
    let visibility = Visibility::new(vec![
        Sight {
            rule: AttentionRule::PrefixLm,
            inputs: vec![1..4]
        };
        2
    ])?;
    let cut = LlmInput::embeds(&embeds.narrow(1, 0, 3)?).visibility(&visibility);
    let error = llm
        .forward(&cut.cache(&llm.new_cache(2, 13)?))
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("read the whole input in one pass"),
        "{error}"
    );
    Ok(())
}

#[test]
fn examples_with_questions_of_their_own_train() -> Result<()> {
    let vlm = vlm(VlmSettings::tiny())?;
    let [red, green, _] = images()?;
    let set = vec![
        Example::new(&red, "a red square"),
        Example::new(&green, "four").asked("how many corners"),
    ];
    let question = vlm.question_prompt(&green, "how many corners", "four")?;
    let own = set[1].prompt(&vlm, Some(0))?;
    let loss = |prompt: &Prompt| vlm.full_sequence_loss_of(prompt)?.value();
    assert_eq!(loss(&own)?, loss(&question)?);
    let config = TrainerConfig {
        steps: 6,
        batch_size: 2,
        label_smoothing: 0.1,
        ..TrainerConfig::tour()
    };
    let report = Trainer::new(config)?.fit(&vlm, &set, &set)?;
    assert!(
        report
            .validation
            .is_some_and(|(before, after)| after < before),
        "{report:?}"
    );
    Ok(())
}
