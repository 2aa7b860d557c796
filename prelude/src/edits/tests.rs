//! Edits on functions small enough to know the result.

use super::*;
use crate::Error;
use candle_core::{DType, Device};

/// `[1, 3, 4]`: 0 to 11.
fn values() -> Result<Tensor> {
    Ok(Tensor::arange(0f32, 12.0, &Device::Cpu)?.reshape((1, 3, 4))?)
}

/// Two points; the second has two heads of two values.
fn pass(x: &Tensor) -> Result<Tensor> {
    let x = activation("first", x.clone())?;
    activation_at("second", (x + 1.0)?, Axes::tokens(0).heads(2))
}

fn flat(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

#[test]
fn each_change_changes_its_part_and_nothing_else() -> Result<()> {
    let x = values()?;
    let plain: Vec<f32> = (1..13).map(|v| v as f32).collect();
    let run = |edits: Edits| flat(&edits.run(|| pass(&x))?);
    let changed = |at: &[usize], to: &dyn Fn(f32) -> f32| {
        let mut values = plain.clone();
        for &at in at {
            values[at] = to(values[at]);
        }
        values
    };
    assert_eq!(run(Edits::new())?, plain);
    let site = || Site::new("second");
    assert_eq!(run(Edits::new().zero(site()))?, vec![0.0; 12]);
    let head = run(Edits::new().zero(site().head(1)))?;
    assert_eq!(head, changed(&[2, 3, 6, 7, 10, 11], &|_| 0.0));
    let both = run(Edits::new().zero(site().head(1).tokens([0, 2])))?;
    assert_eq!(both, changed(&[2, 3, 10, 11], &|_| 0.0));
    let scaled = run(Edits::new().scale(site().token(1), 3.0))?;
    assert_eq!(scaled, changed(&[4, 5, 6, 7], &|v| v * 3.0));
    let from = run(Edits::new().add(
        site().tokens_from(1),
        &Tensor::ones(4, DType::F32, &Device::Cpu)?,
    ))?;
    assert_eq!(from, changed(&[4, 5, 6, 7, 8, 9, 10, 11], &|v| v + 1.0));
    let replaced = Tensor::new(&[[[7f32, 8.0]]], &Device::Cpu)?;
    let replaced = run(Edits::new().replace(site().token(2).head(0), &replaced))?;
    assert_eq!(replaced[8..10], [7.0, 8.0]);
    let mapped = run(Edits::new().map(site().row(0).token(0), |x| Ok(x.sqr()?)))?;
    assert_eq!(mapped, changed(&[0, 1, 2, 3], &|v| v * v));
    // One after the other, in their order.
    let order = Edits::new()
        .scale(site().token(0), 2.0)
        .map(site().token(0), |x| Ok((x + 1.0)?));
    assert_eq!(run(order)?, changed(&[0, 1, 2, 3], &|v| v * 2.0 + 1.0));
    Ok(())
}

#[test]
fn what_is_put_back_unchanged_has_the_same_bits() -> Result<()> {
    let x = Tensor::new(
        &[[
            [-0.0f32, 0.0, f32::NAN, f32::INFINITY],
            [1e-40, 1.0, 2.0, 3.0],
        ]],
        &Device::Cpu,
    )?;
    let run = |x: &Tensor| activation_at("x", x.clone(), Axes::tokens(0).heads(2));
    let bits =
        |x: &Tensor| -> Result<Vec<u32>> { Ok(flat(x)?.into_iter().map(f32::to_bits).collect()) };
    let (_, seen) = Activations::read(&["x"], || run(&x))?;
    for site in [
        Site::new("x"),
        Site::new("x").head(1),
        Site::new("x").tokens([1]),
        Site::new("x").head(0).token(0),
    ] {
        for edits in [
            Edits::new().patch(&site, &seen),
            Edits::new().scale(&site, 1.0),
            Edits::new().map(&site, |x| Ok(x.clone())),
        ] {
            assert_eq!(bits(&edits.run(|| run(&x))?)?, bits(&x)?);
        }
    }
    let zero = Edits::new().zero("x").run(|| run(&x))?;
    assert_eq!(flat(&zero)?, vec![0.0; 8]); // infinite and undefined values too
    Ok(())
}

#[test]
fn gradients_pass_what_is_left_and_reach_what_is_put_there() -> Result<()> {
    let x = candle_core::Var::from_tensor(&values()?)?;
    let put = candle_core::Var::from_tensor(&Tensor::new(&[[[5f32, 5.0]]], &Device::Cpu)?)?;
    let edits = Edits::new().replace(Site::new("second").token(1).head(0), put.as_tensor());
    let loss = edits.run(|| Ok(pass(x.as_tensor())?.sqr()?.sum_all()?))?;
    let gradients = loss.backward()?;
    let (of_x, of_put) = (gradients.get(&x), gradients.get(&put));
    let of_x = flat(of_x.ok_or_else(|| Error::Input("no gradient".into()))?)?;
    assert_eq!((of_x[3], of_x[4], of_x[5], of_x[6]), (8.0, 0.0, 0.0, 14.0));
    assert_eq!(
        flat(of_put.ok_or_else(|| Error::Input("no gradient".into()))?)?,
        [10.0, 10.0]
    );
    Ok(())
}

#[test]
fn what_is_not_there_is_said_by_name() -> Result<()> {
    let x = values()?;
    let refused = |edits: Edits| edits.run(|| pass(&x)).err();
    let is = |error: Option<Error>, what: &str| {
        error.is_some_and(|error| error.to_string().contains(what))
    };
    match refused(Edits::new().zero("frist")) {
        Some(Error::NoSuchActivation { name, nearest }) => {
            assert_eq!((name.as_str(), nearest[0].as_str()), ("frist", "first"));
        }
        other => panic!("{other:?}"),
    }
    assert!(is(refused(Edits::new().zero("third*")), "nearest are"));
    let none = Edits::new().zero("first").run(|| Ok(()));
    assert!(is(none.err(), "no model ran"));
    assert!(is(
        refused(Edits::new().zero(Site::new("first").head(0))),
        "has no heads"
    ));
    assert!(is(
        refused(Edits::new().zero(Site::new("second").head(2))),
        "it has 2, 0 to 1"
    ));
    assert!(is(
        refused(Edits::new().zero(Site::new("second").token(3))),
        "no token 3 in this pass: it is computed for tokens 0 to 2"
    ));
    assert!(is(
        refused(Edits::new().zero(Site::new("second").tokens(1..9))),
        "no tokens 3–8"
    ));
    assert!(is(
        refused(Edits::new().zero(Site::new("second").tokens_from(3))),
        "token from 3 on"
    ));
    assert!(is(
        refused(Edits::new().zero(Site::new("second").row(1))),
        "its batch is 1"
    ));
    assert!(is(
        refused(Edits::new().zero(Site::new("second").tokens([]))),
        "in this pass"
    ));
    let wide = Tensor::zeros((1, 3, 5), DType::F32, &Device::Cpu)?;
    match refused(Edits::new().replace("first", &wide)) {
        Some(Error::ActivationShape {
            expected, found, ..
        }) => {
            assert_eq!((expected, found), (vec![1, 3, 4], vec![1, 3, 5]));
        }
        other => panic!("{other:?}"),
    }
    assert!(is(
        refused(Edits::new().map("first", |x| Ok(x.sum_all()?))),
        "same shape"
    ));
    let (_, seen) = Activations::read(&["first"], || pass(&x.narrow(1, 0, 2)?))?;
    assert!(matches!(
        refused(Edits::new().patch("first", &seen)),
        Some(Error::ActivationShape { .. })
    ));
    assert!(matches!(
        refused(Edits::new().patch("second", &seen)),
        Some(Error::NoSuchActivation { .. })
    ));
    assert!(Activations::read(&["nothing"], || pass(&x)).is_err());
    // Nothing is left behind by what failed.
    assert!(!are_on());
    assert_eq!(flat(&pass(&x)?)?[0], 1.0);
    Ok(())
}

#[test]
fn passes_that_go_on_are_one_sequence() -> Result<()> {
    let x = values()?;
    let chunks = || -> Result<Tensor> {
        let one = activation_at("x", x.narrow(1, 0, 2)?, Axes::tokens(0))?;
        let two = activation_at("x", x.narrow(1, 2, 1)?, Axes::tokens(2))?;
        Ok(Tensor::cat(&[one, two], 1)?)
    };
    let (_, seen) = Activations::read(&["x"], chunks)?;
    assert_eq!(flat(&seen.get("x")?)?, flat(&x)?);
    assert_eq!(flat(&seen.mean("x")?)?, [4.0, 5.0, 6.0, 7.0]);
    // An edit of tokens in both passes, from values for both, and from the run that was read.
    let put = Tensor::new(&[[70f32; 4], [80.0; 4]], &Device::Cpu)?; // [2, 4]
    let edits = Edits::new().replace(Site::new("x").tokens([1, 2]), &put);
    let made = flat(&edits.run(chunks)?)?;
    assert_eq!((made[0], made[4], made[8]), (0.0, 70.0, 80.0));
    let back = edits
        .patch(Site::new("x").tokens([1, 2]), &seen)
        .run(chunks)?;
    assert_eq!(flat(&back)?, flat(&x)?);
    let twice = || activation("x", x.clone()).and_then(|_| activation("x", x.clone()));
    let (_, seen) = Activations::read(&["x"], twice)?;
    assert!(
        seen.get("x")
            .is_err_and(|error| error.to_string().contains("2 times"))
    );
    assert_eq!(seen.passes("x")?.len(), 2);
    assert!(seen.render().plain().contains("x, pass 1"));
    Ok(())
}

#[test]
fn edits_inside_of_edits_all_hold() -> Result<()> {
    let x = values()?;
    let inner = Edits::new().scale("first", 2.0);
    let outer = Edits::new().map("first", |x| Ok((x + 1.0)?));
    let made = outer.run(|| inner.run(|| pass(&x)))?;
    assert_eq!(flat(&made)?[..2], [3.0, 5.0]);
    // An edit that runs a pass of its own, whose names begin anew.
    let own = Edits::new().map("first", |x| {
        Edits::new()
            .zero("mine")
            .run(|| activation("mine", x.clone()))
    });
    let _at = within(|| "part".into());
    assert_eq!(flat(&own.run(|| pass(&x))?)?[5], 1.0);
    assert_eq!(own.render().plain(), "change first by a function");
    Ok(())
}
