//! Every kind of prompt through everything that takes one: a training step, an evaluation, the instruments, generation, a saved
//! fine-tune.

use super::*;
use crate::display::Render;
use crate::evaluate::{
    Condition, EvaluationSet, Evaluator, ExactMatch, Perplexity, answer_accuracy,
};
use crate::inspect::*;
use crate::nn::AttentionRule;
use crate::train::{Example, Trainer, TrainerConfig};

/// One model with two encoders, and a prompt of each kind, with its answer.
fn kinds() -> Result<(Vlm, Vec<(&'static str, Prompt)>)> {
    let mut settings = VlmSettings::tiny();
    (settings.start_text, settings.end_text) = ("<".into(), ">".into());
    let mut vlm = vlm(settings)?;
    let second = Vit::new_random(&ViTConfig::new(24, 8, 12, 24, 1, 2), 5, &Device::Cpu)?;
    vlm.add_encoder("close-up", second, ProjectorKind::Linear, 7)?;
    vlm.add_encoder_lora("close-up", &LoraConfig::new(2, 4.0, &["query"]), 1)?;
    stir(&vlm)?;
    let [red, green, blue]: [Image; 3] = pictures(3)?.try_into().expect("three");
    let near = vlm.other_encoder("close-up")?.prepare(&green)?;
    let shots: [(&dyn VlmInput, &str); 1] = [(&red, "red")];
    let ask = |image: &Image, question: &str| -> Result<Turn> {
        Ok(Turn::asks(question).shows(&image.prepare(&vlm)?))
    };
    let ids = |text: &str| vlm.llm_processor.encode_plain(text);
    let kinds = vec![
        ("caption", vlm.caption_prompt(&red, "a red square")?),
        (
            "question",
            vlm.question_prompt(&green, "which colour", "green")?,
        ),
        (
            "conversation",
            vlm.conversation(&[
                ask(&red, "what is it")?.answer("a red square"),
                Turn::asks("which colour").answer("red"),
                ask(&green, "and here")?.answer("green"),
            ])?,
        ),
        (
            "conversation about both encoders' inputs",
            vlm.conversation(&[
                ask(&red, "what is it")?.answer("a red square"),
                Turn::asks("and close")
                    .shows_for("close-up", &near)
                    .answer("green"),
            ])?,
        ),
        ("few-shot", vlm.few_shot(&shots, &blue, Some("blue"))?),
        (
            "few-shot as Flamingo's",
            vlm.few_shot(&shots, &blue, Some("blue"))?
                .attention(AttentionRule::LastInput),
        ),
        (
            "infilling",
            vlm.infilling_prompt(&red, &Infilling::default(), ["a", "red", "square"])?,
        ),
        (
            "two encoders",
            Prompt::new()
                .input(&red.prepare(&vlm)?)
                .text(&ids("and close")?)
                .input_for("close-up", &near)
                .target(&vlm.caption_ids("green")?),
        ),
        (
            "words alone",
            Prompt::new()
                .text(&ids("the colour of grass is")?)
                .target(&vlm.caption_ids("green")?),
        ),
        (
            "tokens that were changed",
            vlm.prompt_of_tokens(
                &(vlm.embed_images(std::slice::from_ref(&blue))? * 0.5)?,
                "a blue square",
            )?,
        ),
    ];
    Ok((vlm, kinds))
}

/// Made anew, as the same code would make it in another session.
fn again() -> Result<Vlm> {
    Ok(kinds()?.0)
}

#[test]
fn every_kind_of_prompt_trains_is_evaluated_and_comes_back_from_a_folder() -> Result<()> {
    for number in 0..kinds()?.1.len() {
        let (vlm, kinds) = kinds()?;
        let (kind, prompt) = &kinds[number];
        let open = prompt.without_answer();
        let set = vec![prompt.clone()];
        let before = vlm.full_sequence_loss_of(prompt)?.value()?;
        let config = TrainerConfig {
            steps: 4,
            batch_size: 1,
            ..TrainerConfig::tour()
        };
        Trainer::new(config)?.fit(&vlm, &set, &set)?;
        let after = vlm.full_sequence_loss_of(prompt)?.value()?;
        assert!(after < before, "{kind}: {before} → {after}");

        let ran = Evaluator::new()
            .metric(ExactMatch)
            .metric(Perplexity)
            .max_new_tokens(6)
            .run(&vlm, &set)?;
        let answer = &ran.answers()[0];
        let last = prompt.answers().next_back().expect("an answer");
        assert_eq!(
            answer.references,
            [vlm.llm_processor.decode(&last.ids)?],
            "{kind}"
        );
        let made = vlm.generate(&open)?.max_new_tokens(6).run()?;
        assert_eq!(answer.prediction, made.text, "{kind}");
        let perplexity = ran.score("perplexity").expect("asked for").value;
        // The evaluation asks for the last answer; that of a conversation is one of several.
        if prompt.answers().count() == 1 && *kind != "infilling" {
            let losses = vlm.full_sequence_loss_of(prompt)?.value()?;
            assert!((perplexity.ln() - f64::from(losses)).abs() < 1e-4, "{kind}");
        }
        let blind = ran
            .of(Condition::Blind, "perplexity")
            .expect("a baseline")
            .value;
        assert_eq!(blind == perplexity, *kind == "words alone", "{kind}");
        assert_eq!(answer_accuracy(&vlm, &set, 1)?.answers.len(), 1, "{kind}");

        let dir = tempfile::tempdir().expect("a temporary folder");
        vlm.save(dir.path())?;
        let mut loaded = again()?;
        loaded.load_fine_tune(dir.path())?;
        assert_eq!(
            loaded.full_sequence_loss_of(prompt)?.value()?,
            after,
            "{kind}"
        );
        let said = loaded.generate(&open)?.max_new_tokens(6).run()?;
        assert_eq!(said.ids, made.ids, "{kind}");
    }
    Ok(())
}

#[test]
fn every_kind_of_prompt_is_looked_into() -> Result<()> {
    let (vlm, kinds) = kinds()?;
    for (kind, prompt) in &kinds {
        let inputs = prompt.inputs().count();
        let trace = trace_prompt(&vlm, prompt)?;
        let shown = trace.render().plain().to_owned();
        assert!(
            trace.warnings().is_empty(),
            "{kind}: {:?}",
            trace.warnings()
        );
        assert!(
            shown.contains("inputs_embeds") && shown.contains("logits"),
            "{kind}"
        );
        assert_eq!(
            shown.contains("image_tokens["),
            inputs > 1,
            "{kind}: {shown}"
        );
        // What the trace ends with is what the model says.
        let sequence = vlm.sequence(std::slice::from_ref(prompt))?;
        assert!(
            shown.contains(&format!("T {}", sequence.lengths[0])),
            "{kind}: {shown}"
        );

        let answers = prompt.answer_ids().len();
        let targets = prompt.target_places().len();
        assert!(
            prompt_ledger(&vlm, prompt)?
                .entries()
                .iter()
                .any(|e| e.gradient_norm.is_some_and(|norm| norm > 0.0)),
            "{kind}"
        );
        let losses = prompt_losses(&vlm, &[("it".into(), prompt.clone())])?;
        let mean = f64::from(vlm.full_sequence_loss_of(prompt)?.value()?);
        assert!((losses.means()[0].1 - mean).abs() < 1e-4, "{kind}");
        let lens = prompt_lens(&vlm, prompt)?;
        assert_eq!(lens.depth(), vlm.llm.layers.len() + 1, "{kind}");
        assert_eq!(lens.best(0).len(), answers, "{kind}");
        // The last layer is the model itself: after the last token but one it says what the loss was taken of.
        let best = lens.best(lens.depth() - 1);
        let loss = vlm.full_sequence_loss_of(prompt)?;
        let own = loss.logits.argmax(1)?.to_vec1::<u32>()?; // [N]
        assert_eq!(best[answers - 2], own[targets - 1], "{kind}");
        assert_eq!(
            prompt_lens(&vlm, &prompt.without_answer())?.best(0).len(),
            match prompt.answers().count() {
                0 | 1 => 1,
                _ => prompt.without_answer().answer_ids().len().max(1),
            },
            "{kind}"
        );

        let pixels = prompt
            .inputs()
            .filter(|input| matches!(input.seen, Seen::Prepared(_)));
        match pixels.count() {
            0 => {
                assert!(prompt_attention(&vlm, prompt).is_err(), "{kind}");
                assert!(prompt_occlusion(&vlm, prompt, 0, 2).is_err(), "{kind}");
            }
            pictures => {
                let maps = prompt_attention(&vlm, prompt)?;
                assert_eq!(maps.len(), answers * pictures, "{kind}");
                let map = prompt_occlusion(&vlm, prompt, pictures - 1, 2)?;
                assert_eq!(map.values().len(), 4, "{kind}");
                assert!(
                    prompt_occlusion(&vlm, prompt, pictures, 2).is_err(),
                    "{kind}"
                );
            }
        }
        // Words for all ids, of prompts put together by hand too.
        let strip = vlm
            .sequence(std::slice::from_ref(prompt))?
            .strip(0)?
            .render();
        assert!(!strip.plain().contains('#'), "{kind}: {}", strip.plain());
        let next = vlm.next_tokens(&prompt.without_answer(), "", 3)?;
        assert_eq!(next.top().len(), 3, "{kind}");
    }
    // Losses are compared of the same targets only.
    let other = [0, 1].map(|at| (kinds[at].0.to_owned(), kinds[at].1.clone()));
    let error = prompt_losses(&vlm, &other).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("other targets"), "{error}");
    assert!(prompt_losses(&vlm, &[]).is_err());
    Ok(())
}

#[test]
fn a_caption_of_an_open_prompt_is_its_answer() -> Result<()> {
    let (vlm, kinds) = kinds()?;
    let question = &kinds[1].1;
    let open = question.without_answer();
    let loss = |prompt: &Prompt| vlm.full_sequence_loss_of(prompt)?.value();
    // Nothing of the question is lost on any way.
    let asked = vlm.caption_prompt(&open, "green")?;
    assert_eq!(loss(&asked)?, loss(question)?);
    let example = Example::new(&open, "green");
    assert_eq!(loss(&example.prompt(&vlm, Some(0))?)?, loss(question)?);
    let set = vec![example];
    let prepared = crate::train::TrainingSet::example(&set, &vlm, 0)?;
    assert_eq!(loss(&prepared.prompt(&vlm, Some(0))?)?, loss(question)?);
    let means = caption_losses(&vlm, "green", &[("it".into(), open.clone())])?.means();
    assert!((means[0].1 - f64::from(loss(question)?)).abs() < 1e-5);
    let map = caption_lens(&vlm, &open, "green")?;
    assert_eq!(map.best(1), prompt_lens(&vlm, question)?.best(1));
    let other = vlm.question_prompt(&open, "what is it", "green")?;
    assert_ne!(loss(&other)?, loss(question)?);
    // A written answer is not written over, and words are not dropped where an input is asked for.
    assert!(vlm.caption_prompt(question, "green").is_err());
    let shots: [(&dyn VlmInput, &str); 1] = [(&open, "green")];
    let error = vlm.few_shot(&shots, &pictures(1)?[0], None).map(|_| ());
    assert!(error.is_err_and(|e| e.to_string().contains("query")));
    Ok(())
}

#[test]
fn sets_of_anything_are_evaluated_with_their_baselines() -> Result<()> {
    let (vlm, kinds) = kinds()?;
    let prompts: Vec<Prompt> = kinds.iter().map(|(_, prompt)| prompt.clone()).collect();
    let ran = Evaluator::captions()
        .max_new_tokens(5)
        .run(&vlm, &prompts)?;
    assert_eq!(ran.answers().len(), prompts.len());
    for condition in [
        Condition::Blind,
        Condition::Shuffled,
        Condition::MostFrequent,
    ] {
        assert!(ran.of(condition, "CIDEr-D").is_some(), "{condition:?}");
    }
    assert!(ran.of(Condition::Shuffled, "perplexity").is_some());
    let pixels = pictures(2)?
        .iter()
        .map(|p| p.prepare(&vlm))
        .collect::<Result<Vec<_>>>()?;
    let tensors: Vec<(Tensor, Vec<String>)> = pixels
        .iter()
        .map(|pixels| {
            (
                pixels.clone(),
                vec!["red".to_owned(), "a red square".to_owned()],
            )
        })
        .collect();
    let images: Vec<(Image, Vec<String>)> = pictures(2)?
        .into_iter()
        .map(|image| (image, vec!["red".to_owned(), "a red square".to_owned()]))
        .collect();
    let score = |set: &dyn EvaluationSet| -> Result<Vec<(String, f64)>> {
        let ran = Evaluator::captions().max_new_tokens(5).run(&vlm, set)?;
        let rows = ran.rows.iter().flat_map(|row| &row.scores);
        Ok(rows
            .map(|score| (score.name.clone(), score.value))
            .collect())
    };
    // Prepared pictures are what the pictures are.
    for ((name, one), (_, other)) in score(&tensors)?.into_iter().zip(score(&images)?) {
        assert!(
            (one - other).abs() < 1e-6 || one == other,
            "{name}: {one} {other}"
        );
    }
    let examples = vec![Example::new(&images[0].0, "four").asked("how many corners?")];
    let found = Evaluator::new().metric(ExactMatch).run(&vlm, &examples)?;
    assert_eq!(found.answers()[0].references, ["four"]);
    let silent = vec![Prompt::new().text(&[5])];
    let error = Evaluator::new()
        .metric(ExactMatch)
        .run(&vlm, &silent)
        .unwrap_err();
    assert!(
        error.to_string().contains("no answer to compare with"),
        "{error}"
    );
    assert!(EvaluationSet::item(&prompts, 0).is_err());
    Ok(())
}

#[test]
fn llavas_conversations_train_and_are_evaluated() -> Result<()> {
    let (vlm, _) = kinds()?;
    let root = tempfile::tempdir().expect("a temporary folder");
    let png = pictures(1)?[0].to_png()?;
    std::fs::write(root.path().join("a.png"), png).expect("written");
    let file = root.path().join("talk.json");
    let talk = r#"[{"id": "1", "image": "a.png", "conversations": [
        {"from": "human", "value": "<image>\nwhat is it"}, {"from": "gpt", "value": "a red square"},
        {"from": "human", "value": "which colour"}, {"from": "gpt", "value": "red"}]}]"#;
    std::fs::write(&file, talk).expect("written");
    let set = crate::data::Conversations::open(&file, root.path())?;
    let prompt = crate::train::TrainingSet::example(&set, &vlm, 0)?.prompt(&vlm, Some(0))?;
    assert_eq!(prompt.inputs().count(), 1);
    let answers = ["a red square", "red"].map(|words| vlm.caption_ids(words));
    let [first, second] = answers;
    assert_eq!(prompt.answer_ids(), [first?, second?].concat());
    let config = TrainerConfig {
        steps: 1,
        batch_size: 1,
        ..TrainerConfig::tour()
    };
    Trainer::new(config)?.fit(&vlm, &set, &set)?;
    let found = Evaluator::new().metric(ExactMatch).run(&vlm, &set)?;
    assert_eq!(found.answers()[0].references, ["red"]);
    Ok(())
}
