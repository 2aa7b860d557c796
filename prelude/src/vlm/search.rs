//! The loop of a beam search: forward passes of all beams of all pictures at once, and a [`Beams`] a picture that says
//! which go on.

use super::beam::{Beams, Hypothesis};
use super::generate::{Beam, Generate, Generation};
use super::steps::Steps;
use crate::session::check_interrupt;
use crate::{Error, Result};
use candle_core::Tensor;

impl Generate {
    /// Several texts a picture side by side: the beams of picture b are rows b·n to b·n + n − 1 of the batch.
    pub(super) fn search(
        &self,
        mut steps: Steps<'_>,
        on_token: &mut dyn FnMut(usize, u32) -> Result<()>,
    ) -> Result<Vec<Generation>> {
        let (batch, width) = (steps.batch(), self.beams.num_beams);
        let beams = Beams::new(
            &self.beams,
            &self.sampling,
            &self.stop_ids,
            self.max_new_tokens,
        );
        let mut pictures = vec![beams; batch];
        let mut told = vec![0; batch];
        let mut kept: Vec<Tensor> = Vec::new();
        for step in 0..self.max_new_tokens {
            check_interrupt()?;
            let logits = if step == 0 {
                // All beams of a picture begin alike: the prompt is read once for all of them.
                let rows: Vec<usize> = (0..batch).flat_map(|b| [b].repeat(width)).collect();
                let logits = steps.next(&vec![Vec::new(); batch])?;
                steps.repeat(&rows)?;
                let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
                logits.index_select(&Tensor::new(rows, logits.device())?, 0)?
            } else {
                let made: Vec<Vec<u32>> = pictures
                    .iter()
                    .flat_map(|beams| beams.running().iter().map(|text| text.ids.clone()))
                    .collect();
                steps.next(&made)?
            }
            .detach(); // [B·n, V]
            let rows = logits.to_vec2::<f32>()?;
            let mut order: Vec<usize> = (0..batch * width).collect();
            for (b, beams) in pictures.iter_mut().enumerate() {
                // The beams of a finished picture keep their places in the batch.
                let own = b * width..(b + 1) * width;
                let next = beams.advance(&rows[own.clone()])?;
                for (place, row) in order[own].iter_mut().zip(next) {
                    *place = b * width + row;
                }
                while let Some(&id) = beams.agreed().get(told[b]) {
                    on_token(b, id)?;
                    told[b] += 1;
                }
            }
            if self.keep_logits {
                kept.push(logits);
            }
            if pictures.iter().all(Beams::is_done) {
                break;
            }
            steps.reorder(&order)?;
        }
        let mut all = Vec::with_capacity(batch);
        for (b, beams) in pictures.into_iter().enumerate() {
            let texts = beams.into_best();
            let best = texts.first().ok_or_else(|| {
                Error::Input("no text has a probability above 0: are the logits infinite?".into())
            })?;
            for &id in best.ids.iter().skip(told[b]) {
                on_token(b, id)?;
            }
            let path = best.rows.iter().zip(&kept);
            let logits = path.map(|(row, logits)| logits.get(b * width + row));
            let logits = logits.collect::<candle_core::Result<Vec<_>>>()?;
            let mut generation = self.generation(best.ids.clone(), best.stopped, &logits)?;
            generation.beams = texts
                .into_iter()
                .map(|Hypothesis { ids, score, .. }| {
                    let text = self.vlm.llm_processor.decode(&ids)?;
                    Ok(Beam { ids, text, score })
                })
                .collect::<Result<_>>()?;
            all.push(generation);
        }
        Ok(all)
    }
}
