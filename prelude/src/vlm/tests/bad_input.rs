//! What must be refused, and what the message says.

use super::*;

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Input(message)) => message,
        Err(error @ Error::ContextOverflow { .. }) => error.to_string(),
        other => panic!("not an input error: {other:?}"),
    }
}

fn pixels(vlm: &Vlm) -> Result<Tensor> {
    vlm.image_processor.preprocess_batch(&pictures(2)?)
}

#[test]
fn no_picture_and_no_words_are_named() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let pixels = pixels(&vlm)?;
    let loss = |captions: &[&str]| {
        let captions: Vec<String> = captions.iter().map(ToString::to_string).collect();
        vlm.full_sequence_loss(&pixels, &captions)
    };
    assert!(message(loss(&["a square", " \n"])).contains("empty"));
    assert!(message(loss(&["a square"])).contains("1 captions for 2 pictures"));
    let none = Tensor::zeros((0, 3, 32, 32), DType::F32, &Device::Cpu)?;
    assert!(message(vlm.full_sequence_loss(&none, &[])).contains("no pictures"));
    message(vlm.generate_from(&none).run_all());
    message(vlm.generate_batch(&[]));
    message(vlm.embed_images(&[]));
    message(Image::filled(0, 5, [0, 0, 0]));
    let small = Tensor::zeros((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
    assert!(message(vlm.generate_from(&small).run_all()).contains("32"));
    Ok(())
}

#[test]
fn what_does_not_fit_the_context_is_named() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let pixels = pixels(&vlm)?;
    let long = ["a square".to_string(), "a red square and ".repeat(60)];
    let text = message(vlm.full_sequence_loss(&pixels, &long));
    assert!(text.contains("context is 128"), "{text}");
    assert!(
        text.contains("image 17") && text.contains("target 480"),
        "{text}"
    );
    let generate = vlm.generate_from(&pixels).max_new_tokens(500);
    assert!(message(generate.clone().run_all()).contains("context is 128"));
    assert!(message(generate.clone().run_all()).contains("new tokens 500"));
    assert!(message(generate.num_beams(3).run_all()).contains("context is 128"));
    Ok(())
}

#[test]
fn ids_and_indices_out_of_range_are_named() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let batch = CaptionBatch {
        pixel_values: pixels(&vlm)?,
        caption_ids: vec![vec![1, 2, 3], vec![4, 99_999, 6]],
        query: Query::Vector,
    };
    assert!(message(vlm.full_sequence_loss_of(&batch)).contains("99999"));
    // A target is never looked up in the embedding table.
    let last = CaptionBatch {
        caption_ids: vec![vec![1, 2, 3], vec![4, 5, 99_999]],
        ..batch.clone()
    };
    assert!(message(vlm.full_sequence_loss_of(&last)).contains("99999"));
    let query = CaptionBatch {
        caption_ids: vec![vec![1, 2], vec![3, 4]],
        query: Query::Shared(vec![99_999]),
        ..batch.clone()
    };
    assert!(message(vlm.full_sequence_loss_of(&query)).contains("99999"));
    let short = CaptionBatch {
        caption_ids: vec![vec![1, 2, 3], vec![4, 5]],
        ..batch
    };
    assert!(message(vlm.random_prefix_loss_at(&short, &[2, 2])).contains("only 2 tokens"));
    Ok(())
}

#[test]
fn numbers_that_are_none_are_refused() -> Result<()> {
    let mut vlm = vlm(VlmSettings::corrected())?;
    let nan = Tensor::full(f32::NAN, (1, 3, 32, 32), &Device::Cpu)?;
    assert!(message(vlm.generate_from(&nan).run_all()).contains("NaN"));
    assert!(message(vlm.generate_from(&nan).num_beams(2).run_all()).contains("NaN"));
    message(vlm.generate_from(&pixels(&vlm)?).top_p(2.0).run_all());

    // NaN in the weights of a fine-tune: the tensor is named, and the model stays as it was.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let broken = vlm.clone();
    let bias = broken
        .projector
        .mlp()?
        .fc1
        .bias
        .as_ref()
        .and_then(Weight::var);
    let bias = bias.expect("the projector trains");
    let before = bias.as_tensor().copy()?;
    bias.set(&Tensor::full(f32::NAN, bias.dims(), &Device::Cpu)?)?;
    broken.save(dir.path())?;
    bias.set(&before)?;
    let error = vlm.load_fine_tune(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    assert!(error.to_string().contains("projector.fc1.bias"), "{error}");
    vlm.full_sequence_loss(&pixels(&vlm)?, &captions())?;
    Ok(())
}

#[test]
fn widths_that_do_not_fit_are_named() -> Result<()> {
    let vlm = vlm(VlmSettings::corrected())?;
    let wide = Tensor::zeros((1, 4, WIDTH + 1), DType::F32, &Device::Cpu)?;
    let text = message(vlm.concatenate(&wide, &Query::Vector, &[]));
    assert!(text.contains("25") && text.contains("24"), "{text}");
    let hidden = Tensor::zeros((1, 4, 17), DType::F32, &Device::Cpu)?;
    let text = message(vlm.projector.forward(&hidden));
    assert!(text.contains("17") && text.contains("16"), "{text}");
    let embeds = Tensor::zeros((1, 4, WIDTH + 1), DType::F32, &Device::Cpu)?;
    assert!(message(vlm.llm.forward(&LlmInput::embeds(&embeds))).contains("hidden_size is 24"));
    Ok(())
}

#[test]
fn a_fine_tune_of_another_base_is_refused_though_all_shapes_fit() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    vlm(VlmSettings::corrected())?.save(dir.path())?;
    let mut other = parts()?;
    other.llm = Decoder::new_random(&other.llm.config, 77, &Device::Cpu)?;
    let mut other = Vlm::new(other, shrunk(VlmSettings::corrected()), 3)?;
    let error = other.load_fine_tune(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Config(text) if text.contains("another language model")),
        "{error}"
    );
    let mut other = parts()?;
    other.image_encoder =
        Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 77, &Device::Cpu)?.into();
    let mut other = Vlm::new(other, shrunk(VlmSettings::corrected()), 3)?;
    let error = other.load_fine_tune(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Config(text) if text.contains("another image encoder")),
        "{error}"
    );
    // The same base in another precision is the same base.
    let mut half = parts()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    half.llm.save(folder.path())?;
    half.llm = Decoder::load(folder.path(), DType::BF16, &Device::Cpu)?;
    let mut half = Vlm::new(half, shrunk(VlmSettings::corrected()), 3)?;
    half.load_fine_tune(dir.path())
}
