//! Controls without a browser: values, ranges, and what handlers are told.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::display::{MimeBundle, Render};
use crate::error::{Error, Result};
use crate::session::{Comm, CommKind};

/// A handler that keeps what it is given.
fn kept<T: Send + 'static>() -> (
    Arc<Mutex<Vec<T>>>,
    impl FnMut(T) -> Result<()> + Send + 'static,
) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = seen.clone();
    (seen, move |value| {
        list.lock().expect("nobody panicked").push(value);
        Ok(())
    })
}

#[test]
fn a_slider_stays_between_its_ends_and_says_each_change_once() {
    let slider = Slider::new("temperature", 0.0..=2.0)
        .step(0.5)
        .starting_at(7.0);
    assert_eq!(slider.value(), 2.0);
    let (seen, handler) = kept();
    slider.on_change(handler);
    for wish in [-1.0, -3.0, 0.5, 0.5, f64::NAN] {
        slider.set_value(wish).expect("the handler does not fail");
    }
    // A wish that is no number is taken for zero; what is moved to where it stands was still moved.
    assert_eq!(
        *seen.lock().expect("nobody panicked"),
        [0.0, 0.0, 0.5, 0.5, 0.0]
    );
    assert_eq!(
        slider.render().plain(),
        "temperature: 0 (a slider from 0 to 2)"
    );
}

#[test]
fn whole_numbers_come_back_in_their_own_type() {
    let layer = Slider::new("layer", 0..=5usize).starting_at(3);
    assert_eq!(layer.value(), 3usize);
    let signed = Slider::new("shift", -4..=4i32);
    assert_eq!(signed.value(), -4);
    assert_eq!(
        Slider::new("turned", RangeInclusive::new(5, 1u32)).value(),
        1
    );
    assert_eq!(
        Slider::new("huge", 0..=u64::MAX)
            .starting_at(u64::MAX)
            .value(),
        1 << 53
    );
}

#[test]
fn a_list_gives_the_chosen_name() {
    let picture = Select::new("picture", ["real", "black"]);
    let (seen, handler) = kept();
    picture.on_change(handler);
    picture
        .set_value("black")
        .expect("the handler does not fail");
    picture
        .set_value("white")
        .expect("a name that is not there is passed over");
    assert_eq!((picture.value().as_str(), picture.index()), ("black", 1));
    assert_eq!(*seen.lock().expect("nobody panicked"), ["black"]);
    let none: [&str; 0] = [];
    assert_eq!(Select::new("nothing", none).value(), "");
}

#[test]
fn a_button_counts_its_clicks_and_passes_on_a_failure() {
    let button = Button::new("again");
    button.on_click(|| Err(Error::Interrupted));
    assert!(button.click().is_err());
    assert_eq!(button.clicks(), 1);
    button.close();
    assert!(button.click().is_ok(), "a closed button runs nothing");
}

#[test]
fn code_that_moves_its_own_control_does_not_wait_for_itself() {
    let slider = Slider::new("layer", 0..=5);
    let (again, runs) = (slider.clone(), Arc::new(AtomicUsize::new(0)));
    let count = runs.clone();
    slider.on_change(move |value| {
        count.fetch_add(1, Ordering::Relaxed);
        again.set_value(value + 1)
    });
    slider.set_value(2).expect("nothing fails");
    assert_eq!((slider.value(), runs.load(Ordering::Relaxed)), (3, 1));
}

#[test]
fn without_a_browser_control_and_view_are_shown_once() {
    let slider = Slider::new("layer", 1..=5);
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    interact(
        &(slider.clone(), Button::new("again")),
        move |(layer, clicks)| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(MimeBundle::text(format!("{layer} {clicks}")))
        },
    )
    .expect("the view can be made");
    slider.set_value(2).expect("nothing follows it");
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let bundle = slider.render();
    assert_eq!(bundle.data().len(), 2, "text and HTML, no widget");
    let fails = interact(&slider, |_| Err::<MimeBundle, _>(Error::Interrupted));
    assert!(fails.is_err());
}

/// Any JSON, three levels deep, with the words of the protocol among its keys and texts.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "method",
        "state",
        "value",
        "index",
        "content",
        "event",
        "update",
        "request_state",
        "request_states",
        "custom",
        "click",
        "jupyter.widget.control",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..6).prop_map(|pairs| Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn any_message_is_taken_or_passed_over(
        kind in prop::sample::select(vec![CommKind::Open, CommKind::Message, CommKind::Close]),
        id in "a|b|\\PC{0,3}",
        target in "jupyter.widget(.control)?|\\PC{0,3}",
        data in any_json(),
    ) {
        let taken = comm::deliver(&Comm { kind, id, target, data });
        prop_assert!(taken.is_ok());
    }

    #[test]
    fn any_state_leaves_the_value_between_the_ends(value in any_json()) {
        let whole = Slider::new("w", -3..=9i64);
        let real = Slider::new("r", -1.5..=2.5f64);
        let list = Select::new("l", ["a", "b"]);
        for (model, key) in [(&whole.model, "value"), (&real.model, "value"), (&list.model, "index")] {
            let state = json!({ key: value, "max": value, "_model_name": value });
            model.moved(state.as_object().expect("it is one")).expect("nothing follows");
        }
        prop_assert!((-3..=9).contains(&whole.value()));
        prop_assert!((-1.5..=2.5).contains(&real.value()));
        prop_assert!(["a", "b"].contains(&list.value().as_str()));
    }
}
