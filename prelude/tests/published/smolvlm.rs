//! Idefics3 and SmolVLM: everything that transformers' processor and model make of prompts with any number of pictures in tiles.

use crate::cases::{Case, fixture, pixel_values};
use crate::computed::checksum;
use crate::parity::expanded;
use crate::{CLOSE, Fallible, Outcome, assert_close, logits};
use glassbox_prelude::prelude::*;
use serde_json::json;

const NAMES: [&str; 3] = [
    "smolvlm/idefics3",
    "smolvlm/smolvlm",
    "smolvlm/smolvlm_2025",
];
const IMAGE: i64 = 308;

fn prompt(vlm: &mut Vlm, case: &Case) -> Fallible<Prompt> {
    if let Some(Tiling::Split(way)) = &vlm.tiling {
        vlm.tiling = Some(Tiling::Split(
            way.clone().with_cutting(case.name != "whole"),
        ));
    }
    Ok(vlm.text_prompt(&case.text, &case.shown())?)
}

#[test]
fn prompts_ids_pixel_values_logits_and_greedy_ids_are_transformers() -> Outcome {
    let mut compared = 0;
    for name in NAMES {
        let fixture = fixture(name)?;
        let mut vlm = fixture.model(VlmSettings::published())?;
        for case in &fixture.cases {
            let at = format!("{name}, {}", case.name);
            let messages = case.all["messages"].as_array().ok_or("no messages")?;
            let processor = &vlm.llm_processor;
            let text = processor.render_conversation(messages, &ChatOptions::new(true))?;
            assert_eq!(text, case.text, "{at}");
            let prompt = prompt(&mut vlm, case)?;
            if let Some(values) = pixel_values(&prompt)? {
                let wanted = &case.all["pixel_values"];
                assert_eq!(json!(values.dims()), wanted["shape"], "{at}");
                assert_eq!(json!(checksum(&values)?), wanted["checksum"], "{at}");
            }
            assert_eq!(expanded(&vlm, &prompt, IMAGE)?, case.ids, "{at}");
            let all = logits(&vlm, &prompt)?; // [T, V]
            let count = case.logits.dim(0)?;
            let last = all.narrow(0, all.dim(0)? - count, count)?;
            assert_close(&at, &last, &case.logits, CLOSE)?;
            let made = vlm.generate(&prompt)?.max_new_tokens(case.greedy.len());
            assert_eq!(made.stop_at(Vec::new()).run()?.ids, case.greedy, "{at}");
            compared += 1;
        }
    }
    assert_eq!(compared, 21);
    Ok(())
}

#[test]
fn a_question_and_a_conversation_read_as_the_templates_prompts() -> Outcome {
    for name in NAMES {
        let fixture = fixture(name)?;
        let vlm = fixture.model(VlmSettings::published())?;
        let case = fixture.case("cut")?;
        let made = vlm.generate(&case.pictures[0])?.query("What is this?");
        let made = made.max_new_tokens(case.greedy.len()).stop_at(Vec::new());
        assert_eq!(made.run()?.ids, case.greedy, "{name}");

        let case = fixture.case("turns")?;
        let [first, second] = &case.pictures[..] else {
            return Err("two pictures".into());
        };
        let talk = [
            Turn::asks("What is this?")
                .shows_to(&vlm, first)?
                .answer("a red square"),
            Turn::asks("and that?").shows_to(&vlm, second)?,
        ];
        let prompt = vlm.conversation(&talk)?;
        let reads = expanded(&vlm, &prompt, IMAGE)?;
        assert_eq!(reads, case.ids, "{name}");
        // Answers of every turn carry loss, and everything that trains has a gradient.
        let prompt = vlm.question_prompt(first, "What is this?", "a red square")?;
        let loss = vlm.full_sequence_loss_of(&prompt)?;
        let gradients = loss.loss.backward()?;
        for parameter in vlm.trainable_parameters() {
            let var = parameter.var.ok_or("it trains")?;
            assert!(gradients.get(&var).is_some(), "{}", parameter.name);
        }
    }
    Ok(())
}

#[test]
fn pictures_that_do_not_match_their_places_and_videos_are_refused_by_name() -> Outcome {
    let fixture = fixture("smolvlm/smolvlm")?;
    let vlm = fixture.model(VlmSettings::published())?;
    let picture = &fixture.case("cut")?.pictures[0];
    let refused = |text: &str, shown: &[&dyn VlmInput]| match vlm.text_prompt(text, shown) {
        Ok(_) => String::from("no error"),
        Err(error) => error.to_string(),
    };
    let two = refused("User: <image> and <image>", &[picture]);
    assert!(two.contains('2') && two.contains('1'), "{two}");
    let video = refused("User:<video>What is this?", &[]);
    assert!(
        video.contains("<video>") && video.contains("not read"),
        "{video}"
    );
    Ok(())
}
