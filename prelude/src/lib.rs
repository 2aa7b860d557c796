//! What every Glassbox cell sees.
//!
//! # Layout
//! One module per stage of the work; `prelude` is what `use glassbox_prelude::prelude::*;` brings into a cell.

pub mod cell;
pub mod data;
pub mod device;
pub mod display;
pub mod error;
pub mod evaluate;
pub mod hub;
pub mod inspect;
pub mod language;
pub mod lora;
pub mod nn;
pub mod projector;
pub mod session;
pub mod train;
pub mod vision;
pub mod vlm;

pub use error::{Error, Result};

pub use candle_core;
pub use candle_nn;
pub use image;
pub use plotters;
pub use serde_json;
pub use tokenizers;

/// What a cell sees without naming a path.
pub mod prelude {
    pub use crate::data::{
        CocoCaptions, QuestionAnswer, QuestionFormat, Sample, Scene, SceneAttributes, Shapes,
        ShapesConfig, Split,
    };
    pub use crate::device::DeviceChoice;
    pub use crate::display::{
        Cell, DisplayHandle, EvcxrDisplay, Figure, GridItem, ImageGrid, LinePlot, LineStyle,
        LivePlot, MimeBundle, ModelTable, NextTokenTable, Progress, Render, SegmentKind, Table,
        TensorView, TokenStrip, clear_output, display, display_live, progress,
    };
    pub use crate::error::{Error, Result};
    pub use crate::evaluate::{AttributeReport, attribute_accuracy};
    pub use crate::inspect::{
        EmbeddingPca, GradientLedger, LogitLens, LoraSpectrum, PatchHeat, StageTrace, TokenLossMap,
        caption_attention, caption_ledger, caption_lens, caption_losses, caption_occlusion,
        trace_caption,
    };
    pub use crate::language::{
        ChatMessage, KvCache, LlmProcessor, LogitsAt, Phi3, Phi3Config, Phi3Input,
    };
    pub use crate::nn::{Linear, LoraConfig, Network, Parameter};
    pub use crate::projector::{Projector, ProjectorConfig, ProjectorKind};
    pub use crate::session::{check_interrupt, input, input_password, interrupted};
    pub use crate::train::{LossKind, Schedule, TrainReport, Trainer, TrainerConfig};
    pub use crate::vision::{
        AlphaPolicy, Image, ImageProcessor, ImageProcessorConfig, Modality, Rescaling, Tower,
        ViTConfig, VisionFeature, Vit, VitOutput,
    };
    pub use crate::vlm::{
        BaseModels, Beam, EarlyStopping, Generation, LossOutput, Preset, Query, Sampling, Sequence,
        Vlm, VlmParts, VlmSettings,
    };
    pub use candle_core::{DType, Device, IndexOp, Tensor};
}
