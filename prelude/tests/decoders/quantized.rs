//! Language models held in blocks, against the same models with all of their values as floats.

use crate::real::smollm2;
use crate::{Fallible, Outcome, folder, greedy, load};
use glassbox_prelude::candle_core::quantized::{GgmlDType, QTensor};
use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::display::Render;
use glassbox_prelude::language::{
    Decoder, DecoderConfig, GgufFile, GgufType, LlmInput, LlmProcessor,
};
use glassbox_prelude::lora::{TaskType, load_adapter, save_adapter};
use glassbox_prelude::nn::{BlockType, Blocks, LoraConfig, Network, Parameter, Quantize};

/// Greatest difference, over the greatest value.
const CLOSE: f64 = 1e-4;

/// Llama with rows of whole blocks of 256, its heads in pairs in a file, and 96 tokens.
fn wide(tied: bool) -> Fallible<Decoder> {
    let mut config = DecoderConfig::from_file(folder("llama_wide/config.json"))?;
    config.hidden_size = 256;
    config.head_dim = Some(64);
    config.intermediate_size = 512;
    config.num_hidden_layers = 2;
    config.tie_word_embeddings = tied;
    config.initializer_range = 0.2;
    Ok(Decoder::new_random(&config, 3, &Device::Cpu)?)
}

fn words() -> Fallible<LlmProcessor> {
    Ok(LlmProcessor::from_dir(folder("gguf/llama.gguf"))?)
}

/// Of two sequences of twelve tokens, or one of one.
fn logits(llm: &Decoder, batch: usize, tokens: usize) -> Fallible<Tensor> {
    let ids: Vec<u32> = (0..batch * tokens)
        .map(|i| 3 + (i * 7 % 90) as u32)
        .collect();
    let ids = Tensor::from_vec(ids, (batch, tokens), &Device::Cpu)?;
    Ok(llm
        .forward(&LlmInput::ids(&ids))?
        .logits()?
        .to_dtype(DType::F32)?)
}

fn apart(got: &Tensor, want: &Tensor) -> Fallible<f64> {
    assert_eq!(got.dims(), want.dims());
    let largest = |t: &Tensor| t.abs()?.max_all()?.to_scalar::<f32>();
    Ok(f64::from(largest(&(got - want)?)? / largest(want)?))
}

fn held(llm: &Decoder, name: &str) -> &'static str {
    let all = llm.named_parameters();
    let found = all.iter().find(|parameter| parameter.name == name);
    found.map_or("missing", Parameter::held_as)
}

fn bytes(llm: &Decoder) -> usize {
    llm.named_parameters().iter().map(Parameter::bytes).sum()
}

#[test]
fn a_file_of_blocks_is_held_as_it_is_and_says_the_same() -> Outcome {
    let at = tempfile::tempdir()?;
    let words = words()?;
    for tied in [false, true] {
        let llm = wide(tied)?;
        for (kind, name) in [
            (GgufType::Q8_0, "Q8_0"),
            (GgufType::Q4K, "Q4_K"),
            (GgufType::Q6K, "Q6_K"),
            (GgufType::Q4_0, "Q4_0"),
        ] {
            let path = at.path().join(format!("{name}-{tied}.gguf"));
            llm.save_gguf(&path, &words, kind)?;
            let plain = Decoder::load(&path, DType::F32, &Device::Cpu)?;
            let own =
                Decoder::load_quantized(&path, Quantize::as_stored(), DType::F32, &Device::Cpu)?;
            for weight in [
                "model.embed_tokens.weight",
                "model.layers.0.self_attn.q_proj.weight",
                "model.layers.1.mlp.down_proj.weight",
            ] {
                assert_eq!(held(&own, weight), name);
                assert_eq!(held(&plain, weight), "f32");
            }
            assert_eq!(held(&own, "model.norm.weight"), "f32");
            assert!(
                bytes(&own) * 3 < bytes(&plain),
                "{} {}",
                bytes(&own),
                bytes(&plain)
            );
            for (batch, tokens) in [(1, 1), (2, 12), (1, 40)] {
                let apart = apart(
                    &logits(&own, batch, tokens)?,
                    &logits(&plain, batch, tokens)?,
                )?;
                println!("{name}, tied {tied}, {batch} × {tokens}: {apart:.1e}");
                assert!(apart < CLOSE, "{name}: {apart}");
            }
            let prompt = Tensor::new(&[[5u32, 9, 23, 4]], &Device::Cpu)?;
            assert_eq!(
                greedy(&own, &prompt, 24)?,
                greedy(&plain, &prompt, 24)?,
                "{name}"
            );
            // Written again it is the same file, queries and keys in llama.cpp's order too.
            let again = at
                .path()
                .join("again")
                .join(path.file_name().ok_or("a name")?);
            std::fs::create_dir_all(again.parent().ok_or("a folder")?)?;
            let export = own.save_gguf(&again, &words, kind)?;
            assert!(export.notes.is_empty(), "{:?}", export.notes);
            assert!(std::fs::read(&again)? == std::fs::read(&path)?, "{name}");
            let other = own.save_gguf(&again, &words, GgufType::F16)?;
            assert!(
                other.notes.iter().any(|note| note.contains("in blocks")),
                "{:?}",
                other.notes
            );
        }
    }
    Ok(())
}

#[test]
fn rounding_here_is_candles_and_a_folder_is_rounded_as_it_is_read() -> Outcome {
    let at = tempfile::tempdir()?;
    let llm = wide(false)?;
    llm.save(at.path())?;
    let how = Quantize::to(BlockType::Q4K)
        .but(&["down_proj"], BlockType::Q6K)
        .leaving(&["lm_head", "o_proj"]);
    let mut inside = llm.clone();
    assert_eq!(inside.quantize(how.clone())?, 2 * 6); // of seven linear layers in each of two
    let read = Decoder::load_quantized(at.path(), how, DType::F32, &Device::Cpu)?;
    for (name, kind) in [
        ("self_attn.q_proj", "Q4_K"),
        ("mlp.gate_proj", "Q4_K"),
        ("mlp.down_proj", "Q6_K"),
        ("self_attn.o_proj", "f32"),
    ] {
        let name = format!("model.layers.1.{name}.weight");
        assert_eq!(
            (held(&inside, &name), held(&read, &name)),
            (kind, kind),
            "{name}"
        );
    }
    assert_eq!(held(&read, "lm_head.weight"), "f32");
    assert_eq!(apart(&logits(&inside, 2, 5)?, &logits(&read, 2, 5)?)?, 0.0);
    // Candle's dequantize and product are the reference.
    let find = |llm: &Decoder| {
        let mut all = llm.named_parameters();
        all.retain(|parameter| parameter.name == "model.layers.0.mlp.up_proj.weight");
        all.pop().ok_or("no such weight")
    };
    let theirs =
        QTensor::quantize(&find(&llm)?.tensor, GgmlDType::Q4K)?.dequantize(&Device::Cpu)?;
    assert_eq!(apart(&find(&inside)?.values()?, &theirs)?, 0.0);
    // A folder has no blocks of its own.
    let error = Decoder::load_quantized(at.path(), Quantize::as_stored(), DType::F32, &Device::Cpu);
    assert!(error.is_err_and(|error| error.to_string().contains("as stored")));
    Ok(())
}

#[test]
fn half_precision_goes_through_blocks_as_through_floats() -> Outcome {
    let mut llm = wide(false)?;
    llm.quantize(BlockType::Q8_0)?;
    let at = tempfile::tempdir()?;
    llm.save(at.path())?; // the rounded values, as floats
    for dtype in [DType::BF16, DType::F16] {
        let own = Decoder::load_quantized(at.path(), BlockType::Q8_0, dtype, &Device::Cpu)?;
        let plain = Decoder::load(at.path(), dtype, &Device::Cpu)?;
        assert_eq!(own.dtype(), dtype);
        for (batch, tokens) in [(1, 1), (2, 12)] {
            // What half precision takes of both, of which the blocks' values are no part.
            let exact = logits(&llm, batch, tokens)?;
            let ours = apart(&logits(&own, batch, tokens)?, &exact)?;
            let theirs = apart(&logits(&plain, batch, tokens)?, &exact)?;
            println!("{dtype:?} {batch} × {tokens}: {ours:.1e}, floats {theirs:.1e}");
            assert!(ours < 1.5 * theirs && theirs < 0.2, "{ours} {theirs}");
        }
    }
    Ok(())
}

#[test]
fn what_blocks_cannot_do_is_refused_by_name_and_changes_nothing() -> Outcome {
    let mut llm = wide(false)?;
    llm.quantize(BlockType::Q8_0)?;
    let before = logits(&llm, 1, 4)?;
    let refused = |outcome: Result<(), glassbox_prelude::Error>, words: &[&str]| match outcome {
        Ok(()) => panic!("{words:?} was taken"),
        Err(error) => {
            let error = error.to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    };
    refused(
        llm.set_base_trainable(true),
        &["q_proj", "Q8_0", "add_lora"],
    );
    assert!(llm.trainable_parameters().is_empty()); // the norms before it too
    refused(
        llm.quantize(BlockType::Q4K).map(drop),
        &["Q8_0", "rounded twice"],
    );
    assert_eq!(llm.quantize(BlockType::Q8_0)?, 0); // it is so already
    let dora = LoraConfig {
        use_dora: true,
        ..LoraConfig::new(2, 4.0, &["down_proj"])
    };
    refused(
        llm.add_lora(&dora, 1).map(drop),
        &["DoRA", "down_proj", "Q8_0"],
    );
    llm.add_lora(&LoraConfig::new(2, 4.0, &["down_proj", "q_proj"]), 1)?;
    refused(llm.merge_lora(), &["q_proj", "merged", "Q8_0"]);
    let projection = &mut llm.layers[0].mlp.down_proj;
    let zeros = Tensor::zeros((256, 512), DType::F32, &Device::Cpu)?;
    refused(projection.weight.set(&zeros), &["down_proj", "Q8_0"]);
    assert_eq!(apart(&logits(&llm, 1, 4)?, &before)?, 0.0);
    // With floats again all of it can be done.
    assert_eq!(llm.dequantize()?, 2 * 7 + 1);
    assert!(apart(&logits(&llm, 1, 4)?, &before)? < CLOSE);
    llm.merge_lora()?;
    refused(llm.quantize(BlockType::Q8_0).map(drop), &["merged"]);
    llm.remove_lora()?;
    llm.set_base_trainable(true)?;
    refused(
        llm.quantize(BlockType::Q8_0).map(drop),
        &["trains", "freeze"],
    );
    let mut odd = load("llama_wide")?; // rows of 64 and 96
    refused(
        odd.quantize(BlockType::Q4K).map(drop),
        &["64", "Q4_K", "Q8_0"],
    );
    assert!(
        odd.named_parameters()
            .iter()
            .all(|parameter| parameter.blocks.is_none())
    );
    refused(
        odd.quantize(Quantize::to(BlockType::Q8_0).leaving(&["q_porj"]))
            .map(drop),
        &["q_porj"],
    );
    Ok(())
}

#[test]
fn adapters_new_tokens_and_exports_work_on_blocks() -> Outcome {
    let at = tempfile::tempdir()?;
    let mut llm = wide(false)?;
    llm.quantize(BlockType::Q8_0)?;
    llm.embed_tokens.quantize(BlockType::Q8_0)?;
    let (words, new) = words()?.with_new_tokens(&["<new>".into()])?;
    let ids: Vec<u32> = new.iter().map(|token| token.id).collect();
    let like: Vec<Vec<u32>> = new.iter().map(|token| token.pieces.clone()).collect();
    llm.add_tokens(&ids, &like)?;
    let row = llm.embed_ids(&ids)?;
    assert!(row.abs()?.max_all()?.to_scalar::<f32>()? > 0.0);
    llm.add_lora(&LoraConfig::new(2, 64.0, &["down_proj"]), 1)?;
    for parameter in llm.trainable_parameters() {
        if let Some(var) = parameter.var {
            var.set(&(var.as_tensor() + 0.05)?)?;
        }
    }
    let adapted = logits(&llm, 2, 5)?;
    save_adapter(&llm, TaskType::CausalLm, None, at.path())?;
    llm.remove_lora()?;
    assert!(apart(&logits(&llm, 2, 5)?, &adapted)? > 0.01);
    load_adapter(&mut llm, at.path())?;
    assert_eq!(apart(&logits(&llm, 2, 5)?, &adapted)?, 0.0);
    // One with DoRA is refused on blocks, and the LoRA that is there stays.
    let mut floats = wide(false)?;
    let dora = LoraConfig {
        use_dora: true,
        ..LoraConfig::new(2, 4.0, &["down_proj"])
    };
    floats.add_lora(&dora, 1)?;
    let other = tempfile::tempdir()?;
    save_adapter(&floats, TaskType::CausalLm, None, other.path())?;
    let refused = load_adapter(&mut llm, other.path());
    assert!(refused.is_err_and(|error| {
        let error = error.to_string();
        ["DoRA", "down_proj", "Q8_0", "dequantize"]
            .iter()
            .all(|word| error.contains(word))
    }));
    assert_eq!(apart(&logits(&llm, 2, 5)?, &adapted)?, 0.0);
    let path = at.path().join("whole.gguf");
    let export = llm.save_gguf(&path, &words, GgufType::F32)?;
    assert!(export.notes.iter().any(|note| note.contains("in blocks")));
    let whole = Decoder::load(&path, DType::F32, &Device::Cpu)?;
    assert!(apart(&logits(&whole, 2, 5)?, &adapted)? < CLOSE);
    Ok(())
}

#[test]
fn a_model_in_blocks_says_so_with_its_true_size() -> Outcome {
    let mut llm = wide(false)?;
    let plain = bytes(&llm);
    llm.quantize(Quantize::to(BlockType::Q8_0).but(&["down_proj"], BlockType::Q4K))?;
    let blocks = |name: &str, kind: BlockType| -> usize {
        let all = llm.named_parameters();
        let of = all.iter().filter(|parameter| parameter.name.contains(name));
        of.map(|p| p.count() / kind.values() * kind.bytes()).sum()
    };
    let all: usize = llm.named_parameters().iter().map(Parameter::count).sum();
    let down = 2 * 256 * 512;
    let rest = (96 + 5) * 256; // embedding and norms
    let wanted = blocks("down_proj", BlockType::Q4K) + (all - down - rest) / 32 * 34 + rest * 4;
    assert_eq!(bytes(&llm), wanted);
    assert!(wanted * 2 < plain);
    let shown = llm.render().plain().to_owned();
    assert!(shown.contains("Q8_0") && shown.contains("Q4_K"), "{shown}");
    let layer = llm.layers[0].mlp.down_proj.render().plain().to_owned();
    assert!(layer.contains("[256, 512] Q4_K cpu, frozen"), "{layer}");
    let weight = llm.layers[0]
        .mlp
        .down_proj
        .weight
        .render()
        .plain()
        .to_owned();
    assert!(
        weight.contains("held as Q4_K") && !weight.contains("NaN"),
        "{weight}"
    );
    Ok(())
}

#[test]
fn damaged_blocks_of_a_file_are_refused() -> Outcome {
    let at = tempfile::tempdir()?;
    let path = at.path().join("x.gguf");
    wide(false)?.save_gguf(&path, &words()?, GgufType::Q8_0)?;
    let mut bytes = std::fs::read(&path)?;
    let end = bytes.len() - 34 * 8; // in the last tensor, which is the head
    let scale = end - end % 34;
    bytes[scale..scale + 68].fill(0xFF); // somewhere in there is a scale, which becomes NaN
    let file = GgufFile::from_bytes("damaged", bytes)?;
    let read = file.quantized_decoder(Quantize::as_stored(), DType::F32, &Device::Cpu);
    assert!(read.is_err_and(|error| error.to_string().contains("NaN or infinite")));
    Ok(())
}

#[test]
fn a_published_file_of_blocks_answers_as_its_floats_do() -> Outcome {
    let Some((path, _unpacked)) = smollm2()? else {
        return Ok(());
    };
    let file = GgufFile::open(&path)?;
    let plain = file.decoder(DType::F32, &Device::Cpu)?;
    let own = file.quantized_decoder(Quantize::as_stored(), DType::F32, &Device::Cpu)?;
    println!(
        "SmolLM2: {} bytes as floats, {} in blocks",
        bytes(&plain),
        bytes(&own)
    );
    assert!(bytes(&own) * 4 < bytes(&plain));
    assert!(own.embed_tokens.weight.blocks().map(Blocks::kind).is_some());
    let prompt = file.processor()?.encode("The capital of France is")?;
    let prompt = Tensor::new(prompt, &Device::Cpu)?.unsqueeze(0)?;
    let made = greedy(&own, &prompt, 12)?;
    assert_eq!(made, greedy(&plain, &prompt, 12)?);
    println!("{}", file.processor()?.decode(&made[0])?);
    Ok(())
}
