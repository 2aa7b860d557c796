//! What is said of variables that later cells will not have: why, and what to do, in one line.

use super::types::Nameless;

/// What to say of a variable that cannot be kept.
pub(super) fn not_kept(name: &str, why: Nameless) -> String {
    match why {
        Nameless::Closure => format!(
            "`{name}` is not kept for later cells: it holds a closure, whose type has no name. In a box it is kept: let {name}: Box<dyn Fn(…) -> …> = Box::new(…);"
        ),
        Nameless::Future => format!(
            "`{name}` is not kept for later cells: it holds a future, whose type has no name. Await it in this cell, or box it."
        ),
    }
}

/// What to say of a variable that borrows from another.
pub(super) fn borrows(name: &str) -> String {
    format!(
        "`{name}` is not kept for later cells: it borrows from another value. A copy is kept: `.clone()`, `.to_owned()`, `.to_vec()`."
    )
}

/// What to say of a variable whose type later cells cannot write.
pub(super) fn unwritable(name: &str, type_name: &str) -> String {
    format!(
        "`{name}` is not kept for later cells: its type, {type_name}, cannot be named in code. Give it one that can, such as `let f: fn(…) -> … = …;` for a function."
    )
}

/// What to say of a variable whose type a cell defines anew.
pub(super) fn redefined(name: &str) -> String {
    format!(
        "`{name}` is lost: this cell defines its type anew. Run the cell that makes `{name}` again."
    )
}
