//! New special tokens: one id each, rows of their own that train, saved and loaded again.

use super::*;

/// The preset with words that the fixtures' tokenizer does not have.
fn new_tokens() -> VlmSettings {
    let (start, end) = ("<|picture|>", "<|end of picture|>");
    shrunk(VlmSettings {
        start_text: start.into(),
        end_text: end.into(),
        new_tokens: vec![start.into(), end.into()],
        ..VlmSettings::new_tokens()
    })
}

/// The small parts with a table of `spare` rows more than the tokenizer has tokens.
fn parts_with(spare: usize, tied: bool) -> Result<VlmParts> {
    let mut parts = parts()?;
    let config = DecoderConfig {
        vocab_size: parts.llm_processor.vocab_size() + spare,
        tie_word_embeddings: tied,
        ..parts.llm.config.clone()
    };
    parts.llm = Decoder::new_random(&config, 2, &Device::Cpu)?;
    Ok(parts)
}

#[test]
fn new_tokens_land_on_unused_rows_or_behind_the_table() -> Result<()> {
    // Phi-3-mini's case: more rows than tokens. Then no spare row at all, then one for two tokens.
    for (spare, tied) in [(53, false), (0, false), (1, true)] {
        let before = parts_with(spare, tied)?;
        let tokens = before.llm_processor.vocab_size() as u32;
        let rows = before.llm.config.vocab_size;
        let vlm = Vlm::new(before.clone(), new_tokens(), 3)?;
        let processor = &vlm.llm_processor;
        assert_eq!(processor.encode_plain("<|picture|>")?, [tokens]);
        assert_eq!(processor.encode_plain("<|end of picture|>")?, [tokens + 1]);
        assert_eq!(processor.decode(&[tokens])?, "");
        assert_eq!(vlm.llm.config.vocab_size, rows.max(tokens as usize + 2));

        // Each row begins as the mean of what the text was cut into before.
        let pieces = before.llm_processor.encode_plain("<|end of picture|>")?;
        assert!(pieces.len() > 1);
        let mean = before.llm.embed_ids(&pieces)?.mean(1)?.squeeze(0)?;
        let row = vlm.llm.embed_ids(&[tokens + 1])?.flatten_all()?;
        crate::nn::testing::assert_close(&row, &mean, 1e-6);
        // Old tokens are as they were.
        assert_eq!(
            vlm.llm
                .embed_ids(&pieces)?
                .flatten_all()?
                .to_vec1::<f32>()?,
            before
                .llm
                .embed_ids(&pieces)?
                .flatten_all()?
                .to_vec1::<f32>()?
        );

        let image_tokens = vlm.embed_images(&pictures(1)?)?;
        let sequence = vlm.concatenate(&image_tokens, &Query::Vector, &[])?;
        assert_eq!(sequence.lengths[0], sequence.strip(0)?.len());
        let logits = vlm.forward(&sequence)?.logits()?.dims2()?;
        assert_eq!(logits, (1, vlm.llm.config.vocab_size));
    }
    Ok(())
}

#[test]
fn rows_of_new_tokens_train_and_the_tables_get_no_gradient() -> Result<()> {
    for (spare, tied) in [(5, false), (0, true)] {
        let vlm = Vlm::new(parts_with(spare, tied)?, new_tokens(), 3)?;
        let pixels = vlm.image_processor.preprocess_batch(&pictures(2)?)?;
        let names: Vec<String> = vlm
            .trainable_parameters()
            .into_iter()
            .map(|parameter| parameter.name)
            .filter(|name| name.ends_with(".rows"))
            .collect();
        let own = ["llm.model.embed_tokens.rows", "llm.lm_head.rows"];
        assert_eq!(names, own[..if tied { 1 } else { 2 }]);
        assert!(!vlm.start_vec.is_trainable() && vlm.start_vec.tensor().elem_count() == 0);

        let loss = || vlm.full_sequence_loss(&pixels, &captions());
        let grads = loss()?.loss.backward()?;
        assert!(grads.get(vlm.llm.embed_tokens.weight.tensor()).is_none());
        for rows in vlm.llm.token_rows() {
            let var = rows.weight.var().expect("trains");
            let gradient = grads.get(var).expect("a gradient").to_vec2::<f32>()?;
            let start = var.as_tensor().copy()?;
            for (row, gradient) in gradient.iter().enumerate() {
                let step = 1e-2f32;
                let nudged = |by: f32| -> Result<f32> {
                    let mut values = start.to_vec2::<f32>()?;
                    values[row][3] += by;
                    var.set(&Tensor::new(values, &Device::Cpu)?)?;
                    loss()?.value()
                };
                let numeric = (nudged(step)? - nudged(-step)?) / (2.0 * step);
                var.set(&start)?;
                assert!(gradient.iter().any(|g| *g != 0.0), "row {row}");
                assert!(
                    (numeric - gradient[3]).abs() < 1e-2 * (1.0 + numeric.abs()),
                    "row {row}: finite difference {numeric}, gradient {}",
                    gradient[3]
                );
            }
        }
    }
    Ok(())
}

#[test]
fn rows_of_new_tokens_are_saved_and_loaded() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let vlm = Vlm::new(parts_with(1, false)?, new_tokens(), 3)?;
    stir(&vlm)?;
    for rows in vlm.llm.token_rows() {
        let var = rows.weight.var().expect("trains");
        var.set(&crate::nn::testing::random(var.dims(), 1.0, 5))?;
    }
    vlm.save(dir.path())?;
    let mut other = Vlm::new(parts_with(1, false)?, shrunk(VlmSettings::blog()), 9)?;
    other.load_fine_tune(dir.path())?;
    let pixels = vlm.image_processor.preprocess_batch(&pictures(2)?)?;
    let loss = |vlm: &Vlm| vlm.full_sequence_loss(&pixels, &captions())?.value();
    assert_eq!(loss(&other)?, loss(&vlm)?);
    assert_eq!(other.settings, vlm.settings);
    assert_eq!(
        other.trainable_parameters().len(),
        vlm.trainable_parameters().len()
    );
    // A second fine-tune with the same tokens goes onto the first; one with others does not.
    other.load_fine_tune(dir.path())?;
    let else_settings = VlmSettings {
        new_tokens: vec!["<|other|>".into()],
        ..new_tokens()
    };
    let mut another = Vlm::new(parts_with(1, false)?, else_settings, 3)?;
    let error = another.load_fine_tune(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("<|other|>") && error.contains("<|picture|>"),
        "{error}"
    );

    // As a whole model the rows stand in the tables.
    let whole = tempfile::tempdir().expect("a temporary folder");
    let mut merged = vlm.llm.clone();
    merged.merge_lora()?;
    merged.save(whole.path())?;
    let loaded = Decoder::load(whole.path(), DType::F32, &Device::Cpu)?;
    let ids = Tensor::new(&[[5u32, vlm.llm.token_rows()[0].ids()[1], 7]], &Device::Cpu)?;
    let logits = |llm: &Decoder| -> Result<Tensor> {
        Ok(llm.forward(&LlmInput::ids(&ids))?.logits()?.detach())
    };
    crate::nn::testing::assert_close(&logits(&loaded)?, &logits(&merged)?, 1e-5);
    Ok(())
}

#[test]
fn a_token_that_is_there_already_trains_its_row() -> Result<()> {
    let before = parts_with(3, false)?;
    let user = before.llm_processor.token_id("<|user|>");
    let user = user.expect("the tokenizer has one");
    let tokens = before.llm_processor.vocab_size() as u32;
    let settings = VlmSettings {
        new_tokens: vec!["<|picture|>".into(), "<|user|>".into()],
        ..new_tokens()
    };
    let vlm = Vlm::new(before.clone(), settings.clone(), 3)?;
    assert_eq!(vlm.llm.token_rows()[0].ids(), [user, tokens]);
    let row = |llm: &Decoder| -> Result<Vec<f32>> {
        Ok(llm.embed_ids(&[user])?.flatten_all()?.to_vec1::<f32>()?)
    };
    assert_eq!(row(&vlm.llm)?, row(&before.llm)?);

    for bad in [vec![" "], vec!["<|a|>", "<|a|>"]] {
        let settings = VlmSettings {
            new_tokens: bad.into_iter().map(String::from).collect(),
            ..settings.clone()
        };
        let error = Vlm::new(before.clone(), settings, 3).unwrap_err();
        assert!(matches!(error, Error::Tokenizer(_)), "{error}");
    }
    Ok(())
}
