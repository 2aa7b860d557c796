//! What JavaScript calls: JSON in, JSON out, errors as exceptions with their words.

use wasm_bindgen::prelude::*;

use crate::page::{Page, Question};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);
}

fn thrown(error: impl std::fmt::Display) -> JsError {
    JsError::new(&error.to_string())
}

/// The model before and after training, for JavaScript.
#[wasm_bindgen]
pub struct Model(Page);

#[wasm_bindgen]
impl Model {
    /// Puts both together.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<Model, JsError> {
        // A panic is the end of the module: the console says why.
        std::panic::set_hook(Box::new(|why| error(&why.to_string())));
        Page::new().map(Model).map_err(thrown)
    }

    /// Width and height of a picture in pixels.
    pub fn size(&self) -> u32 {
        self.0.size()
    }

    /// Patches of a row.
    pub fn across(&self) -> usize {
        self.0.across()
    }

    /// The held-out scene with this number: RGBA, row by row.
    pub fn scene(&self, number: u32) -> Result<Vec<u8>, JsError> {
        self.0.scene(u64::from(number)).map_err(thrown)
    }

    /// The five right captions of the held-out scene with this number, as JSON.
    pub fn captions(&self, number: u32) -> Result<String, JsError> {
        serde_json::to_string(&self.0.captions(u64::from(number))).map_err(thrown)
    }

    /// What comes next, as JSON: see `Step` for the answer and `Question` for the question.
    pub fn step(&self, rgba: &[u8], question: &str) -> Result<String, JsError> {
        let question: Question = serde_json::from_str(question).map_err(thrown)?;
        let step = self.0.step(rgba, &question).map_err(thrown)?;
        serde_json::to_string(&step).map_err(thrown)
    }
}
