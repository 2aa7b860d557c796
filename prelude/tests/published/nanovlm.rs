//! nanoVLM of six days against its own code, run from its repository: `scripts/fixtures/nanovlm.py`.

use crate::cases::{fixture, pixel_values};
use crate::computed::checksum;
use crate::parity::expanded;
use crate::{CLOSE, Fallible, Outcome, assert_close, logits};
use glassbox_prelude::prelude::*;
use serde_json::json;

const DAYS: [&str; 6] = ["v0_1", "v0_2", "chat", "tiles", "global", "longest"];

/// What was asked, in the model's own words.
fn written(vlm: &Vlm, question: &str, pictures: usize) -> Fallible<String> {
    let mut content = vec![json!({"type": "image"}); pictures];
    content.push(json!({"type": "text", "text": question}));
    let message = json!({"role": "user", "content": content});
    let processor = &vlm.llm_processor;
    Ok(processor.render_conversation(&[message], &ChatOptions::new(true))?)
}

#[test]
fn prompts_ids_pixel_values_logits_and_greedy_ids_are_those_of_its_own_code() -> Outcome {
    let mut compared = 0;
    for day in DAYS {
        let fixture = fixture(&format!("nanovlm/{day}"))?;
        let vlm = fixture.model(VlmSettings::published())?;
        let image = vlm.settings.image_token.clone().ok_or("an image token")?;
        let id = vlm.llm_processor.token_id(&image).map_or(-1, i64::from);
        for case in &fixture.cases {
            let at = format!("{day}, {}", case.name);
            let question = case.all["question"].as_str().ok_or("no question")?;
            let text = written(&vlm, question, case.pictures.len())?;
            let prompt = vlm.text_prompt(&text, &case.shown())?;
            let values = pixel_values(&prompt)?.ok_or("pixel values")?;
            if let Some(wanted) = case.all["checksum"].as_str() {
                assert_eq!(checksum(&values)?, wanted, "{at}");
            }
            if let Some(wanted) = fixture.tensor(&format!("{}.pixel_values", case.name)) {
                assert_close(&at, &values, wanted, 2e-7)?;
            }
            let mut ids = expanded(&vlm, &prompt, id)?;
            if day == "v0_1" {
                // The picture has no token there, and stands in front.
                ids.retain(|id| *id >= 0);
                assert!(matches!(prompt.pieces.first(), Some(Piece::Input(_))));
            }
            assert_eq!(ids, case.ids, "{at}");
            let all = logits(&vlm, &prompt)?; // [T, V]
            let count = case.logits.dim(0)?;
            let last = all.narrow(0, all.dim(0)? - count, count)?;
            assert_close(&at, &last, &case.logits, CLOSE)?;
            let made = vlm.generate(&prompt)?.max_new_tokens(case.greedy.len());
            assert_eq!(made.stop_at(Vec::new()).run()?.ids, case.greedy, "{at}");
            if let [picture] = &case.pictures[..] {
                let made = vlm.generate(picture)?.query(question);
                let made = made.max_new_tokens(case.greedy.len()).stop_at(Vec::new());
                assert_eq!(made.run()?.ids, case.greedy, "{at}, as a question");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 21);
    Ok(())
}

#[test]
fn its_text_ends_where_its_tokenizer_says() -> Outcome {
    for day in DAYS {
        let vlm = fixture(&format!("nanovlm/{day}"))?.model(VlmSettings::published())?;
        let end = vlm.llm_processor.eos_id();
        assert_eq!(end, vlm.llm_processor.token_id("<|im_end|>"), "{day}");
        assert!(end.is_some(), "{day}");
    }
    Ok(())
}
