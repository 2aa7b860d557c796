//! Runs by a file: what is in the way of one, which of its states is scored.

use super::*;
use crate::Result;
use crate::train::{Trainer, TrainingSet, run_checkpoints};

/// A run of few steps on drawn shapes.
fn small(output: &std::path::Path) -> Result<RunConfig> {
    small_with(output, "")
}

/// The same with another line in its section of the model.
fn small_with(output: &std::path::Path, model: &str) -> Result<RunConfig> {
    let text = format!(
        "output = {:?}\nseed = 5\n[model]\npreset = \"tiny\"\ndevice = \"cpu\"\n{model}\n[data]\nkind = \"shapes\"\ntrain = 8\nvalidation = 4\n\
         [trainer]\nsteps = 3\nbatch_size = 2\nlearning_rate = 0.003\nvalidate_every = 1\nvalidation_samples = 2\nquiet = true\n\
         [trainer.checkpoints]\nfolder = {:?}\nevery = 1\nkeep_last = 3\n\
         [trainer.best_by]\nfigure = \"validation_loss\"\nhighest = true\n\
         [evaluate]\npictures = 2\nmax_new_tokens = 4\nbaselines = false\nwatch = 0\nmetrics = [\"perplexity\"]\n",
        output.display().to_string(),
        output.join("kept").display().to_string()
    );
    RunConfig::parse(&text, "run.toml")
}

/// `prepare` took a `run.json` that it could not read for no run, and wrote over the file beside it.
#[test]
fn a_run_whose_run_json_is_unreadable_is_in_the_way_and_its_file_stays() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = small(folder.path())?;
    std::fs::write(folder.path().join("run.json"), "{\"format\": 1, ").expect("it is ours");
    std::fs::write(folder.path().join(FILE), "of the other run").expect("it is ours");
    let error = config.prepare(Resume::No).unwrap_err().to_string();
    assert!(
        error.contains("can't be read") && error.contains("run.json"),
        "{error}"
    );
    let kept = std::fs::read_to_string(folder.path().join(FILE)).expect("it is there");
    assert_eq!(kept, "of the other run");
    std::fs::remove_file(folder.path().join("run.json")).expect("it is there");
    config.prepare(Resume::No)
}

/// It came out when the data was opened, after the model was loaded: exit code 1 in place of 3.
#[test]
fn questions_about_shapes_in_a_folder_are_refused_with_the_file() {
    let text = "output = \"runs/a\"\n[model]\npreset = \"tiny\"\n[data]\nkind = \"shapes\"\ntask = \"questions\"\nfolder = \"x\"\n";
    let error = RunConfig::parse(text, "run.toml").unwrap_err().to_string();
    assert!(error.contains("leave folder out"), "{error}");
}

/// Those of a cell had no fingerprint, only those that a file names.
#[test]
fn questions_have_the_fingerprint_of_their_words_in_a_cell_and_in_a_file() -> Result<()> {
    use crate::data::{Questions, Shapes, ShapesConfig, Split};
    let shapes = Shapes::new(ShapesConfig::default())?;
    let of = |pictures| Questions::of_shapes(&shapes, Split::Train, pictures);
    let own = of(3).fingerprint();
    assert!(own.is_some() && own == of(3).fingerprint());
    assert_ne!(own, of(4).fingerprint());
    let data = DataConfig::Shapes {
        folder: None,
        train: 3,
        validation: 1,
        task: data::Task::Questions,
        shapes: ShapesConfig::default(),
    };
    assert_eq!(data.open(0)?.train.fingerprint(), own);
    Ok(())
}

#[test]
fn the_last_the_best_or_a_step_of_a_run_is_scored_and_the_table_says_which() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = small(folder.path())?;
    config.prepare(Resume::No)?;
    config.train(Resume::No)?;
    let steps: Vec<usize> = run_checkpoints(folder.path().join("kept"))?
        .iter()
        .map(|one| one.step)
        .collect();
    let best = best_step(&config)?;
    assert!(steps.contains(&best), "{steps:?} {best}");
    let perplexity = |scored| -> Result<(f64, String)> {
        let evaluation = config.evaluate_at(scored)?;
        let score = evaluation.score("perplexity").expect("it was asked for");
        let text = crate::display::Render::render(&evaluation);
        Ok((score.value, text.plain().to_owned()))
    };
    let (last, said) = perplexity(Scored::Last)?;
    assert!(said.contains("after the last step"), "{said}");
    let (third, said) = perplexity(Scored::Step(3))?;
    assert!(said.contains("after step 3"), "{said}");
    assert!((last - third).abs() < 1e-3 * last, "{last} {third}");
    let (other, said) = perplexity(Scored::Best)?;
    let named = format!("after step {best}, the best by validation_loss");
    assert!(said.contains(&named), "{said}");
    assert_eq!(other, perplexity(Scored::Step(best))?.0);
    assert_eq!(
        best == 3,
        (last - other).abs() < 1e-3 * last,
        "{last} {other}"
    );
    for file in ["scores.txt", "scores-best.txt", "scores-step-00000003.txt"] {
        let text = std::fs::read_to_string(folder.path().join(file)).expect("it was written");
        assert!(text.contains("the model after"), "{text}");
    }
    let error = config.evaluate_at(Scored::Step(7)).map(|_| ()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("step 7") && error.contains("1, 2, 3"),
        "{error}"
    );
    Ok(())
}

/// The step whose validation loss is the highest, as `small` has it.
fn best_step(config: &RunConfig) -> Result<usize> {
    let run = crate::runs::Run::open(&config.output)?;
    let records = run.records().iter();
    let measured = records.filter_map(|record| Some((record.step, record.validation_loss?)));
    let best = measured.max_by(|one, other| one.1.total_cmp(&other.1));
    Ok(best.expect("every step was measured").0)
}

/// A run without a measurement has no best.
#[test]
fn a_run_that_was_never_measured_has_no_best_to_score() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = small(folder.path())?;
    let vlm = config.model.load(&config.settings, config.seed)?;
    let trainer = Trainer::new(config.trainer.clone())?;
    trainer.save(folder.path().join("kept/step-00000000"), &vlm)?;
    let error = config.evaluate_at(Scored::Best).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("nothing was measured"),
        "{error}"
    );
    Ok(())
}

/// A run as it stands in its folder: the losses of its steps.
fn losses(config: &RunConfig) -> Result<Vec<f64>> {
    let run = crate::runs::Run::open(&config.output)?;
    Ok(run.records().iter().map(|record| record.loss).collect())
}

#[test]
fn a_run_trains_on_matrices_in_blocks_and_goes_on_with_them() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |name: &str, model: &str| -> Result<(RunConfig, Vec<f64>)> {
        let config = small_with(&folder.path().join(name), model)?;
        config.prepare(Resume::No)?;
        config.train(Resume::No)?;
        let losses = losses(&config)?;
        Ok((config, losses))
    };
    let (_, floats) = run("floats", "")?;
    for (held, name) in [("q8_0", "Q8_0"), ("nf4", "NF4")] {
        let (config, made) = run(held, &format!("quantize = \"{held}\""))?;
        // What was rounded is there from the first step on, and small.
        assert_eq!(made.len(), 3);
        for (one, other) in made.iter().zip(&floats) {
            assert!(
                one != other && (one - other).abs() < 0.3 * other,
                "{made:?} {floats:?}"
            );
        }
        let saved = config.output.join(MODEL).join("settings.json");
        let saved = std::fs::read_to_string(saved).expect("it was saved");
        assert!(
            saved.contains(&format!("\"llm_held_as\": \"{name}\"")),
            "{saved}"
        );
        // The file of the run keeps it, so that scoring and resuming hold the model so too.
        let kept = RunConfig::read(config.output.join(FILE))?;
        assert_eq!(kept.model.quantize, config.model.quantize);
        let vlm = kept
            .model
            .load_trained(&kept.settings, &config.output.join(MODEL))?;
        let all = crate::nn::Network::named_parameters(&vlm.llm);
        let held: Vec<&str> = all
            .iter()
            .filter(|p| p.blocks.is_some())
            .map(|p| p.held_as())
            .collect();
        assert!(
            held.len() == 4 * 4 + 1 && held.iter().all(|held| *held == name),
            "{held:?}"
        );
        let score = config.evaluate_at(Scored::Last)?;
        assert!(
            score
                .score("perplexity")
                .is_some_and(|score| score.value.is_finite())
        );
        let other = small_with(&config.output, "")?;
        let refused = other.prepare(Resume::Yes).unwrap_err().to_string();
        assert!(refused.contains("model.quantize was"), "{refused}");
    }
    Ok(())
}

#[test]
fn blocks_that_are_not_understood_are_refused_with_words() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let read = |line: &str| small_with(folder.path(), line);
    for (line, words) in [
        (
            "quantize = \"q8\"",
            &["line 6", "model.quantize", "q8", "did you mean `q8_0`"] as &[&str],
        ),
        (
            "quantize = \"Q4_K_M\"",
            &["line 6", "model.quantize", "as_stored", "q4_k"],
        ),
        ("quantize = 8", &["line 6", "model.quantize"]),
        (
            "quantise = \"q8_0\"",
            &["line 6", "did you mean `quantize`"],
        ),
    ] {
        let said = read(line).unwrap_err().to_string();
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{line}: {said}"
        );
    }
    // What only the model can say is said when it is loaded, before anything trains.
    let load = |config: &RunConfig| match config.model.load(&config.settings, config.seed) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    };
    let of_256 = load(&read("quantize = \"q4_k\"")?); // rows of 128
    assert!(
        ["128", "Q4_K", "Q8_0"]
            .iter()
            .all(|word| of_256.contains(word)),
        "{of_256}"
    );
    let no_file = load(&read("quantize = \"as_stored\"")?);
    assert!(
        no_file.contains("as stored") && no_file.contains("GGUF"),
        "{no_file}"
    );
    let mut dora = read("quantize = \"q8_0\"")?;
    if let Some(lora) = &mut dora.settings.llm_lora {
        lora.use_dora = true;
    }
    let dora = load(&dora);
    assert!(
        ["DoRA", "Q8_0", "dequantize"]
            .iter()
            .all(|word| dora.contains(word)),
        "{dora}"
    );
    Ok(())
}
