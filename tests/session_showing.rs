//! What values show of themselves as the last expression of a cell: real compiler, real prelude.
//!
//! Every public type of the prelude is listed here with an expression; a type that is added to the prelude and not to the list
//! fails the first test.

mod session_support;

use std::collections::BTreeSet;
use std::path::Path;

use glassbox::session::{Display, Event};
use session_support::TestSession;

/// What a value may show of itself unasked.
const LINES: usize = 62;
const CHARACTERS: usize = 4_100;

/// Types that no cell holds: what generated code and the wire are made of, and controls, which show themselves in a browser.
const NOT_VALUES: [&str; 22] = [
    "Failed",
    "Candidate",
    "Surroundings",
    "Summary",
    "Seen",
    "Kind",
    "Model",
    "Button",
    "Select",
    "Slider",
    "Progress",
    "LivePlot",
    "ReadOnly",
    // A callback sees one while its step lasts.
    "StepView",
    // A trainer's, for sets that read pictures.
    "KeptPictures",
    // Only a beam search makes them.
    "Hypothesis",
    // Of private modules: what chat templates and tokenizers are read with.
    "Dict",
    "Files",
    "Json",
    "Special",
    // Guards: something lasts as long as they do.
    "Stopping",
    "ByHand",
];

/// What the expressions are made of.
const SETUP: &str = r###"
use glassbox_prelude as gp;
use gp::data::shapes::{AttributeScore, CaptionOrder, Colour, Relation, Shape, Size};
let device = Device::Cpu;
let vlm = Vlm::tiny(&device)?;
let shapes = Shapes::new(ShapesConfig::default())?;
let sample = shapes.sample(Split::Train, 0)?;
let image = sample.image.clone();
let scene = shapes.scene(Split::Train, 0);
let caption = sample.captions[0].clone();
let pixels = vlm.image_processor.preprocess(&image)?;
let batch = vlm.caption_batch(&pixels, &[caption.clone()])?;
let sequence = vlm.concatenate(&vlm.image_tokens(&pixels)?, &Query::Vector, &[])?;
let loss = vlm.full_sequence_loss_of(&batch)?;
let gradients = Gradients::of(&loss.loss, &vlm.trainable_parameters())?;
let vit = vlm.image_encoder.vit()?.clone();
let layer = vlm.llm.layers[0].clone();
let tensor = Tensor::arange(0f32, 600.0, &device)?.reshape((20, 30))?;
let trainer = Trainer::new(TrainerConfig::tour())?;
let record = StepRecord { step: 1, loss: 2.0, rate: 1e-3, norm: 0.5, tokens: 100, seconds: 0.1, ..StepRecord::default() };
let score = gp::data::shapes::score("two red circles", "two red circles");
let perceiver = Projector::new(ProjectorConfig { kind: ProjectorKind::perceiver_resampler(4), input: 32, output: 64 }, 0, &device)?;
let tower_config = gp::vision::TowerConfig::from_json(
    r##"{"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8}"##, "config.json".as_ref())?;
let split = Tiling::from_json(r##"{"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 64},
    "max_image_size": {"longest_edge": 32}}"##, "preprocessor_config.json".as_ref())?;
let anyres = Tiling::from_json(r##"{"image_processor_type": "LlavaNextImageProcessor", "size": 336, "crop_size": 336}"##,
    "preprocessor_config.json".as_ref())?;
let runs_folder = std::path::PathBuf::from(FOLDER);
let saved_run = {
    let set = vec![Example::new(&image, "four")];
    let settings = TrainerSettings { steps: 1, batch_size: 1, quiet: true, run: Some(runs_folder.join("one")), ..TrainerSettings::tour() };
    Trainer::new(settings)?.fit(&vlm, &set, &set)?;
    Run::open(runs_folder.join("one"))?
};
let sweep = Sweep::grid(runs_folder.join("sweep")).over("rank", [2, 4])?;
let sweep_draft = {
    let file = runs_folder.join("base.toml");
    std::fs::write(&file, "output = \"x\"\n[model]\npreset = \"tiny\"\n[data]\nkind = \"shapes\"\n")?;
    SweepDraft::new(file, ["seed=1,2"], Some(&runs_folder.join("planned")))?
};
let sweep_folder = sweep_draft.write(Resume::No)?;
let set_texts = generate_set(&vlm, &vec![(image.clone(), Vec::<String>::new())], |generate| generate.max_new_tokens(2))?;
let handed_over = RunConfig::new(runs_folder.join("given"), ModelConfig::preset("tiny"), DataConfig::shapes())?
    .hand_over(&Launch::here().program("false"), Resume::No)?;
let tower = Tower::from_checkpoint(&tower_config, &Checkpoint::random(0, DType::F32, &device))?;
"###;

/// Each type with an expression of it.
const VALUES: &[(&str, &str)] = &[
    (
        "Answer",
        "Answer { example: \"0\".into(), written: \"x\".repeat(9000), expected: vec![\"four\".into()] }",
    ),
    (
        "AnswerReport",
        "answer_accuracy(&vlm, &vec![Example::new(&image, \"four\").asked(\"how many?\")], 1)?",
    ),
    ("Atom", "Molecule::from_smiles(\"CCO\")?.atoms()[2].clone()"),
    ("Bond", "Molecule::from_smiles(\"CCO\")?.bonds()[0]"),
    ("BondOrder", "BondOrder::Double"),
    ("BondStereo", "BondStereo::E"),
    ("Drawing", "Molecule::from_smiles(\"CCO\")?.drawing()"),
    ("EdgeLines", "gp::senses::EdgeLines::Two"),
    ("Element", "Element::C"),
    (
        "FlowEncoder",
        "FlowEncoder::new_random((16, 4), 16, 1, 0, &device)?",
    ),
    ("FlowField", "FlowField::generated(0, 0)?.0"),
    ("FlowGaps", "FlowGaps::Still"),
    ("Graph", "Molecule::from_smiles(\"CCO\")?.graph()"),
    (
        "GraphEdge",
        "Molecule::from_smiles(\"CCO\")?.graph().edges[0].clone()",
    ),
    (
        "GraphEncoder",
        "GraphEncoder::new_random(GraphKind::Molecules, 16, 2, 0, &device)?",
    ),
    ("GraphKind", "GraphKind::Molecules"),
    ("GraphWidths", "SocialGraph::WIDTHS"),
    (
        "MessagePassing",
        "GraphEncoder::new_random(GraphKind::Molecules, 16, 2, 0, &device)?.layers[0].clone()",
    ),
    ("Minimol", "Minimol::new_random(0, &device)?"),
    (
        "Molecule",
        "Molecule::from_smiles(\"CC(=O)Oc1ccccc1C(=O)O\")?",
    ),
    ("OrganicMolecule", "OrganicMolecule::new(\"acid\", 2)?"),
    (
        "SdfRecord",
        "SdfRecord { molecule: Molecule::from_smiles(\"CCO\")?, fields: vec![(\"a\".into(), \"b\".repeat(9000))] }",
    ),
    ("SocialGraph", "SocialGraph::karate_club()?"),
    (
        "Spectrum",
        "Spectrum::generated(SpectrumKind::Infrared, 0, 0)?.0",
    ),
    (
        "SpectrumEncoder",
        "SpectrumEncoder::new_random(SpectrumReads::Peaks, 16, 1, 0, &device)?",
    ),
    ("SpectrumKind", "SpectrumKind::Mass"),
    ("SpectrumReads", "SpectrumReads::Peaks"),
    ("InputAttention", "input_attention(&vlm, &image, &caption)?"),
    ("AboutRun", "saved_run.about.clone()"),
    ("Best", "gp::runs::Best::Lower"),
    ("DataConfig", "DataConfig::shapes()"),
    ("DataFacts", "saved_run.about.data[0].clone()"),
    ("Difference", "Difference::new(&saved_run, &saved_run)"),
    ("EvaluateConfig", "EvaluateConfig::default()"),
    (
        "Histogram",
        "Histogram::new(\"values\").tensor(\"tensor\", &tensor)?",
    ),
    ("ModelConfig", "ModelConfig::preset(\"tiny\")"),
    ("Place", "gp::headless::model::Place::Best"),
    ("HeldAs", "gp::headless::model::HeldAs::Q8_0"),
    ("Precision", "gp::headless::model::Precision::Bf16"),
    ("Resume", "Resume::Yes"),
    ("Scored", "Scored::Best"),
    (
        "PictureFile",
        "PictureFile { path: \"a.jpg\".into(), number: 0 }",
    ),
    ("Run", "saved_run.clone()"),
    (
        "RunConfig",
        "RunConfig::new(\"runs/first\", ModelConfig::preset(\"tiny\"), DataConfig::shapes())?",
    ),
    ("RunState", "saved_run.about.state"),
    ("Runs", "Runs::open(runs_folder.clone())?"),
    ("Scores", "Scores::new().lower(\"loss\", 1.5)"),
    ("Link", "Link::usual()[0].clone()"),
    (
        "ScalingPlan",
        "ScalingPlan::new(\"LoRA\", 20.0, 66_000_000)?",
    ),
    (
        "StepTime",
        "ScalingPlan::new(\"LoRA\", 20.0, 66_000_000)?.step(&Link::usual()[0], 4)",
    ),
    ("SetText", "set_texts.texts[0].clone()"),
    ("SetTexts", "set_texts.clone()"),
    ("HandedOver", "handed_over.clone()"),
    ("JobState", "JobState::Stopped"),
    ("JobStatus", "handed_over.status()?"),
    ("Launch", "Launch::here()"),
    ("SlurmJob", "SlurmJob::default()"),
    ("Sweep", "sweep.clone()"),
    ("SweepDraft", "sweep_draft.clone()"),
    ("SweepFolder", "sweep_folder.clone()"),
    ("SweepReport", "sweep.report()?"),
    ("Task", "gp::headless::data::Task::Questions"),
    ("Trial", "sweep.trials()[0].clone()"),
    (
        "TrialRecord",
        "sweep.run(|_| Ok(Scores::new().lower(\"loss\", 1.5)))?.records()[0].clone()",
    ),
    ("AttentionRule", "AttentionRule::LastInput"),
    (
        "AnyresMlp",
        "AnyresMlp { mlp: vlm.projector.mlp()?.clone(), image_newline: Weight::frozen(\"image_newline\", Tensor::zeros(64, DType::F32, &device)?), most: Some(9) }",
    ),
    (
        "AveragePool",
        "gp::projector::Projector::new(ProjectorConfig { kind: ProjectorKind::AveragePool { factor: 2 }, input: 32, output: 64 }, 0, &device)?.get::<AveragePool>().cloned()",
    ),
    ("GapOrder", "GapOrder::Psm"),
    ("Infilling", "Infilling::default()"),
    (
        "InputPiece",
        "InputPiece { encoder: None, seen: Seen::Prepared(pixels.clone()) }",
    ),
    (
        "LinearProjector",
        "Projector::new(ProjectorConfig { kind: ProjectorKind::Linear, input: 32, output: 64 }, 0, &device)?.get::<LinearProjector>().cloned()",
    ),
    ("Mlp2x", "vlm.projector.mlp()?.clone()"),
    (
        "NamedEncoder",
        "{ let mut two = vlm.clone(); two.add_encoder(\"second\", vit.clone(), ProjectorKind::Linear, 0)?; two.other_encoder(\"second\")?.clone() }",
    ),
    (
        "OtherEncoder",
        "Preset::tiny().other_encoder(\"second\", vit.clone(), ProjectorKind::Linear).other_encoders[0].clone()",
    ),
    ("EncoderFrom", "EncoderFrom::from(\"owner/name\")"),
    ("Piece", "Piece::Text(SegmentKind::Text, vec![5; 900])"),
    (
        "PixelShuffle",
        "Projector::new(ProjectorConfig { kind: ProjectorKind::PixelShuffle { factor: 2 }, input: 32, output: 64 }, 0, &device)?.get::<PixelShuffle>().cloned()",
    ),
    ("PromptPart", "PromptPart::Start"),
    ("PromptWords", "vlm.prompt_words()?"),
    ("Resampler", "perceiver.get::<Resampler>().cloned()"),
    ("Seen", "Seen::Embedded(vlm.image_tokens(&pixels)?)"),
    ("Segments", "sequence.segments.clone()"),
    ("Sight", "Sight::default()"),
    (
        "TargetPiece",
        "TargetPiece { ids: vec![5; 900], loss: 0..900 }",
    ),
    (
        "Turn",
        "Turn::asks(\"how many?\").shows(&pixels).answer(\"two\")",
    ),
    ("Visibility", "sequence.visibility.clone()"),
    ("AdamW", "AdamW::new(AdamWConfig::default())?"),
    ("AdamWConfig", "AdamWConfig::default()"),
    ("AdapterTraining", "AdapterTraining::Frozen"),
    ("AlphaPolicy", "AlphaPolicy::default()"),
    ("Activation", "gp::vision::towers::Activation::Gelu"),
    ("Attention", "gp::nn::Attention::causal(4, 2, 16)"),
    (
        "Anyres",
        "let Tiling::Anyres(way) = &anyres else { panic!() }; way.clone()",
    ),
    (
        "AttributeReport",
        "AttributeReport { predictions: vec![gp::evaluate::Prediction { image: image.clone(), prediction: \"a\".into(), reference: \"b\".into(), score }; 50], unreadable: Vec::new() }",
    ),
    ("AttributeScore", "score"),
    ("BaseModels", "BaseModels::new(\"a/b\", \"c/d\")"),
    (
        "Beam",
        "Beam { ids: vec![1, 2], text: \"a star\".into(), score: -0.5 }",
    ),
    ("BeamSearch", "gp::vlm::BeamSearch::default()"),
    (
        "Benchmark",
        "gp::bench::Benchmark { seconds: vec![0.1; 50], runs_per_batch: 3 }",
    ),
    ("BlockType", "BlockType::Q4K"),
    (
        "Blocks",
        "Blocks::quantize(&Tensor::ones((4, 64), DType::F32, &device)?, BlockType::Q8_0)?",
    ),
    ("BosPlacement", "BosPlacement::Once"),
    (
        "CachedModel",
        "gp::hub::CachedModel::new(\"/tmp\".as_ref(), \"a/b\", \"main\")?",
    ),
    ("CaptionBatch", "batch"),
    ("CaptionOrder", "CaptionOrder::Fixed"),
    ("Cell", "Cell::good(\"yes\")"),
    ("ChatMessage", "ChatMessage::user(\"x\".repeat(9000))"),
    ("ChatOptions", "gp::language::ChatOptions::default()"),
    ("Checkpoint", "Checkpoint::random(0, DType::F32, &device)"),
    ("Captions", "coco.clone()"),
    ("Answered", "Answered::new(\"a red star\", [\"a star\"])"),
    ("AttributeAccuracy", "AttributeAccuracy"),
    ("ByKind", "ByKind(ExactMatch)"),
    ("Bleu", "Bleu::default()"),
    ("Calibration", "Calibration"),
    ("CaptionTokenizer", "CaptionTokenizer"),
    ("CiderD", "CiderD::default()"),
    ("Condition", "gp::evaluate::Condition::Blind"),
    ("Conversation", "conversations.conversation(0)?.clone()"),
    ("Conversations", "conversations.clone()"),
    (
        "Evaluation",
        "Evaluator::new().metric(ExactMatch).pictures(2).run(&vlm, &coco)?",
    ),
    (
        "EvaluationItem",
        "gp::evaluate::EvaluationItem { image: image.clone(), query: None, references: vec![caption.clone()], kind: None }",
    ),
    ("Evaluator", "Evaluator::captions()"),
    ("ExactMatch", "ExactMatch"),
    ("Interval", "Score::mean(\"m\", vec![1.0, 2.0]).interval(0)"),
    ("MeteorExact", "MeteorExact::default()"),
    ("Needs", "gp::evaluate::Needs::default()"),
    ("Perplexity", "Perplexity"),
    (
        "PromptItem",
        "gp::evaluate::PromptItem { prompt: vlm.caption_prompt(&image, &caption)?, references: vec![caption.clone()] }",
    ),
    ("QuestionTemplates", "QuestionTemplates::default()"),
    (
        "Questions",
        "Questions::new([(image.clone(), \"is there a star\".to_string(), vec![\"yes\".to_string()])])",
    ),
    (
        "Reliability",
        "Reliability::of(&[Answered { confidence: Some(0.5), ..Answered::new(\"yes\", [\"yes\"]) }])?",
    ),
    ("RougeL", "RougeL::default()"),
    (
        "RoundedLoss",
        "rounding_cost(&vlm, &vec![Example::new(&image, \"a red square\")], 1, &[GgufType::Q8_0])?.rows[0]",
    ),
    (
        "RoundingCost",
        "rounding_cost(&vlm, &vec![Example::new(&image, \"a red square\")], 1, &[GgufType::Q8_0])?",
    ),
    (
        "Row",
        "gp::evaluate::Row { condition: gp::evaluate::Condition::Model, scores: vec![Score::mean(\"m\", vec![1.0]); 50], intervals: Vec::new(), answers: Vec::new() }",
    ),
    ("Said", "gp::data::Said::Picture(0)"),
    ("Score", "Score::mean(\"words\", vec![1.0, 2.0])"),
    ("Speaker", "gp::data::Speaker::Human"),
    ("Surprise", "gp::evaluate::Surprise::default()"),
    ("TextLines", "TextLines::Each"),
    ("Turn", "conversations.conversation(0)?.turns[0].clone()"),
    ("Unit", "gp::evaluate::Unit::Share"),
    ("VqaAccuracy", "VqaAccuracy"),
    ("YesNo", "YesNo"),
    (
        "CocoFinding",
        "CocoFinding { kind: \"missing pictures\".into(), count: 1, example: \"a.jpg\".into() }",
    ),
    ("CocoReport", "coco.report()"),
    ("Colour", "Colour::Red"),
    ("DecodeOptions", "gp::vision::DecodeOptions::default()"),
    ("DisplayHandle", "display_live(&tensor)"),
    (
        "DownloadProgress",
        "gp::hub::DownloadProgress { model: \"a/b\".into(), file: \"c\".into(), file_number: 1, file_count: 2, bytes: 3, total_bytes: 4 }",
    ),
    ("Decoder", "vlm.llm"),
    ("DecoderConfig", "vlm.llm.config.clone()"),
    ("DecoderLayer", "layer"),
    ("EarlyStopping", "EarlyStopping::default()"),
    ("Embedding", "vlm.llm.embed_tokens"),
    (
        "EmbeddingPca",
        "EmbeddingPca::of(&tensor, &(0..20).map(|n| n.to_string()).collect::<Vec<_>>(), &vec![String::from(\"a\"); 20])?",
    ),
    ("Encoder", "vlm.image_encoder"),
    ("Error", "Error::Input(\"too short\".into())"),
    (
        "Example",
        "gp::train::TrainingSet::example(&coco, &vlm, 0)?",
    ),
    ("ExifPolicy", "gp::vision::ExifPolicy::default()"),
    ("Expected", "Expected::PIXELS"),
    ("Facts", "Facts::new(\"a\").fact(\"b\", 1)"),
    (
        "Figure",
        "LinePlot::new(\"a\").values(\"b\", &[1.0, 2.0]).figure()?",
    ),
    ("Generate", "vlm.generate(&image)?"),
    (
        "Generation",
        "vlm.generate(&image)?.max_new_tokens(3).run()?",
    ),
    (
        "GgufExport",
        "vlm.llm.save_gguf(runs_folder.join(\"shown.gguf\"), &vlm.llm_processor, GgufType::F16)?",
    ),
    (
        "GgufFile",
        "GgufFile::from_bytes(\"empty.gguf\", [b\"GGUF\\x03\\0\\0\\0\".to_vec(), vec![0; 16]].concat())?",
    ),
    ("GgufType", "GgufType::Q8_0"),
    ("GradientLedger", "caption_ledger(&vlm, &image, &caption)?"),
    ("Gradients", "gradients"),
    ("GridItem", "GridItem::new(&image)"),
    (
        "GridSplit",
        "let Tiling::Split(way) = &split else { panic!() }; way.clone()",
    ),
    ("Group", "scene.groups().remove(0)"),
    (
        "HubError",
        "gp::hub::CachedModel::new(\"/tmp\".as_ref(), \"../b\", \"main\").unwrap_err()",
    ),
    ("HubOptions", "gp::hub::HubOptions::from_env()"),
    ("Image", "image"),
    (
        "ImageGrid",
        "ImageGrid::new(vec![GridItem::new(&image).title(\"x\"); 64])",
    ),
    ("ImageProcessor", "vlm.image_processor"),
    (
        "ImageProcessorConfig",
        "vlm.image_processor.config().clone()",
    ),
    ("Init", "Init::Normal(0.02)"),
    ("KvCache", "vlm.llm.new_cache(1, 64)?"),
    ("LayerNorm", "vit.layernorm"),
    (
        "LayerSpectrum",
        "LoraSpectrum::of(&vlm.llm)?.layers()[0].clone()",
    ),
    (
        "LedgerEntry",
        "caption_ledger(&vlm, &image, &caption)?.entries()[0].clone()",
    ),
    ("LedgerState", "LedgerState::Trains"),
    (
        "LinePlot",
        "LinePlot::new(\"a\").values(\"b\", &[1.0, 2.0])",
    ),
    ("LineStyle", "LineStyle::Marked"),
    ("Linear", "layer.self_attn.o_proj"),
    ("LlmInput", "LlmInput::embeds(&sequence.inputs_embeds)"),
    (
        "LlmOutput",
        "vlm.llm.forward(&LlmInput::embeds(&sequence.inputs_embeds).with_hidden_states().with_attentions())?",
    ),
    ("LlmProcessor", "vlm.llm_processor"),
    ("LogitLens", "caption_lens(&vlm, &image, &caption)?"),
    ("LogitsAt", "LogitsAt::Chosen(vec![(0, 1); 5000])"),
    ("Lora", "layer.self_attn.o_proj.lora.clone()"),
    ("LoraConfig", "LoraConfig::blog_llm()"),
    ("LoraPatterns", "LoraConfig::blog_llm().rank_pattern"),
    ("LoraTargets", "LoraConfig::blog_llm().target_modules"),
    ("LoraSpectrum", "LoraSpectrum::of(&vlm.llm)?"),
    ("LossKind", "LossKind::FullSequence"),
    ("LossOutput", "loss"),
    ("MimeBundle", "image.render()"),
    ("Mlp", "layer.mlp"),
    ("ModelPart", "vlm.table().parts()[0].clone()"),
    ("ModelTable", "vlm.table()"),
    (
        "NewToken",
        "gp::language::NewToken { id: 1, pieces: vec![2] }",
    ),
    (
        "NanoSplit",
        "gp::vision::NanoSplit::new(16, 32, false, Default::default())?",
    ),
    ("NextToken", "loss.next_tokens(0)?.top()[0].clone()"),
    ("NextTokenTable", "loss.next_tokens(0)?"),
    ("Norm", "vlm.llm.norm"),
    ("Object", "scene.objects[0].clone()"),
    ("Parameter", "vlm.trainable_parameters().remove(0)"),
    ("Part", "Part::Linear(&layer.self_attn.o_proj)"),
    (
        "PartMut",
        "PartMut::Linear(&mut layer.self_attn.o_proj.clone())",
    ),
    ("PatchHeat", "encoder_attention(&vlm, &image)?"),
    (
        "Perceiver",
        "perceiver.get::<Resampler>().map(|r| r.perceiver.clone())",
    ),
    (
        "PerceiverConfig",
        "perceiver.get::<Resampler>().map(|r| r.perceiver.config)",
    ),
    (
        "PerceiverLayer",
        "perceiver.get::<Resampler>().map(|r| r.perceiver.layers[0].clone())",
    ),
    ("PixelBox", "scene.objects[0].pixel_box(64)"),
    ("Positions", "vlm.image_encoder.positions()"),
    (
        "Prediction",
        "gp::evaluate::Prediction { image: image.clone(), prediction: \"a\".into(), reference: \"b\".into(), score }",
    ),
    ("Preset", "Preset::tiny()"),
    ("ProgressIter", "progress(\"a\", 0..5)"),
    ("Projector", "vlm.projector"),
    (
        "ProjectorConfig",
        "ProjectorConfig { ..*vlm.projector.config }",
    ),
    ("ProjectorKind", "ProjectorKind::Linear"),
    ("Prompt", "vlm.caption_prompt(&image, &caption)?"),
    ("PromptStyle", "PromptStyle::Plain"),
    ("PromptVectors", "PromptVectors::Trained"),
    ("Quantize", "Quantize::q4_k_m(4)"),
    ("Query", "vlm.query(\"how many?\")?"),
    ("Claim", "scene.judge(None, &caption)[0].clone()"),
    ("ClaimKind", "gp::data::shapes::ClaimKind::Count"),
    ("Verdict", "gp::data::shapes::Verdict::True"),
    (
        "Instances",
        "{ let file = runs_folder.join(\"instances_shown.json\"); std::fs::write(&file, r##\"{\"images\": [{\"id\": 1, \"width\": 9, \"height\": 9}], \"categories\": [{\"id\": 1, \"name\": \"dog\"}], \"annotations\": [{\"image_id\": 1, \"category_id\": 1, \"bbox\": [1, 1, 2, 2]}]}\"##)?; Instances::open(&file)? }",
    ),
    (
        "Lesson",
        "Lessons::write(&TemplateTeacher::new(0), &[shapes.sheet(Split::Train, 0)], &LessonKind::ALL)?.lessons[0].clone()",
    ),
    ("LessonKind", "LessonKind::Reasoning"),
    (
        "Lessons",
        "Lessons::write(&TemplateTeacher::new(0), &[shapes.sheet(Split::Train, 0)], &LessonKind::ALL)?",
    ),
    (
        "LlmTeacher",
        "LlmTeacher::new(&vlm.llm, &vlm.llm_processor).prompts(TeacherPrompts::tiny())",
    ),
    ("NamedBox", "shapes.sheet(Split::Train, 0).boxes[0].clone()"),
    ("Sheet", "shapes.sheet(Split::Train, 0)"),
    ("TeacherPrompts", "TeacherPrompts::default()"),
    ("TemplateTeacher", "TemplateTeacher::new(0)"),
    (
        "Prior",
        "Questions::of_shapes(&shapes, Split::Train, 5).priors()",
    ),
    ("QuestionAnswer", "shapes.questions(Split::Train, 0)"),
    ("QuestionFormat", "QuestionFormat::default()"),
    ("Relation", "Relation::LeftOf"),
    ("Resample", "gp::vision::Resample::Bilinear"),
    ("Rescaling", "Rescaling::Once"),
    ("Resize", "gp::vision::Resize::ShortestEdge(3)"),
    ("Role", "Role::LoraA"),
    (
        "RmsNorm",
        "gp::nn::RmsNorm { weight: Weight::frozen(\"w\", Tensor::ones(4, DType::F32, &device)?), eps: 1e-5 }",
    ),
    ("RopeScaling", "gp::language::RopeScaling::default()"),
    (
        "Rotary",
        "gp::nn::Rotary::new(&[1.0; 8], &[(0..900).collect()], 1.0)?",
    ),
    ("Sample", "sample"),
    ("Samples", "coco.samples(0, 0)"),
    ("Sampling", "Sampling::default()"),
    ("Scale", "gp::display::Scale::of(&[1.0, 2.0])"),
    ("Scene", "scene"),
    ("SceneAttributes", "SceneAttributes::from_caption(&caption)"),
    ("Schedule", "Schedule::Constant"),
    ("SegmentKind", "SegmentKind::Image"),
    ("SelfAttention", "layer.self_attn"),
    ("Sequence", "sequence"),
    ("Shape", "Shape::Star"),
    ("Shapes", "shapes"),
    ("ShapesConfig", "ShapesConfig::default()"),
    ("SideBySide", "layer.self_attn.qkv_proj"),
    ("Size", "Size::Small"),
    ("Split", "Split::Train"),
    ("Ablation", "Ablation::Mean"),
    (
        "Activations",
        "Activations::read(&[\"*\"], || vlm.full_sequence_loss_of(&batch))?.1",
    ),
    (
        "Direction",
        "steering_direction(&vlm, 1, &[vlm.caption_prompt(&image, &caption)?], &[vlm.caption_prompt(&image, \"a\")?])?",
    ),
    (
        "Edits",
        "Edits::new().zero(Site::heads(\"llm\", 1).head(2)).scale(\"logits\", 0.5)",
    ),
    (
        "HeadAblation",
        "prompt_head_ablation(&vlm, &vlm.caption_prompt(&image, &caption)?, Ablation::Zero)?",
    ),
    (
        "IntegratedGradients",
        "prompt_integrated_gradients(&vlm, &vlm.caption_prompt(&image, &caption)?, 0, 4)?",
    ),
    (
        "LogitAttribution",
        "prompt_attribution(&vlm, &vlm.caption_prompt(&image, &caption)?, 0, None)?",
    ),
    (
        "PatchingMap",
        "patching_map(&vlm, &vlm.caption_prompt(&image, \"a\")?, &vlm.caption_prompt(&Image::filled(64, 64, [9, 200, 9])?, \"a\")?)?",
    ),
    ("Site", "Site::new(\"llm/hidden_states[3]\").tokens(2..900)"),
    (
        "SteeringTable",
        "steer(&vlm.generate(&image)?.max_new_tokens(2), &Direction { name: \"logits\".into(), vector: Tensor::zeros(vlm.llm.config.vocab_size, DType::F32, &device)? }, &[0.0, 1.0])?",
    ),
    ("StageTrace", "trace_caption(&vlm, &image, &caption)?"),
    ("Stages", "vlm.image_encoder.stages(&pixels)?"),
    ("StepRecord", "vec![record; 700]"),
    ("Stopped", "Stopped::Eos"),
    (
        "Table",
        "{ let mut table = Table::new([\"a\", \"b\"]); for n in 0..3000usize { table.push(vec![n.into(), n.into()]); } table }",
    ),
    ("Targets", "Targets::Middle"),
    ("TaskType", "gp::lora::TaskType::CausalLm"),
    ("TensorView", "TensorView::new(&tensor)"),
    ("Token", "gp::hub::Token::new(\"secret\")"),
    ("TokenLossMap", "loss.token_losses(0)?"),
    (
        "TokenRows",
        "gp::nn::TokenRows::new(\"rows\", &[3], &Tensor::zeros((1, 4), DType::F32, &device)?, 9)?",
    ),
    ("TokenStrip", "sequence.strip(0)?"),
    ("TilePiece", "gp::vision::TilePiece::Tile(3)"),
    ("Tiles", "split.tile(&image)?"),
    ("Tiling", "split"),
    ("Tower", "tower"),
    ("TowerConfig", "tower_config"),
    (
        "TrainReport",
        "TrainReport { steps: 1, samples: 2, seconds: 3.0, tokens: 4, loss: 5.0, validation: None, new_steps: 1, unreadable: Vec::new(), cut: 0, memory: None, stopped: None, waited_for_ranks: Vec::new() }",
    ),
    ("Trainer", "trainer"),
    ("BestBy", "BestBy::default()"),
    (
        "CaptionRecord",
        "CaptionRecord { step: 3, picture: 0, caption: \"a red star\".into() }",
    ),
    (
        "CheckpointSettings",
        "CheckpointSettings::new(\"run/checkpoints\")",
    ),
    ("EarlyStop", "EarlyStop { patience: 3, least: 0.0 }"),
    ("FailedSave", "FailedSave::Warn"),
    ("FeatureSettings", "FeatureSettings::new(\"features\")"),
    ("LossAverage", "LossAverage::Tokens"),
    ("NotFinite", "NotFinite::Stop"),
    ("OptimizerKind", "OptimizerKind::ScheduleFree"),
    (
        "PartSettings",
        "PartSettings { learning_rate: Some(1e-3), weight_decay: None }",
    ),
    (
        "PlannedPart",
        "PlannedPart { part: TrainedPart::Projector, tensors: 4, values: 100, learning_rate: 1e-3, weight_decay: 0.01 }",
    ),
    ("Rates", "Rates { rate: 1e-3, weight_decay: 0.01 }"),
    (
        "RunCheckpoint",
        "RunCheckpoint { step: 100, folder: \"run/step-00000100\".into() }",
    ),
    ("ScheduleFree", "ScheduleFree::new(AdamWConfig::default())?"),
    (
        "SettingDifference",
        "TrainerSettings::tour().differences(&TrainerSettings::default())?.remove(0)",
    ),
    (
        "TrainStage",
        "TrainStage { share: 0.5, train: vec![TrainedPart::Projector], learning_rate: None }",
    ),
    ("TooLong", "TooLong::Cut"),
    (
        "TrainPlan",
        "TrainPlan { parts: Vec::new(), weights: 1, gradients: 2, optimizer: 3, sample: Some((4, 5)), not_recomputed: Vec::new(), batch_size: 6, packed: None, sample_seconds: 0.1, samples: 7, measured: None, stages: Vec::new() }",
    ),
    ("TrainedPart", "TrainedPart::LlmLora"),
    ("TrainerSettings", "TrainerSettings::tour()"),
    (
        "Unreadable",
        "Unreadable { held_out: false, position: 3, why: \"cut off\".into(), lasting: false }",
    ),
    ("Variables", "gp::variables::Variables::new()"),
    ("ViTConfig", "vit.config.clone()"),
    ("VisionFeature", "VisionFeature::default()"),
    ("Vit", "vit"),
    ("VitLayer", "vit.layers[0].clone()"),
    ("VitOutput", "vit.forward(&pixels)?"),
    (
        "Published",
        concat!(
            "Vlm::from_pretrained(\"",
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/published/llava_clip_llama\", &device)?.published().cloned()"
        ),
    ),
    ("Vlm", "vlm"),
    ("VlmPart", "gp::nn::VlmPart::Projector"),
    ("VlmParts", "VlmParts::tiny(&device)?"),
    ("VlmSettings", "vlm.settings"),
    ("Weight", "layer.self_attn.o_proj.weight"),
];

/// The types that stand at the left margin of the prelude's files: `pub struct Name`, `pub enum Name`.
fn public_types(folder: &Path, found: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(folder).expect("the prelude's sources");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            public_types(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or(&text);
        for line in code.lines() {
            let rest = ["pub struct ", "pub enum "]
                .iter()
                .find_map(|start| line.strip_prefix(start));
            if let Some(rest) = rest {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                found.insert(name);
            }
        }
    }
}

#[test]
fn every_public_type_of_the_prelude_is_listed() {
    let mut found = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("prelude/src");
    public_types(&sources, &mut found);
    let listed: BTreeSet<String> = VALUES
        .iter()
        .map(|(name, _)| *name)
        .chain(NOT_VALUES)
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = found.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "add to VALUES how they show themselves: {missing:?}"
    );
    let gone: Vec<&String> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "not in the prelude any more: {gone:?}");
}

fn result(session: &mut TestSession, code: &str) -> Display {
    let run = session.run(code);
    assert!(
        run.outcome.status.is_ok(),
        "{code}: {:?}",
        run.outcome.status
    );
    let results = run.events.into_iter().filter_map(|event| match event {
        Event::Result(display) => Some(display),
        _ => None,
    });
    let mut results: Vec<Display> = results.collect();
    assert_eq!(results.len(), 1, "{code} shows one result");
    results.remove(0)
}

fn text(display: &Display) -> String {
    display.plain().unwrap_or_default().to_owned()
}

fn html(display: &Display) -> String {
    let html = display.data.get("text/html");
    html.and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The folder that the session writes into. It is gone with the value: a name made of a process's number would meet what
/// another run left, once the numbers begin anew.
#[must_use = "the folder is gone with it"]
fn setup(session: &mut TestSession) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let code = format!("const FOLDER: &str = {:?};\n{SETUP}", folder.path());
    let run = session.run(&code);
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
    folder
}

#[test]
fn every_type_shows_a_screen_at_most_and_no_wall_of_debug() {
    let mut session = TestSession::start();
    let _folder = setup(&mut session);
    let folder = tempfile::tempdir().expect("a folder");
    let talk = folder.path().join("talk.json");
    let turns = r#"[{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}]"#;
    std::fs::write(&talk, turns).expect("a file");
    let run = session.run(&format!(
        "shapes.write_coco({:?}, 8, 4)?;
         let coco = CocoCaptions::open({:?}, Split::Train)?;
         let conversations = Conversations::open({talk:?}, {:?})?;",
        folder.path(),
        folder.path(),
        folder.path()
    ));
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
    let mut walls = Vec::new();
    for (name, expression) in VALUES {
        let run = session.run(expression);
        let shown = run.events.iter().find_map(|event| match event {
            Event::Result(display) => Some(text(display)),
            _ => None,
        });
        match shown {
            None => walls.push(format!("{name}: {:?}", run.outcome.status)),
            Some(text) => {
                let (lines, characters) = (text.lines().count(), text.chars().count());
                if lines > LINES || characters > CHARACTERS || text.is_empty() {
                    walls.push(format!("{name}: {lines} lines, {characters} characters"));
                }
                // The `{:?}` of a structure is for programmers of the prelude.
                if text.contains("Weight {") || text.contains("Some(Var") {
                    walls.push(format!("{name}: {text}"));
                }
            }
        }
    }
    assert!(walls.is_empty(), "{}", walls.join("\n"));
}

#[test]
fn debug_text_of_models_is_short_too() {
    let mut session = TestSession::start();
    let _folder = setup(&mut session);
    let names = [
        "vlm",
        "vlm.llm",
        "vlm.image_encoder",
        "vlm.projector",
        "vlm.llm_processor",
        "vlm.settings",
        "vit",
        "layer",
        "tower",
        "trainer",
        "batch",
        "sequence",
        "loss",
        "gradients",
        "perceiver",
        "vlm.generate(&image)?",
        "image.render()",
        "sample",
        "VlmParts::tiny(&device)?",
        "vlm.named_parameters()[0]",
        "trace_caption(&vlm, &image, &caption)?",
    ];
    let lines = names.map(|name| format!("println!(\"{{}}\", format!(\"{{:?}}\", {name}).len());"));
    let run = session.run(&lines.join("\n"));
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
    let printed: String = run
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Stream { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let lengths: Vec<usize> = printed
        .lines()
        .map(|line| line.parse().expect("a length"))
        .collect();
    assert_eq!(lengths.len(), names.len());
    for (name, length) in names.iter().zip(lengths) {
        assert!(length < 2_000, "{name}: {length}");
    }
}

#[test]
fn a_result_shows_its_value_and_asks_for_the_question_mark() {
    let mut session = TestSession::start();
    let shown = result(&mut session, "Vlm::tiny(&Device::Cpu)");
    assert!(
        text(&shown).starts_with("Vlm, settings “tiny”"),
        "{}",
        text(&shown)
    );
    assert!(text(&shown).contains("add `?`") && html(&shown).contains("add `?`"));
    let failed = text(&result(
        &mut session,
        "Decoder::load(\"/no/such/folder\", DType::F32, &Device::Cpu)",
    ));
    assert!(
        failed.starts_with("Err: ") && failed.contains("/no/such/folder"),
        "{failed}"
    );
    assert!(
        failed.contains("add `?`") && !failed.contains("Io {"),
        "{failed}"
    );
    for (code, value) in [
        ("\"5\".parse::<i32>()", "5"),
        (
            "std::fs::read_to_string(\"/no/such/file\")",
            "Err: No such file",
        ),
        ("Ok::<(), std::io::Error>(())", "Ok(())"),
        (
            "#[derive(Debug)] struct Mine(u8);\nOk::<Mine, String>(Mine(3))",
            "Mine(3)",
        ),
        (
            "#[derive(Debug)] struct Bad;\nErr::<u8, Bad>(Bad)",
            "Err: Bad",
        ),
    ] {
        let shown = text(&result(&mut session, code));
        assert!(
            shown.starts_with(value) && shown.contains("add `?`"),
            "{code}: {shown}"
        );
    }
}

#[test]
fn tensors_and_pictures_show_themselves_inside_of_other_values() {
    let mut session = TestSession::start();
    let _folder = setup(&mut session);
    for code in [
        "&tensor",
        "Some(tensor.clone())",
        "Box::new(tensor.clone())",
        "std::sync::Arc::new(tensor.clone())",
        "vec![tensor.clone(), tensor.clone()]",
        "(tensor.clone(), tensor.clone())",
        "[tensor.clone(), tensor.clone()]",
        "std::collections::HashMap::from([(\"a\", tensor.clone())])",
        "Some(image.clone())",
        "vec![image.clone(); 3]",
        "(1, String::from(\"two\"), image.clone())",
        "candle_core::Var::from_tensor(&tensor)?",
        "tensor.sin()",
        "&image",
    ] {
        let shown = result(&mut session, code);
        assert!(
            html(&shown).contains("data:image/png"),
            "{code}: {}",
            text(&shown)
        );
    }
    let many = text(&result(&mut session, "vec![tensor.clone(); 500]"));
    assert!(
        many.ends_with("… and 488 more") && many.lines().count() <= LINES,
        "{many}"
    );
}

#[test]
fn plain_values_look_as_before_and_long_ones_are_cut() {
    let mut session = TestSession::start();
    for (code, expected) in [
        ("2 + 2", "4"),
        ("1.5 * 2.0", "3.0"),
        ("vec![1, 2]", "[1, 2]"),
        ("(1, \"a\", 'b', None::<u8>)", "(1, \"a\", 'b', None)"),
        (
            "std::collections::BTreeMap::from([(\"k\", vec![0.5])])",
            "{\"k\": [0.5]}",
        ),
        ("String::from(\"é\\n\")", "\"é\\n\""),
        ("1..4", "1..4"),
        ("-3..4", "-3..4"),
        (
            "#[derive(Debug)] struct P { x: i32 }\nvec![P { x: 1 }]",
            "[P { x: 1 }]",
        ),
        ("[Some(1), None]", "[Some(1), None]"),
        ("&&5", "5"),
    ] {
        assert_eq!(text(&result(&mut session, code)), expected, "{code}");
    }
    for code in [
        "(0..1_000_000).collect::<Vec<u64>>()",
        "\"x\".repeat(100_000)",
        "#[derive(Debug, Clone)] struct Q(u64);\nvec![Q(7); 1_000_000]",
        "format!(\"{}\", \"line\\n\".repeat(5_000)).lines().map(String::from).collect::<Vec<_>>()",
    ] {
        let shown = text(&result(&mut session, code));
        assert!(
            shown.chars().count() <= CHARACTERS,
            "{code}: {}",
            shown.chars().count()
        );
        assert!(
            shown.contains("more") || shown.contains("cut here"),
            "{code}: {shown}"
        );
    }
    // A type that shows itself in evcxr's own way still does.
    let own = "struct Own;\nimpl Own { fn evcxr_display(&self) { println!(\"EVCXR_BEGIN_CONTENT text/plain\\nown\\nEVCXR_END_CONTENT\"); } }\nOwn";
    assert!(text(&result(&mut session, own)).contains("own"));
}

#[test]
fn what_streams_is_shown_once() {
    let mut session = TestSession::start();
    let _folder = setup(&mut session);
    let run = session.run("let made = vlm.generate(&image)?.max_new_tokens(8).stream()?;");
    assert!(run.outcome.status.is_ok());
    let later = text(&result(&mut session, "made"));
    let run = session.run("vlm.generate(&image)?.max_new_tokens(8).stream()?");
    let mut printed = String::new();
    let mut shown = String::new();
    for event in &run.events {
        match event {
            Event::Stream { text, .. } => printed += text,
            Event::Result(display) => shown = text(display),
            _ => {}
        }
    }
    assert_eq!(
        printed.trim(),
        later.trim(),
        "a later cell shows the text again"
    );
    assert!(
        !later.is_empty() && !shown.contains(later.trim()),
        "{shown}"
    );
    assert!(shown.contains("tokens"), "{shown}");
}

#[test]
fn clones_do_not_train_each_other() {
    let mut session = TestSession::start();
    let _folder = setup(&mut session);
    let code = r#"
        let sum = |vlm: &Vlm| -> Result<f32> {
            let mut sum = 0.0;
            for p in vlm.trainable_parameters() { sum += p.tensor.abs()?.sum_all()?.to_scalar::<f32>()?; }
            Ok(sum)
        };
        let before = sum(&vlm)?;
        for mut model in [vlm.clone(), vlm.copy()?, vlm.for_encoder(vit.clone(), 1)?] {
            let mlp = model.projector.get_mut::<Mlp2x>().ok_or_else(|| Error::Config("no mlp".into()))?;
            mlp.fc1.weight.set(&mlp.fc1.weight.tensor().zeros_like()?)?;
            for p in model.trainable_parameters() { if let Some(var) = &p.var { var.set(&p.tensor.zeros_like()?)?; } }
        }
        assert_eq!(sum(&vlm)?, before);
        let shared = vlm.share();
        for p in shared.trainable_parameters() { if let Some(var) = &p.var { var.set(&p.tensor.zeros_like()?)?; } }
        assert_eq!(sum(&vlm)?, 0.0);
        println!("done");
    "#;
    let run = session.run(code);
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
}

#[test]
fn a_setting_that_would_do_nothing_does_not_compile() {
    let mut session = TestSession::start();
    let _folder = setup(&mut session);
    for code in [
        "let mut m = vlm.clone(); m.settings.adapters = AdapterTraining::Frozen;",
        "let mut m = vlm.clone(); m.llm.config.norm_eps = 1.0;",
        "let mut m = vit.clone(); m.config.layer_norm_eps = 1.0;",
        "let mut m = vlm.clone(); m.projector.config.input = 3;",
    ] {
        let run = session.run(code);
        let error = run.outcome.status.expect_err(code);
        assert!(
            error.traceback.join("\n").contains("ReadOnly"),
            "{code}: {error}"
        );
    }
}

/// Whether the cell asked the compiler, or what it has kept.
fn compiled(run: &session_support::Run) -> bool {
    let phases = &run.outcome.phases;
    phases
        .iter()
        .any(|(phase, _)| ["rustc", "kept", "ld"].contains(&phase.as_str()))
}

#[test]
fn a_variable_that_is_named_alone_is_shown_without_the_compiler() {
    let mut session = TestSession::start();
    let _folder = setup(&mut session);
    let run = session.run(
        "let words = vec![\"a\", \"b\"]; let number = 7; let half = 0.5f32; let nothing = (); let r#type = 'c'; let mut many = vec![0.25f64; 3];",
    );
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let names = [
        "vlm",
        "sample",
        "image",
        "scene",
        "tensor",
        "trainer",
        "record",
        "loss",
        "gradients",
        "shapes",
        "device",
        "caption",
        "saved_run",
        "sweep",
        "tower",
        "words",
        "number",
        "half",
        "r#type",
        "many",
    ];
    let mut differ = Vec::new();
    for name in names {
        let alone = session.run(&format!("// looked at\n{name} // again\n"));
        if compiled(&alone) {
            differ.push(format!("{name} was compiled: {:?}", alone.outcome.phases));
        }
        let compiled = result(&mut session, &format!("({name})"));
        let alone = result(&mut session, name);
        if alone.data != compiled.data {
            differ.push(format!("{name}: {alone:?} and {compiled:?}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    // `()` shows nothing, and a statement neither.
    for quiet in ["nothing", "number;"] {
        let run = session.run(quiet);
        assert!(run.outcome.status.is_ok(), "{run:#?}");
        assert!(
            !run.events
                .iter()
                .any(|event| matches!(event, Event::Result(_))),
            "{quiet}: {run:#?}"
        );
    }
    // They are still there, the mutable one still mutable.
    assert_eq!(
        session.result_of("many.push(1.0); many.len() + words.len()"),
        "6"
    );
    assert_eq!(session.result_of("many"), "[0.25, 0.25, 0.25, 1.0]");
}

#[test]
fn what_only_a_compiler_can_show_by_its_name_is_compiled() {
    let mut session = TestSession::start();
    let run =
        session.run("#[derive(Debug)] struct Mine(u8); let mine = Mine(3); let number = 7u8;");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(session.result_of("mine"), "Mine(3)");
    // An item of the name says what it means.
    let run = session.run("const LIMIT: u8 = 9; let LIMITS = 1u8;");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    assert_eq!(session.result_of("LIMIT"), "9");
    let run = session.run("missing");
    assert!(run.outcome.status.is_err());
    // A session's own way to show itself is found.
    let run = session.run("trait Own { fn evcxr_display(&self); } impl Own for u8 { fn evcxr_display(&self) { println!(\"own {self}\"); } }");
    assert!(run.outcome.status.is_ok(), "{run:#?}");
    let run = session.run("number");
    assert!(compiled(&run), "{run:#?}");
}

/// Types of other types or of borrowed things, and those of private modules: the compiler shows them.
const COMPILED: [&str; 10] = [
    "ByKind",
    "Group",
    "HeldAs",
    "LoraPatterns",
    "Part",
    "PartMut",
    "Place",
    "Precision",
    "ProgressIter",
    "Task",
];

#[test]
fn every_public_type_can_be_shown_by_a_variable_s_name() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("prelude/src/cell/by_name.rs");
    let table = std::fs::read_to_string(file).expect("the table");
    let listed: BTreeSet<&str> = table.split(|c: char| !c.is_alphanumeric()).collect();
    let missing: Vec<&str> = VALUES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !listed.contains(name) && !COMPILED.contains(name))
        .collect();
    assert!(
        missing.is_empty(),
        "prelude/src/cell/by_name.rs has no row for {missing:?}"
    );
}
