//! A variable that a cell names and does nothing else with (`vlm`) is shown without a compiler: its type was compiled before.
//!
//! ```text
//! name ─ the store ─▶ its type's row in the table ─▶ shown as the last expression of a cell
//! ```
//! A type without a row, such as one of the cells' own, is for the compiler; [`can_show`] says which it is.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use super::{STORE, ShowDebug as _, run, showing};
use crate::display::EvcxrDisplay as _;

type Show = fn(&dyn Any);

/// Whether the variable is there, and of a type that is known here.
pub(crate) fn can_show(name: &str) -> bool {
    STORE.with(|store| {
        store
            .borrow()
            .get(name)
            .and_then(|value| row(&**value))
            .is_some()
    })
}

/// Shows the variable as a cell does whose only expression it is. Where [`can_show`] says no, nothing happens.
pub(crate) fn show(name: &str) {
    // Out of the store, as for a cell: what shows itself may be stopped by force, and would leave the store borrowed.
    let Some((name, value)) = STORE.with(|store| store.borrow_mut().remove_entry(name)) else {
        return;
    };
    if let Some(show) = row(&*value) {
        let value = &*value;
        run(Box::new(move || {
            showing(true);
            show(value);
            showing(false);
            Ok(())
        }));
    }
    STORE.with(|store| {
        store.borrow_mut().entry(name).or_insert(value);
    });
}

fn row(value: &dyn Any) -> Option<Show> {
    static TABLE: OnceLock<HashMap<TypeId, Show>> = OnceLock::new();
    TABLE.get_or_init(table).get(&value.type_id()).copied()
}

/// Adds rows for types. The call in a row is the one that a cell's source has, so it finds the same way to show the value.
macro_rules! rows {
    ($table:ident: $($type:ty),+ $(,)?) => {
        $($table.insert(TypeId::of::<$type>(), |value| {
            if let Some(value) = value.downcast_ref::<$type>() {
                value.evcxr_display();
            }
        });)+
    };
    ($table:ident: $($module:ident)::+ => $($type:ident),+ $(,)?) => {{
        use crate::$($module)::+ as of;
        rows!($table: $(of::$type),+);
    }};
}

fn table() -> HashMap<TypeId, Show> {
    let mut table: HashMap<TypeId, Show> = HashMap::new();
    rows!(table: (), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, String, &'static str);
    rows!(table: Vec<u8>, Vec<u32>, Vec<u64>, Vec<usize>, Vec<i32>, Vec<i64>, Vec<f32>, Vec<f64>, Vec<bool>, Vec<String>, Vec<&'static str>);
    rows!(table: Vec<Vec<u32>>, Vec<Vec<f32>>, Vec<Vec<f64>>, Vec<Vec<String>>, Vec<(String, f32)>, Vec<(String, f64)>);
    rows!(table: (f32, f32), (f64, f64), (usize, usize), (u32, u32), BTreeMap<String, f64>, BTreeMap<String, String>, BTreeMap<String, usize>);
    rows!(table: Option<String>, Option<f32>, Option<f64>, Option<u32>, Option<usize>, std::path::PathBuf, std::time::Duration);
    rows!(table: candle_core => Tensor, Var, Device, DType, Shape);
    rows!(table: Vec<candle_core::Tensor>, (candle_core::Tensor, candle_core::Tensor), serde_json::Value);
    rows!(table: Vec<crate::vision::Image>, Vec<crate::nn::Parameter>, Vec<crate::language::DecoderLayer>, Vec<crate::data::Sample>, Vec<crate::train::Example>, Vec<crate::data::Scene>);
    rows!(table: bench => Benchmark);
    rows!(table: data =>
        Captions, CocoFinding, CocoReport, Conversation, Conversations, Instances, Lesson, LessonKind,
        Lessons, LlmTeacher, NamedBox, Prior, QuestionAnswer, QuestionFormat, QuestionTemplates, Questions,
        Sample, Samples, Scene, SceneAttributes, Shapes, ShapesConfig, Sheet, Split, TeacherPrompts,
        TemplateTeacher, TextLines);
    rows!(table: data::llava => Said, Speaker);
    rows!(table: data::shapes =>
        AttributeScore, CaptionOrder, Claim, ClaimKind, Colour, Object, PixelBox, Relation, Shape, Size,
        Verdict);
    rows!(table: display =>
        Cell, DisplayHandle, Facts, Figure, GridItem, Histogram, ImageGrid, LinePlot, LineStyle, MimeBundle,
        ModelPart, ModelTable, NextToken, NextTokenTable, Scale, SegmentKind, Table, TensorView, TokenStrip);
    rows!(table: edits => Activations, Edits, Site);
    rows!(table: error => Error);
    rows!(table: evaluate =>
        Answer, AnswerReport, Answered, AttributeAccuracy, AttributeReport, Bleu, Calibration,
        CaptionTokenizer, CiderD, Condition, Evaluation, EvaluationItem, Evaluator, ExactMatch, Interval,
        MeteorExact, Needs, Perplexity, Prediction, PromptItem, Reliability, RougeL, RoundedLoss,
        RoundingCost, Row, Score, SetText, SetTexts, Surprise, Unit, VqaAccuracy, YesNo);
    rows!(table: headless =>
        DataConfig, EvaluateConfig, HandedOver, JobState, JobStatus, Launch, ModelConfig, Resume,
        RunConfig, Scored, SlurmJob, SweepDraft, SweepFolder);
    rows!(table: hub => CachedModel, DownloadProgress, HubError, HubOptions, Token);
    rows!(table: inspect =>
        Ablation, Direction, EmbeddingPca, Expected, GradientLedger, HeadAblation, InputAttention,
        IntegratedGradients, LayerSpectrum, LedgerEntry, LedgerState, LogitAttribution, LogitLens, LoraSpectrum, PatchHeat,
        PatchingMap, StageTrace, SteeringTable, TokenLossMap);
    rows!(table: language =>
        ChatMessage, ChatOptions, Decoder, DecoderConfig, DecoderLayer, GgufExport, GgufFile, GgufType,
        KvCache, LlmInput, LlmOutput, LlmProcessor, LogitsAt, Mlp, NewToken, Norm, RopeScaling, SelfAttention,
        SideBySide);
    rows!(table: lora => TaskType);
    rows!(table: nn =>
        Activation, Attention, AttentionRule, BlockType, Blocks, Checkpoint, Embedding, Init, LayerNorm, Linear, Lora,
        LoraConfig, LoraTargets, Parameter, Quantize, RmsNorm, Role, Rotary, Sight, TokenRows, Visibility, VlmPart,
        Weight);
    rows!(table: parallel => Link, ScalingPlan, StepTime);
    rows!(table: projector =>
        AnyresMlp, AveragePool, LinearProjector, Mlp2x, PixelShuffle, Projector, ProjectorConfig,
        ProjectorKind, Resampler);
    rows!(table: projector::perceiver => Perceiver, PerceiverConfig, PerceiverLayer);
    rows!(table: runs =>
        AboutRun, Best, DataFacts, Difference, Run, RunState, Runs, Scores, Sweep, SweepReport, Trial,
        TrialRecord);
    rows!(table: senses =>
        Atom, Bond, BondOrder, BondStereo, Drawing, EdgeLines, Element, FlowEncoder, FlowField, FlowGaps,
        Graph, GraphEdge, GraphEncoder, GraphKind, GraphWidths, MessagePassing, Minimol, Molecule,
        OrganicMolecule, SdfRecord, SocialGraph, Spectrum, SpectrumEncoder, SpectrumKind, SpectrumReads);
    rows!(table: train =>
        AdamW, AdamWConfig, BestBy, CaptionRecord, CheckpointSettings, EarlyStop, Example, FailedSave,
        FeatureSettings, Gradients, LossAverage, LossKind, NotFinite, OptimizerKind, PartSettings,
        PictureFile, PlannedPart, Rates, RunCheckpoint, Schedule, ScheduleFree, SettingDifference, StepRecord,
        TooLong, TrainPlan, TrainReport, TrainStage, TrainedPart, Trainer, TrainerSettings, Unreadable);
    rows!(table: variables => Variables);
    rows!(table: vision =>
        AlphaPolicy, Anyres, DecodeOptions, Encoder, ExifPolicy, GridSplit, Image, ImageProcessor,
        ImageProcessorConfig, NanoSplit, Positions, Resample, Rescaling, Resize, Stages, TilePiece, Tiles,
        Tiling, Tower, TowerConfig, ViTConfig, VisionFeature, Vit, VitLayer, VitOutput);
    rows!(table: vlm =>
        AdapterTraining, BaseModels, Beam, BeamSearch, BosPlacement, CaptionBatch, EarlyStopping, EncoderFrom,
        GapOrder, Generate, Generation, Infilling, InputPiece, LossOutput, NamedEncoder, OtherEncoder, Piece,
        Preset, Prompt, PromptPart, PromptStyle, PromptVectors, PromptWords, Published, Query, Sampling, Segments,
        Seen, Sequence, Stopped, TargetPiece, Targets, Turn, Vlm, VlmParts, VlmSettings);
    table
}
