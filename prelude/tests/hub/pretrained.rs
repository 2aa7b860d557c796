//! Whole models by name: two repositories, a cache, folders, and a fine-tune that knows its base.

use std::path::{Path, PathBuf};

use glassbox_prelude::hub::{HubError, HubOptions};
use glassbox_prelude::prelude::*;

use super::server::{Manners, Repositories, ServedFile, Server};
use super::{TestResult, options, turn};

const ENCODER: &str = "owner/encoder";
const LLM: &str = "owner/llm";

/// The folders that the tiny default was made from.
fn tiny(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("assets/tiny")
        .join(part)
}

fn served(part: &str, names: &[&'static str]) -> std::io::Result<Vec<ServedFile>> {
    names
        .iter()
        .map(|&name| {
            Ok(ServedFile {
                name,
                bytes: std::fs::read(tiny(part).join(name))?,
                large: name.ends_with(".safetensors"),
            })
        })
        .collect()
}

fn repositories() -> std::io::Result<Repositories> {
    let encoder = [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ];
    let llm = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    Ok(vec![
        (ENCODER, served("vit", &encoder)?),
        (LLM, served("llm", &llm)?),
    ])
}

fn preset(options: HubOptions) -> Preset {
    Preset::pair(ENCODER, LLM)
        .settings(VlmSettings::tiny())
        .hub(options)
}

fn ids(vlm: &Vlm) -> Result<Vec<u32>> {
    let image = Image::filled(60, 50, [200, 30, 40])?;
    Ok(vlm.generate(&image)?.max_new_tokens(6).run()?.ids)
}

fn error(preset: &Preset) -> std::result::Result<Error, String> {
    match Vlm::from_pretrained(preset, &Device::Cpu) {
        Ok(_) => Err("the model was loaded".into()),
        Err(error) => Ok(error),
    }
}

#[test]
fn a_model_comes_from_two_repositories_and_a_fine_tune_finds_them_again() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let server = Server::start_all(repositories()?, Manners::default())?;
    let online = options(cache.path(), &server.endpoint).on_progress(|_| {});
    let offline = online.clone().allow_download(false);

    let before = preset(offline.clone());
    assert!(before.render().plain().contains("allow_download(true)"));
    assert!(error(&before)?.to_string().contains("owner/encoder"));
    assert_eq!(server.requests(), [], "nothing is fetched unasked");

    let vlm = Vlm::from_pretrained(&preset(online), &Device::Cpu)?;
    assert_eq!(ids(&vlm)?, ids(&Vlm::tiny(&Device::Cpu)?)?);
    let fetched = server.requests().len();
    let again = Vlm::from_pretrained(&preset(offline.clone()), &Device::Cpu)?;
    assert_eq!(ids(&again)?, ids(&vlm)?);

    let folder = tempfile::tempdir()?;
    let fine_tuned = Vlm::from_pretrained(&preset(offline.clone()).seed(7), &Device::Cpu)?;
    fine_tuned.save(folder.path())?;
    let saved = Preset::fine_tune(folder.path())?.hub(offline);
    assert_eq!(saved.base, BaseModels::new(ENCODER, LLM));
    let loaded = Vlm::from_pretrained(&saved, &Device::Cpu)?;
    assert_eq!(loaded.settings, fine_tuned.settings);
    assert_eq!(ids(&loaded)?, ids(&fine_tuned)?);
    let fresh = |vlm: &Vlm| -> Result<Vec<Vec<f32>>> {
        Ok(vlm.projector.mlp()?.fc1.weight.tensor().to_vec2::<f32>()?)
    };
    assert_eq!(fresh(&loaded)?, fresh(&fine_tuned)?);
    assert_ne!(fresh(&loaded)?, fresh(&vlm)?);
    assert_eq!(server.requests().len(), fetched, "the cache was enough");
    Ok(())
}

#[test]
fn another_kind_of_model_is_refused_before_its_weights_are_fetched() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let mut repositories = repositories()?;
    repositories[1].1.iter_mut().for_each(|file| {
        if file.name == "config.json" {
            file.bytes = br#"{"model_type": "mamba"}"#.to_vec();
        }
    });
    let server = Server::start_all(repositories, Manners::default())?;
    let preset = preset(options(cache.path(), &server.endpoint).on_progress(|_| {}));
    // The second time the config is in the cache already.
    for _ in 0..2 {
        let error = error(&preset)?;
        assert!(
            matches!(&error, Error::Hub(HubError::WrongArchitecture { found, .. }) if found == "mamba"),
            "{error}"
        );
    }
    let weights = |request: &super::server::Request| {
        request.path.starts_with("/owner/llm") && request.path.ends_with(".safetensors")
    };
    assert!(!server.requests().iter().any(weights));
    Ok(())
}

#[test]
fn a_gated_model_says_how_to_get_access() -> TestResult {
    let _turn = turn();
    let cache = tempfile::tempdir()?;
    let manners = Manners {
        refuse: Some((401, "GatedRepo")),
        ..Manners::default()
    };
    let server = Server::start_all(repositories()?, manners)?;
    let error = error(&preset(options(cache.path(), &server.endpoint)))?;
    assert!(
        error.to_string().contains(ENCODER) && error.to_string().contains("HF_TOKEN"),
        "{error}"
    );
    Ok(())
}

/// A copy of the tiny parts in folders of their own.
fn copies() -> std::io::Result<tempfile::TempDir> {
    let root = tempfile::tempdir()?;
    for part in ["vit", "llm"] {
        std::fs::create_dir(root.path().join(part))?;
        for entry in std::fs::read_dir(tiny(part))? {
            let entry = entry?;
            std::fs::copy(entry.path(), root.path().join(part).join(entry.file_name()))?;
        }
    }
    Ok(root)
}

#[test]
fn folders_that_do_not_hold_what_they_should_are_named() -> TestResult {
    let _turn = turn();
    let root = copies()?;
    let (vit, llm) = (root.path().join("vit"), root.path().join("llm"));
    let pair = Preset::pair(vit.display().to_string(), llm.display().to_string())
        .settings(VlmSettings::tiny());
    let vlm = Vlm::from_pretrained(&pair, &Device::Cpu)?;
    assert_eq!(ids(&vlm)?, ids(&Vlm::tiny(&Device::Cpu)?)?);

    // A config that asks for other sizes: the tensor and both shapes.
    let config = llm.join("config.json");
    let text = std::fs::read_to_string(&config)?;
    let mut value: serde_json::Value = serde_json::from_str(&text)?;
    let found = value["intermediate_size"].as_u64().ok_or("no size")?;
    value["intermediate_size"] = 40.into();
    std::fs::write(&config, value.to_string())?;
    let message = error(&pair)?.to_string();
    for part in ["gate_up_proj", &(2 * found).to_string(), "80"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    std::fs::write(&config, text)?;

    let weights = llm.join("model.safetensors");
    let whole = std::fs::read(&weights)?;
    std::fs::write(&weights, &whole[..whole.len() / 2])?;
    let message = error(&pair)?.to_string();
    assert!(
        message.contains("truncated") && message.contains("model.safetensors"),
        "{message}"
    );
    std::fs::write(&weights, whole)?;

    std::fs::remove_file(vit.join("preprocessor_config.json"))?;
    let message = error(&pair)?.to_string();
    assert!(
        message.ends_with("lacks preprocessor_config.json"),
        "{message}"
    );

    let swapped = Preset::pair(llm.display().to_string(), vit.display().to_string());
    assert!(
        error(&swapped)?
            .to_string()
            .contains("preprocessor_config.json")
    );
    let nowhere = Preset::pair("./nowhere", "./nowhere");
    assert!(error(&nowhere)?.to_string().contains("no such"));
    Ok(())
}

#[test]
fn the_built_in_models_are_a_base_like_any_other() -> TestResult {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let vlm = Vlm::from_pretrained(&Preset::tiny().seed(3), &Device::Cpu)?;
    vlm.save(folder.path())?;
    let loaded = Vlm::from_pretrained(&Preset::fine_tune(folder.path())?, &Device::Cpu)?;
    assert_eq!(ids(&loaded)?, ids(&vlm)?);
    assert_eq!(loaded.settings, vlm.settings);
    assert!(
        Preset::tiny()
            .render()
            .plain()
            .contains("part of the program")
    );
    Ok(())
}
