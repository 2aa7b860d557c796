//! The file of a run: what it says when keys are misspelled, and that it reads back as it was written.

use super::*;
use crate::nn::LoraConfig;
use crate::projector::ProjectorKind;
use crate::train::Schedule;

const SMALL: &str = "output = \"runs/a\"\n[model]\npreset = \"tiny\"\n[data]\nkind = \"shapes\"\n";

fn said(text: &str) -> String {
    match RunConfig::parse(text, "run.toml") {
        Ok(config) => panic!("{text} was read: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_smallest_file_is_the_usual_of_everything() -> Result<()> {
    let config = RunConfig::parse(SMALL, "run.toml")?;
    let usual = RunConfig::new("runs/a", ModelConfig::preset("tiny"), DataConfig::shapes())?;
    assert_eq!(config, usual);
    assert_eq!(config.settings, VlmSettings::tiny());
    Ok(())
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    for (key, line, meant) in [
        ("[trainer]\nlerning_rate = 1.0", 7, "learning_rate"),
        (
            "[trainer]\nschedule = { warmup_cosine = { warmupp = 0.1 } }",
            7,
            "warmup",
        ),
        ("[trainer]\nschedule = \"constnat\"", 7, "constant"),
        ("[settings]\nquery = \"x\"", 7, "query_text"),
        ("[settings.llm_lora]\nrank_patern = {}", 7, "rank_pattern"),
        ("[evaluate]\npicture = 3", 7, "pictures"),
        ("[modle]\nx = 1", 6, "model"),
    ] {
        let said = said(&format!("{SMALL}{key}\n"));
        assert!(said.contains(&format!("did you mean `{meant}`")), "{said}");
        assert!(said.contains(&format!("run.toml, line {line}:")), "{said}");
    }
    let misspelled = said(&SMALL.replace("kind = \"shapes\"", "kind = \"shapse\""));
    assert!(misspelled.contains("did you mean `shapes`"), "{misspelled}");
    let misspelled = said(&SMALL.replace("[data]", "[data]\nfoldr = \"x\""));
    assert!(
        misspelled.contains("line 5") && misspelled.contains("did you mean `folder`"),
        "{misspelled}"
    );
}

#[test]
fn wrong_values_name_their_key_and_line() {
    for (text, words) in [
        (
            "[trainer]\nsteps = \"many\"",
            &["line 7", "trainer.steps", "many"] as &[&str],
        ),
        ("[trainer]\nsteps = 0", &["steps is 0"]),
        (
            "[trainer]\nseed = 3",
            &["line 7", "trainer.seed", "top of the file"],
        ),
        ("[trainer]\nlearning_rate = nan", &["trainer.learning_rate"]),
        (
            "[settings]\nname = \"blogg\"",
            &["line 7", "blog, corrected"],
        ),
        (
            "[settings.llm_lora]\nr = 0",
            &["settings.llm_lora", "at least 1"],
        ),
        (
            "[evaluate]\nmetrics = [\"blue\"]",
            &["did you mean \"bleu\""],
        ),
        ("[evaluate]\npictures = 0", &["pictures is 0"]),
        ("[trainer", &["line 6", "not TOML"]),
        ("[trainer]\nsteps = 2026-01-01", &["date"]),
    ] {
        let said = said(&format!("{SMALL}{text}\n"));
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{text}: {said}"
        );
    }
    for (left_out, word) in [
        ("output = \"runs/a\"\n", "output is missing"),
        ("[model]\npreset = \"tiny\"\n", "model is missing"),
    ] {
        let said = said(&SMALL.replace(left_out, ""));
        assert!(said.contains(word), "{said}");
    }
    let unknown = said(&SMALL.replace("\"tiny\"", "\"tinny\""));
    assert!(
        unknown.contains("tinny") && unknown.contains("\"tiny\""),
        "{unknown}"
    );
    let both = said(&SMALL.replace("preset = \"tiny\"", "preset = \"tiny\"\nllm = \"x\""));
    assert!(both.contains("leave image_encoder and llm out"), "{both}");
}

/// Every setting, each another than usual.
fn changed() -> Result<RunConfig> {
    let usual = RunConfig::new(
        "runs/b",
        ModelConfig::pair("some/encoder", "some/llm"),
        DataConfig::coco("data/coco"),
    )?;
    let lora = LoraConfig {
        use_rslora: true,
        exclude_modules: Some(crate::nn::LoraTargets::named(&["head"])),
        layers_to_transform: Some(vec![0, 2]),
        ..LoraConfig::new(3, 6.5, &["q_proj", "v_proj"])
    };
    Ok(RunConfig {
        seed: 7,
        settings: VlmSettings {
            vit_lora: None,
            llm_lora: Some(lora),
            projector: ProjectorKind::perceiver_resampler(9),
            query_text: "none".into(),
            new_tokens: vec!["<|\"a\"|>".into()],
            train_encoder: true,
            ..VlmSettings::blog()
        },
        trainer: TrainerSettings {
            max_norm: None,
            schedule: Schedule::WarmupLinear {
                warmup: 0.25,
                floor: 0.125,
            },
            log: Some("a.jsonl".into()),
            quiet: true,
            label_smoothing: 0.1,
            ..TrainerSettings::default()
        },
        evaluate: EvaluateConfig {
            metrics: vec!["bleu".into()],
            pictures: None,
            ..EvaluateConfig::default()
        },
        ..usual
    })
}

#[test]
fn what_is_written_reads_back_the_same_in_toml_and_in_json() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, config) in [
        ("a.toml", changed()?),
        ("a.json", changed()?),
        (
            "b.toml",
            RunConfig::new("runs/b", ModelConfig::preset("tiny"), DataConfig::shapes())?,
        ),
    ] {
        let path = folder.path().join(name);
        config.write(&path)?;
        assert_eq!(
            RunConfig::read(&path)?,
            config,
            "{}",
            std::fs::read_to_string(&path).unwrap_or_default()
        );
    }
    let too_large = RunConfig {
        seed: u64::MAX,
        ..changed()?
    };
    let said = too_large
        .write(folder.path().join("c.toml"))
        .unwrap_err()
        .to_string();
    assert!(said.contains("TOML"), "{said}");
    Ok(())
}

#[test]
fn a_part_of_lora_changes_that_part_of_the_preset() -> Result<()> {
    let config = RunConfig::parse(
        &format!("{SMALL}[settings]\nvit_lora = \"none\"\n[settings.llm_lora]\nr = 2\n"),
        "run.toml",
    )?;
    let usual = VlmSettings::tiny().llm_lora.expect("tiny has some");
    assert_eq!(config.settings.llm_lora, Some(LoraConfig { r: 2, ..usual }));
    assert_eq!(config.settings.vit_lora, None);
    let named = RunConfig::parse(&format!("{SMALL}[settings]\nname = \"blog\"\n"), "run.toml")?;
    assert_eq!(named.settings, VlmSettings::blog());
    Ok(())
}
