//! Gradient checkpointing: a stretch of a network keeps its input and nothing of what it computes; the backward pass computes it
//! once more.
//!
//! ```text
//! forward     x ─ run, all inside is forgotten ─► y, on any device
//! backward    x ─ run again ─► y ─ backward with dy ─► dx, and gradients of the weights inside, collected on the side
//! ```
//! The weights are no arguments of the operation, so their gradients reach nobody who does not ask for them: see [`collecting`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, Shape, Storage, Tensor, TensorId, Var,
};

use rand_chacha::ChaCha8Rng;

use super::dropout::{self, Samples};
use super::lora::Lora;
use super::parameter::{Network, Part};
use crate::{Error, Result};

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static COLLECTED: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// Runs a forward pass whose layers are computed again in the backward pass, or one as usual.
pub fn recomputing<T>(on: bool, forward: impl FnOnce() -> T) -> T {
    /// Also when the pass panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON.set(self.0);
        }
    }
    let _restore = Restore(ON.replace(on));
    forward()
}

/// Whether the forward pass that this thread is in is one of those.
pub(crate) fn is_on() -> bool {
    ON.get()
}

/// Runs a backward pass: what comes of it, and the gradients of weights in stretches that it computed again.
pub(crate) fn collecting<T>(backward: impl FnOnce() -> T) -> (T, HashMap<TensorId, Tensor>) {
    /// Also when a stretch panics: what it left is no other pass's.
    struct Restore(Option<HashMap<TensorId, Tensor>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            COLLECTED.set(self.0.take());
        }
    }
    let _restore = Restore(COLLECTED.replace(Some(HashMap::new())));
    let outcome = backward();
    let collected = COLLECTED.replace(None);
    (outcome, collected.unwrap_or_default())
}

/// What is computed from the input, and again.
type Run<N> = Box<dyn Fn(&N, &Tensor) -> Result<Tensor> + Send + Sync>;

/// A stretch of a network as one operation.
struct Recomputed<N> {
    network: N,
    run: Run<N>,
    /// Of the forward pass, layer by layer: whether dropout was on, and from where it drew.
    modes: Vec<Mode>,
    /// Of the forward pass too: whose rows they are.
    samples: Option<Samples>,
    /// What the forward pass came to, until the operation has handed it on.
    computed: Mutex<Option<Tensor>>,
}

/// Whether dropout is on, and from where it draws next.
type Mode = (bool, ChaCha8Rng);

/// `run` on `x` so that nothing of it is kept but `x`. `network` holds its weights, shared with the model's; its dropout draws the same
/// in the backward pass, whether or not it is switched on by then. Where nothing trains, here or before, no backward pass comes by: it is run as usual.
///
/// # Errors
/// What `run` reports.
pub(crate) fn recomputed<N: Network + Send + Sync + 'static>(
    network: N,
    x: &Tensor,
    run: impl Fn(&N, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !x.track_op() && network.trainable_parameters().is_empty() {
        return run(&network, x);
    }
    // What nothing trains before it: weights inside need a way back all the same.
    let x = match x.track_op() {
        true => x.contiguous()?,
        false => Var::from_tensor(x)?.as_tensor().clone(),
    };
    let modes = modes(&network);
    let samples = dropout::now();
    let y = run(&network, &x.detach())?.detach().contiguous()?;
    Ok(x.apply_op1(Recomputed {
        network,
        run: Box::new(run),
        modes,
        samples,
        computed: Mutex::new(Some(y)),
    })?)
}

fn each_lora(network: &dyn Network, visitor: &mut dyn FnMut(&Lora)) {
    network.visit(&mut |part| {
        if let Part::Linear(linear) = part
            && let Some(lora) = &linear.lora
        {
            visitor(lora);
        }
    });
}

fn modes(network: &dyn Network) -> Vec<Mode> {
    let mut modes = Vec::new();
    each_lora(network, &mut |lora| {
        modes.push((lora.is_training(), lora.draws()));
    });
    modes
}

/// Has dropout do what it did before, and go on as it was when this is dropped: also when the pass panics.
struct Drawing<'a> {
    network: &'a dyn Network,
    now: Vec<Mode>,
}

impl<'a> Drawing<'a> {
    fn again(network: &'a dyn Network, before: &[Mode]) -> Self {
        let now = modes(network);
        set_modes(network, before);
        Self { network, now }
    }
}

impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        set_modes(self.network, &self.now);
    }
}

fn set_modes(network: &dyn Network, modes: &[Mode]) {
    let mut modes = modes.iter();
    each_lora(network, &mut |lora| {
        if let Some((training, draws)) = modes.next() {
            lora.set_mode(*training);
            lora.set_draws(draws.clone());
        }
    });
}

/// As a backward pass can pass it on.
fn passed_on(error: Error) -> candle_core::Error {
    match error {
        Error::Interrupted => Error::interrupted_in_candle(),
        Error::Candle(error) => error,
        other => candle_core::Error::Msg(other.to_string()),
    }
}

impl<N> Recomputed<N> {
    /// What the forward pass came to, contiguous. It is handed on once: kept here it would stay as long as the graph.
    fn computed(&self) -> candle_core::Result<Tensor> {
        let mut computed = self.computed.lock().unwrap_or_else(PoisonError::into_inner);
        match computed.take() {
            Some(y) => Ok(y),
            None => candle_core::bail!("a stretch's forward pass is handed on once"),
        }
    }
}

impl<N: Network + Send + Sync> CustomOp1 for Recomputed<N> {
    fn name(&self) -> &'static str {
        "recomputed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = self.computed()?;
        let (storage, layout) = y.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(storage), Some((start, end))) => Ok((
                match storage {
                    CpuStorage::F32(values) => CpuStorage::F32(values[start..end].to_vec()),
                    CpuStorage::BF16(values) => CpuStorage::BF16(values[start..end].to_vec()),
                    CpuStorage::F16(values) => CpuStorage::F16(values[start..end].to_vec()),
                    _ => candle_core::bail!("a stretch that is recomputed gives f32, bf16 or f16"),
                },
                y.shape().clone(),
            )),
            _ => candle_core::bail!("a stretch that is recomputed stays on its input's device"),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let y = match self.computed()? {
            // The whole memory is copied, from its beginning.
            y if y.layout().start_offset() == 0 => y,
            y => y.force_contiguous()?,
        };
        let (storage, layout) = y.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, y.shape().clone())),
            _ => candle_core::bail!("a stretch that is recomputed stays on its input's device"),
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if COLLECTED.with_borrow(Option::is_none) {
            candle_core::bail!(
                "this pass was made with gradient checkpointing: take its gradients by `Gradients::of(&loss, &parameters)`, a bare \
                 `loss.backward()` has none of the weights inside"
            )
        }
        let x = Var::from_tensor(&x.detach())?;
        let y = {
            let _restore = Drawing::again(&self.network, &self.modes);
            let _samples = dropout::with(self.samples.clone());
            (self.run)(&self.network, x.as_tensor())
        };
        let y = y.map_err(passed_on)?;
        // The gradient of the sum of y · dy by y is dy.
        let loss = (y.to_dtype(DType::F32)? * dy.detach().to_dtype(DType::F32)?)?.sum_all()?;
        let mut gradients = loss.backward()?;
        let mut outcome = Ok(());
        self.network.visit(&mut |part| {
            let parameters = match part {
                Part::Linear(linear) => linear.parameters(),
                Part::Weight(weight) => vec![weight.parameter()],
            };
            for var in parameters.into_iter().filter_map(|parameter| parameter.var) {
                if let (Some(gradient), Ok(())) = (gradients.remove(&var), &outcome) {
                    outcome = collect(var.id(), gradient.detach());
                }
            }
        });
        outcome?;
        Ok(gradients.remove(&x).map(|dx| dx.detach()))
    }
}

/// Adds to what was collected for a weight.
fn collect(id: TensorId, gradient: Tensor) -> candle_core::Result<()> {
    COLLECTED.with_borrow_mut(|collected| {
        let Some(collected) = collected else {
            return Ok(());
        };
        let sum = match collected.get(&id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        collected.insert(id, sum);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Checkpoint, Linear, LoraConfig};
    use candle_core::Device;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Panics in the backward pass.
    static BROKEN: AtomicBool = AtomicBool::new(false);

    fn linear() -> Result<Linear> {
        let weights = Checkpoint::random(1, DType::F32, &Device::Cpu);
        let mut linear = Linear::load(&weights, "inside", (4, 4), true)?;
        linear.set_trainable(true)?;
        Ok(linear)
    }

    #[test]
    fn a_panic_in_a_backward_pass_leaves_nothing_behind() -> Result<()> {
        let (linear, x) = (linear()?, Tensor::ones((2, 4), DType::F32, &Device::Cpu)?);
        let loss = || -> Result<Tensor> {
            let y = recomputed(super::super::shared(&linear), &x, |linear, x| {
                if BROKEN.load(Ordering::Relaxed) {
                    panic!("a cell's own layer");
                }
                linear.forward(x)
            })?;
            Ok(y.sqr()?.sum_all()?)
        };
        let (first, panics) = (loss()?, loss()?);
        BROKEN.store(true, Ordering::Relaxed);
        let caught = catch_unwind(AssertUnwindSafe(|| collecting(|| panics.backward())));
        BROKEN.store(false, Ordering::Relaxed);
        assert!(caught.is_err());
        // Nobody collects any more: a bare backward pass says so, as before.
        assert!(first.backward().is_err());
        let (outcome, gradients) = collecting(|| first.backward());
        outcome?;
        assert_eq!(gradients.len(), 2, "of weight and bias");
        Ok(())
    }

    /// A loop of one's own: loss, then `set_training(false)`, then gradients, as one may write it.
    #[test]
    fn dropout_that_is_switched_off_between_loss_and_gradients_is_on_when_a_stretch_is_computed_again()
    -> Result<()> {
        let weights = Checkpoint::random(1, DType::F32, &Device::Cpu);
        let mut linear = Linear::load(&weights, "inside", (16, 4), true)?;
        let config = LoraConfig {
            lora_dropout: 0.5,
            ..LoraConfig::new(2, 4.0, &["inside"])
        };
        linear.add_lora(&config, 3)?;
        // B begins with zeros, behind which nothing of A is seen.
        if let Some(lora) = &mut linear.lora {
            lora.b
                .set(&Tensor::ones((4, 2), DType::F32, &Device::Cpu)?)?;
        }
        let x = Tensor::rand(-1f32, 1.0, (8, 16), &Device::Cpu)?;
        let gradients = |again: bool, off_between: bool| -> Result<Vec<Vec<f32>>> {
            linear.take_back_draws(); // the same draws each time
            linear.set_training(true);
            let y = match again {
                true => recomputed(super::super::shared(&linear), &x, |linear, x| {
                    linear.forward(x)
                })?,
                false => linear.forward(&x)?,
            };
            let loss = y.sqr()?.sum_all()?;
            if off_between {
                linear.set_training(false);
            }
            let (store, inside) = collecting(|| loss.backward());
            let store = store?;
            assert_eq!(mode_of(&linear), !off_between, "left as it was");
            let vars = linear.trainable_parameters().into_iter();
            let found = vars.filter_map(|parameter| {
                let var = parameter.var?;
                inside.get(&var.id()).or_else(|| store.get(&var)).cloned()
            });
            let values = found.map(|gradient| Ok(gradient.flatten_all()?.to_vec1::<f32>()?));
            values.collect()
        };
        let plain = gradients(false, false)?;
        assert_eq!(plain.len(), 2, "of A and B");
        for off_between in [false, true] {
            assert_eq!(gradients(true, off_between)?, plain, "{off_between}");
        }
        // A stretch that was computed without dropout stays without it.
        linear.set_training(false);
        let y = recomputed(super::super::shared(&linear), &x, |linear, x| {
            linear.forward(x)
        })?;
        let loss = y.sqr()?.sum_all()?;
        linear.set_training(true);
        let (outcome, inside) = collecting(|| loss.backward());
        outcome?;
        linear.set_training(false);
        let by_hand = linear.forward(&x)?.sqr()?.sum_all()?.backward()?;
        for parameter in linear.trainable_parameters() {
            let var = parameter
                .var
                .ok_or_else(|| Error::Input("no variable".into()))?;
            let (found, wanted) = (inside.get(&var.id()), by_hand.get(&var));
            let (Some(found), Some(wanted)) = (found, wanted) else {
                return Err(Error::Input(format!("no gradient of {}", parameter.name)));
            };
            assert_eq!(
                found.flatten_all()?.to_vec1::<f32>()?,
                wanted.flatten_all()?.to_vec1::<f32>()?
            );
        }
        Ok(())
    }

    fn mode_of(linear: &Linear) -> bool {
        modes(linear).iter().all(|(training, _)| *training)
    }

    #[test]
    fn where_nothing_trains_nothing_is_computed_twice() -> Result<()> {
        let mut linear = linear()?;
        linear.set_trainable(false)?;
        let x = Tensor::ones((2, 4), DType::F32, &Device::Cpu)?;
        let y = recomputed(linear, &x, |linear, x| linear.forward(x))?;
        assert!(!y.track_op());
        Ok(())
    }
}
