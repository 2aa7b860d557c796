//! Statics that no item's text shows, because a macro makes them: what the compiled cell says of them.
//!
//! Each library has its own copy of them, so they begin anew in every cell, and the session says so.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::FUNCTION;
use super::types::CELL_CRATE;

/// What standard and well-known macros call statics that are no state of the user's.
const INTERNAL: [&str; 2] = ["__RUST_STD_INTERNAL_VAL", "VAL"];

/// The paths of statics of the cell's crate in a library whose data can change and that only this library sees. One that can't be
/// read tells nothing: it was made for the loader, which says what is wrong with it.
pub(super) fn statics(library: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(library).unwrap_or_default();
    symbols(&bytes).unwrap_or_default()
}

/// Section type: symbols of the linker, local ones too.
const SYMTAB: u64 = 2;
/// Symbol types: data, and data of threads.
const DATA: [u64; 2] = [1, 6];
/// Section flag: it can be written to.
const WRITABLE: u64 = 1;

/// Reads a 64-bit little-endian ELF file.
fn symbols(file: &[u8]) -> Option<BTreeSet<String>> {
    let number = |at: u64, length: usize| {
        let at = usize::try_from(at).ok()?;
        let bytes = file.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |all, byte| (all << 8) | u64::from(*byte)),
        )
    };
    let text = |at: u64| {
        let bytes = file.get(usize::try_from(at).ok()?..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(bytes.get(..end)?).ok()
    };
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size) = (number(0x28, 8)?, number(0x3a, 2)?);
    let section = |index: u64| table.checked_add(index.checked_mul(size)?);
    let place = |section: u64| number(section + 0x18, 8);
    let names = place(section(number(0x3e, 2)?)?)?;
    let mut found = BTreeSet::new();
    for index in 0..number(0x3c, 2)? {
        let header = section(index)?;
        if number(header + 4, 4)? != SYMTAB {
            continue;
        }
        let strings = place(section(number(header + 0x28, 4)?)?)?;
        let (begin, length) = (place(header)?, number(header + 0x20, 8)?);
        for entry in (begin..begin.checked_add(length)?).step_by(24) {
            if !DATA.contains(&(number(entry + 4, 1)? & 0xf)) {
                continue;
            }
            let Some(path) = text(strings + number(entry, 4)?).and_then(path) else {
                continue;
            };
            let home = section(number(entry + 6, 2)?)?;
            let name = text(names + number(home, 4)?)?;
            // Written to by the loader alone.
            let fixed = name.starts_with(".data.rel.ro");
            if number(home + 8, 8)? & WRITABLE != 0 && !fixed {
                found.insert(path);
            }
        }
    }
    Some(found)
}

/// Where the static of a symbol stands in the cell's items, as far as the user named it.
fn path(symbol: &str) -> Option<String> {
    if !symbol.contains(CELL_CRATE) {
        return None;
    }
    let path = format!("{:#}", rustc_demangle::try_demangle(symbol).ok()?);
    // <ctx::Counter as core::clone::Clone>::clone::N
    let own = [format!("{CELL_CRATE}::"), format!("<{CELL_CRATE}::")];
    // What stands in the cell's own code lives as long as its library, and nobody compiles it again.
    let of_cell = path.contains(FUNCTION) || path.ends_with("__CALLSITE");
    if of_cell || !own.iter().any(|own| path.starts_with(own)) {
        return None;
    }
    let path = path.replace(&own[0], "");
    let names = path
        .split("::")
        .filter(|name| !name.starts_with('{') && !INTERNAL.contains(name));
    Some(names.collect::<Vec<_>>().join("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_as_the_user_wrote_them() {
        for (symbol, told) in [
            ("_RNvNvCshBRvLwXohAg_3ctx1f1N", Some("f::N")),
            (
                "_RNvNvXs_CshBRvLwXohAg_3ctxNtB6_3FooNtNtCsgEmfK2I1SDS_4core5clone5Clone5clone1N",
                Some("<Foo as core::clone::Clone>::clone::N"),
            ),
            (
                "_RNvNCNKNvCshBRvLwXohAg_3ctx1X0s_023___RUST_STD_INTERNAL_VAL",
                Some("X"),
            ),
            ("_RNvNvCshBRvLwXohAg_3ctx21run_user_code_of_cell1N", None),
            ("glassbox_static_7_0_0_0", None),
        ] {
            assert_eq!(path(symbol).as_deref(), told, "{symbol}");
        }
    }
}
