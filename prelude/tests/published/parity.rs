//! Pixel values, ids, logits and greedy ids of each layout.

use crate::{CLOSE, Fallible, Outcome, assert_close, expected, load, logits, picture};
use glassbox_prelude::candle_core::IndexOp;
use glassbox_prelude::inspect::trace_caption;
use glassbox_prelude::prelude::*;

/// The ids of a prompt as the reference's processor gives them: the picture's own once for each of its vectors. `image` is the id that
/// stands for it there.
pub fn expanded(vlm: &Vlm, prompt: &Prompt, image: i64) -> Fallible<Vec<i64>> {
    let embedded = vlm.embed_inputs(std::slice::from_ref(prompt))?;
    let mut all = Vec::new();
    for piece in &embedded[0].pieces {
        match piece {
            Piece::Text(_, ids) => all.extend(ids.iter().map(|&id| i64::from(id))),
            Piece::Input(input) => match &input.seen {
                Seen::Embedded(tokens) => all.extend(vec![image; tokens.dim(1)?]),
                _ => return Err("an input is not embedded".into()),
            },
            Piece::Vector(part) => {
                let words = vlm.prompt_words()?;
                let ids = match part {
                    PromptPart::Start => words.start,
                    PromptPart::End => words.end,
                    PromptPart::Query => words.query,
                };
                all.extend(ids.iter().map(|&id| i64::from(id)));
            }
            Piece::Target(target) => all.extend(target.ids.iter().map(|&id| i64::from(id))),
        }
    }
    Ok(all)
}

fn check(name: &str, image_id: i64) -> Outcome {
    let vlm = load(name)?;
    let image = picture(name)?;
    let (cases, pixels) = expected(name)?;
    let seen = match &vlm.tiling {
        None => vlm.image_processor.preprocess(&image)?,
        Some(tiling) => tiling.tile(&image)?.pixel_values,
    };
    assert_close("pixel values", &seen, &pixels, 0.0)?;
    let chat = &cases["chat"];
    let question = "How many circles are there?";
    let prompts = [
        ("text", vlm.text_prompt(&cases["text"].text, &[&image])?),
        ("chat", vlm.text_prompt(&chat.text, &[&image])?),
    ];
    for (case, prompt) in &prompts {
        let want = &cases[*case];
        assert_eq!(expanded(&vlm, prompt, image_id)?, want.ids, "{case}: ids");
        let all = logits(&vlm, prompt)?; // [T, V]
        for (row, &place) in want.places.iter().enumerate() {
            assert_close(
                &format!("{case}: logits {place}"),
                &all.i(place)?,
                &want.logits.i(row)?,
                CLOSE,
            )?;
        }
        let count = want.greedy.len();
        let made = vlm
            .generate(prompt)?
            .max_new_tokens(count)
            .stop_at(Vec::new())
            .run()?;
        assert_eq!(made.ids, want.greedy, "{case}: greedy ids");
    }
    // The one-liner, and a conversation of one turn, read the same.
    let count = chat.greedy.len();
    let made = vlm.generate(&image)?.query(question).max_new_tokens(count);
    assert_eq!(
        made.stop_at(Vec::new()).run()?.ids,
        chat.greedy,
        "greedy ids of a question"
    );
    let talk = vlm.conversation(&[Turn::asks(question).shows_to(&vlm, &image)?])?;
    let made = vlm
        .generate(&talk)?
        .max_new_tokens(count)
        .stop_at(Vec::new())
        .run()?;
    assert_eq!(made.ids, chat.greedy, "greedy ids of a conversation");
    conversation(&vlm, &image, &cases["talk"], image_id)?;
    looked_at(&vlm, &image)?;
    trains(&vlm, &image)
}

/// Two turns, of which the first is answered, read as the reference's processor reads them.
fn conversation(vlm: &Vlm, image: &Image, want: &crate::Case, image_id: i64) -> Outcome {
    let talk = [
        Turn::asks("How many circles are there?")
            .shows_to(vlm, image)?
            .answer("four of them"),
        Turn::asks("What is in this picture?"),
    ];
    let prompt = vlm.conversation(&talk)?;
    assert_eq!(
        expanded(vlm, &prompt, image_id)?,
        want.ids,
        "ids of a conversation"
    );
    let count = want.greedy.len();
    let made = vlm.generate(&prompt)?.max_new_tokens(count);
    assert_eq!(
        made.stop_at(Vec::new()).run()?.ids,
        want.greedy,
        "greedy ids of a conversation"
    );
    let answer = vlm.llm_processor.decode(&prompt.answer_ids())?;
    assert_eq!(answer.trim(), "four of them");
    // Answered to the end, it is a sample: what it is asked for is the two answers and their ends.
    let talk = [talk[0].clone(), talk[1].clone().answer("a red square")];
    let loss = vlm.full_sequence_loss_of(&vlm.conversation(&talk)?)?;
    assert_eq!(loss.targets.last().copied(), vlm.llm_processor.eos_id());
    Ok(())
}

/// Every stage shows itself as the blog's do.
fn looked_at(vlm: &Vlm, image: &Image) -> Outcome {
    let trace = trace_caption(vlm, image, "a red square")?;
    let text = glassbox_prelude::display::Render::render(&trace)
        .plain()
        .to_owned();
    for stage in ["pixel_values", "image_tokens", "inputs_embeds", "logits"] {
        assert!(text.contains(stage), "{stage}: {text}");
    }
    let table = glassbox_prelude::display::Render::render(&vlm.table())
        .plain()
        .to_owned();
    assert!(table.contains("projector"), "{table}");
    assert!(
        vlm.published()
            .is_some_and(|published| published.folder().is_dir())
    );
    assert_eq!(
        vlm.copy()?.published().map(Published::model_type),
        vlm.published().map(Published::model_type)
    );
    Ok(())
}

/// What trains gets a gradient, the projector's own vectors too.
fn trains(vlm: &Vlm, image: &Image) -> Outcome {
    let prompt = vlm.question_prompt(image, "What is in this picture?", "a red square")?;
    let loss = vlm.full_sequence_loss_of(&prompt)?;
    let gradients = loss.loss.backward()?;
    let parameters = vlm.trainable_parameters();
    assert!(
        parameters
            .iter()
            .all(|parameter| parameter.name.starts_with("projector."))
    );
    for parameter in parameters {
        let var = parameter.var.ok_or("it trains")?;
        let gradient = gradients
            .get(&var)
            .ok_or_else(|| format!("{} has none", parameter.name))?;
        let size = gradient.abs()?.sum_all()?.to_scalar::<f32>()?;
        assert!(size > 0.0, "{}", parameter.name);
    }
    Ok(())
}

macro_rules! layouts {
    ($($test:ident: $name:literal, $image:literal;)+) => {$(
        #[test]
        fn $test() -> Outcome {
            check($name, $image)
        }
    )+};
}

layouts! {
    llava_with_clip_and_llama_in_older_names: "llava_clip_llama", 150;
    llava_with_clip_and_phi3_in_newer_names: "llava_clip_phi3", 153;
    llava_with_siglip_and_qwen2_whose_head_is_tied: "llava_siglip_qwen2", 313;
    llava_with_three_hidden_states_side_by_side: "llava_layers", 150;
    llava_next_in_tiles_over_mistral: "llava_next", 150;
    llava_next_with_siglip_and_two_hidden_states_over_qwen2: "llava_next_layers", 313;
    llava_onevision_in_tiles: "llava_onevision", 313;
    bunny_with_siglip_and_phi2: "bunny", -200;
    bunny_with_phi3_whose_texts_have_a_first_token: "bunny_phi3", -200;
    bunny_with_qwen2: "bunny_qwen2", -200;
    bunny_with_llama_whose_tokenizer_has_another_template: "bunny_llama", -200;
}

#[test]
fn several_pictures_of_llava_stand_in_their_places() -> Outcome {
    let vlm = load("llava_clip_llama")?;
    let (one, two) = (
        picture("llava_clip_llama")?,
        Image::filled(30, 30, [20, 200, 40])?,
    );
    let prompt = vlm.text_prompt(
        "USER: <image> and <image>\nHow many? ASSISTANT:",
        &[&one, &two],
    )?;
    assert_eq!(prompt.inputs().count(), 2);
    vlm.generate(&prompt)?.max_new_tokens(2).run()?;
    let vlm = load("llava_onevision")?;
    let prompt = vlm.text_prompt("<image> and <image>", &[&one, &two])?;
    let sizes = vlm.embed_inputs(&[prompt])?[0]
        .inputs()
        .map(|input| match &input.seen {
            Seen::Embedded(tokens) => tokens.dims()[1],
            _ => 0,
        })
        .collect::<Vec<_>>();
    // One tile of 4 × 4 patches each, and the vector behind it.
    assert_eq!(sizes, [17, 17]);
    Ok(())
}

#[test]
fn llava_next_cuts_each_of_several_pictures() -> Outcome {
    let name = "llava_next";
    let (vlm, (cases, _)) = (load(name)?, expected(name)?);
    let want = &cases["two"];
    let second = Image::load(crate::folder(name).join("second.png"))?;
    let (one, two) = (picture(name)?, second);
    let prompt = vlm.text_prompt(&want.text, &[&one, &two])?;
    assert_eq!(expanded(&vlm, &prompt, 150)?, want.ids);
    let all = logits(&vlm, &prompt)?; // [T, V]
    for (row, &place) in want.places.iter().enumerate() {
        let (ours, theirs) = (all.i(place)?, want.logits.i(row)?);
        assert_close(&format!("logits {place}"), &ours, &theirs, CLOSE)?;
    }
    let made = vlm.generate(&prompt)?.max_new_tokens(want.greedy.len());
    assert_eq!(made.stop_at(Vec::new()).run()?.ids, want.greedy);
    Ok(())
}

#[test]
fn a_fine_tune_of_a_model_with_hidden_states_side_by_side_is_read_again() -> Outcome {
    let vlm = load("llava_layers")?;
    assert_eq!(
        vlm.settings.vision_feature.to_string(),
        "hidden_states[-1,0,-3]"
    );
    let saved = tempfile::tempdir()?;
    vlm.save(saved.path())?;
    let preset = Preset::fine_tune(saved.path())?.dtype(DType::F32);
    let again = Vlm::from_pretrained(&preset, &Device::Cpu)?;
    let image = picture("llava_layers")?;
    let prompt = |vlm: &Vlm| vlm.text_prompt("<image> four", &[&image]);
    let (ours, theirs) = (prompt(&vlm)?, prompt(&again)?);
    assert_close(
        "logits",
        &logits(&again, &theirs)?,
        &logits(&vlm, &ours)?,
        1e-6,
    )?;
    // A pair with several, too: its projector is as wide as all of them; a model that is there keeps the width that it has.
    let tiny = Vlm::tiny(&Device::Cpu)?;
    let settings = VlmSettings {
        vision_feature: VisionFeature::hidden_states(&[-1, -2])?,
        ..tiny.settings.clone()
    };
    let pair = tiny.with_settings(settings.clone(), 0)?;
    assert_eq!(pair.projector.config.input, 2 * tiny.projector.config.input);
    let (image, folder) = (Image::filled(64, 64, [200, 30, 40])?, tempfile::tempdir()?);
    let said = pair.generate(&image)?.max_new_tokens(4).run()?;
    pair.save(folder.path())?;
    let again = Vlm::load(folder.path())?;
    assert_eq!(
        again.generate(&image)?.max_new_tokens(4).run()?.ids,
        said.ids
    );
    let mut there = tiny.copy()?;
    let refused = there.set_settings(settings).map(|_| ());
    assert!(refused.is_err_and(|error| error.to_string().contains("hidden_states[-1,-2]")));
    Ok(())
}

#[test]
fn a_published_model_trains_with_lora_on_sets_of_pictures() -> Outcome {
    for name in ["llava_clip_llama", "llava_next", "llava_onevision", "bunny"] {
        let settings = VlmSettings {
            llm_lora: Some(LoraConfig::new(2, 4.0, &["qkv_proj"])),
            ..VlmSettings::published()
        };
        let vlm = crate::load_with(&crate::folder(name), settings)?;
        let image = picture(name)?;
        let set = vec![
            Example::new(&image, "a red square"),
            Example::new(&image, "four").asked("How many circles are there?"),
        ];
        let config = TrainerConfig {
            steps: 30,
            batch_size: 2,
            ..TrainerConfig::tour()
        };
        let loss = |vlm: &Vlm| -> Fallible<f32> {
            let prompt = vlm.question_prompt(&image, "How many circles are there?", "four")?;
            Ok(vlm
                .full_sequence_loss_of(&prompt)?
                .loss
                .to_scalar::<f32>()?)
        };
        let before = loss(&vlm)?;
        let report = Trainer::new(config)?.fit(&vlm, &set, &set)?;
        assert_eq!(report.steps, 30, "{name}");
        let after = loss(&vlm)?;
        assert!(
            after < before,
            "{name}: {before} nats before, {after} after"
        );
    }
    Ok(())
}

#[test]
fn weights_of_no_use_are_counted_by_name() -> Outcome {
    let vlm = load("llava_siglip_qwen2")?;
    let published = vlm.published().ok_or("published")?;
    let unused = published.unused();
    assert!(
        unused.iter().all(|name| name.contains(".head.")),
        "{unused:?}"
    );
    assert!(!unused.is_empty());
    assert!(format!("{published:?}").contains("LLaVA"), "{published:?}");
    Ok(())
}
