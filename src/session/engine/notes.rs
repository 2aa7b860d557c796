//! What is said of variables that later cells will not have: why, and what to do, in one line; and said again, shorter, to a cell
//! that misses one.

use super::source::Made;

/// What is said of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub name: String,
    /// In the cell that makes or loses it.
    pub text: String,
    /// In a later cell that misses it.
    pub reminder: String,
}

impl Note {
    fn not_kept(name: &str, why: &str, advice: &str) -> Note {
        Note {
            name: name.to_owned(),
            text: format!("`{name}` is not kept for later cells: {why}. {advice}"),
            reminder: format!("`{name}` was not kept when its cell ended: {why}. {advice}"),
        }
    }
}

/// Something to say that concerns no variable.
pub(super) fn plain(text: String) -> Note {
    Note {
        name: String::new(),
        text,
        reminder: String::new(),
    }
}

/// What to say of a variable whose type is of a crate that was built anew.
pub(super) fn of_other_build(name: &str, krate: &str) -> Note {
    Note {
        name: name.to_owned(),
        text: format!(
            "`{name}` is not kept: its type is of `{krate}` as it was before. Run the cell that makes it again."
        ),
        reminder: format!(
            "`{name}` went when `{krate}` was built anew: run the cell that makes it again."
        ),
    }
}

/// What to say of a variable whose type no code can name. `made` is what the cell made it from, `type_name` the type in the
/// words of the program.
pub(super) fn not_kept(name: &str, type_name: &str, made: Made) -> Note {
    let whole = type_name.ends_with('}');
    let (why, advice) = match made {
        Made::Closure => (
            "it is a closure, whose type has no name",
            format!(
                "In a box it is kept: `let {name}: Box<dyn Fn(…) -> …> = Box::new(…);`; or make it a `fn`."
            ),
        ),
        Made::Future => (
            "it is a future, whose type has no name",
            format!("Await it in the same cell: `let {name} = {name}.await;`."),
        ),
        Made::Otherwise if whole => (
            "it is a closure or future that a function made, whose type has no name",
            format!(
                "Await a future in the same cell; box a closure: `let {name}: Box<dyn Fn(…) -> …> = Box::new(…);`."
            ),
        ),
        Made::Otherwise => (
            "its type holds a closure or future and so has no name",
            format!(
                "Collect an iterator (`.collect::<Vec<_>>()`), or box it: `let {name}: Box<dyn Iterator<Item = …>> = Box::new(…);`."
            ),
        ),
    };
    Note::not_kept(name, why, &advice)
}

/// What to say of a variable that borrows from another.
pub(super) fn borrows(name: &str, made: Made) -> Note {
    if made == Made::Closure {
        let advice = format!(
            "In a box it is kept, if it takes what it needs along: `let {name}: Box<dyn Fn(…) -> …> = Box::new(move …);`."
        );
        return Note::not_kept(
            name,
            "it is a closure that borrows from another value",
            &advice,
        );
    }
    Note::not_kept(
        name,
        "it borrows from another value",
        "Keep a copy of what it refers to (`.clone()`, `.to_owned()`, `.to_vec()`, `.collect::<Vec<_>>()`), or borrow anew in each cell.",
    )
}

/// What to say of a variable that is a function itself, not a pointer to one.
pub(super) fn function(name: &str) -> Note {
    Note::not_kept(
        name,
        "it is a function itself, whose type has no name",
        &format!("A pointer to it is kept: `let {name}: fn(…) -> … = …;`."),
    )
}

/// What to say of a variable whose type later cells cannot write.
pub(super) fn unwritable(name: &str, type_name: &str) -> Note {
    Note::not_kept(
        name,
        &format!("its type, {type_name}, cannot be named in code"),
        "Give it one that can, such as `let f: fn(…) -> … = …;` for a function.",
    )
}

/// What to say of a variable whose type a cell defines anew.
pub(super) fn redefined(name: &str) -> Note {
    Note {
        name: name.to_owned(),
        text: format!(
            "`{name}` is lost: this cell defines its type anew. Run the cell that makes `{name}` again."
        ),
        reminder: format!(
            "`{name}` was lost when a cell defined its type anew. Run the cell that makes `{name}` again."
        ),
    }
}

/// What to say to a cell that misses a variable which an earlier one used up.
pub(super) fn consumed(name: &str) -> Note {
    let text = format!(
        "`{name}` is gone because an earlier cell moved it. Run the cell that makes it again, and use `&{name}` or `{name}.clone()` \
         where it was moved."
    );
    Note {
        name: name.to_owned(),
        reminder: text.clone(),
        text,
    }
}

/// What to say to a cell that misses a variable which was lost when its cell was stopped by force.
pub(super) fn stopped(name: &str) -> Note {
    let text = format!(
        "`{name}` is gone because its cell was stopped in the middle of what it did with it. Run the cell that makes `{name}` again, \
         or `:replay`."
    );
    Note {
        name: name.to_owned(),
        reminder: text.clone(),
        text,
    }
}

/// What to say where a variable of the notebook is named and can't be seen.
pub(super) fn unseen(name: &str, ty: Option<&str>) -> String {
    let parameter = match ty {
        Some(ty) if passed_by_value(ty) => format!("`fn f({name}: {ty})`, called as `f({name})`"),
        Some(ty) => format!("`fn f({name}: &{ty})`, called as `f(&{name})`"),
        None => format!("`fn f({name}: …)`"),
    };
    format!(
        "`{name}` is a variable of the notebook; functions, constants and macros see no variables, only what they are given: {parameter}"
    )
}

/// Whether a value of this type is a number or reference, which nobody passes by reference.
fn passed_by_value(ty: &str) -> bool {
    ty.starts_with('&')
        || ["bool", "char", "f32", "f64"].contains(&ty)
        || ty
            .strip_prefix(['i', 'u'])
            .is_some_and(|bits| bits == "size" || bits.parse::<u8>().is_ok())
}

/// What to say of a call of a macro that makes items among statements.
pub(super) fn mixed(call: &str) -> Note {
    let text = format!(
        "what `{call}` defines ends with this cell: it makes items among statements. A macro that makes nothing but items serves later cells too."
    );
    Note {
        name: call.to_owned(),
        reminder: text.clone(),
        text,
    }
}
