//! What the symbols of a cell's library say of the types of its variables.
//!
//! Each variable is put away by a function that was compiled for its type, and that function's symbol names the type with all
//! lifetimes that the type binds: `_RINv…4cell3putFG_RL0_eEBL0_eE` is `put::<for<'a> fn(&'a str) -> &'a str>`. It also tells the
//! type of one function from types that have names.

use std::fs;
use std::path::Path;

/// What stands before the type in the name of the function that puts a variable away.
const PUT: &str = "cell::put::<";

/// The type for which the function at `offset` in the library was compiled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// In the words of the symbol, see [`super::spelling`].
    Type(String),
    /// A function's own.
    Function,
}

/// Reads the symbol at `offset` in a library that was just linked. `None` if the library has none there.
pub(crate) fn put_at(library: &Path, offset: u64) -> Option<Put> {
    let bytes = fs::read(library).ok()?;
    put_of(&symbol_at(&bytes, offset)?)
}

fn put_of(symbol: &str) -> Option<Put> {
    // The namespace of values stands behind the function's name only if its argument is a function.
    let argument = symbol.split_once("4cell3put")?.1;
    if argument.starts_with("Nv") || argument.starts_with("INv") {
        return Some(Put::Function);
    }
    let text = format!("{:#}", rustc_demangle::try_demangle(symbol).ok()?);
    let ty = text.split_once(PUT)?.1.strip_suffix('>')?;
    Some(Put::Type(ty.to_owned()))
}

/// The name of the function at `offset`, from the library's table of symbols (ELF, 64 bits, little-endian).
fn symbol_at(bytes: &[u8], offset: u64) -> Option<String> {
    const SYMBOL_TABLE: u32 = 2;
    let number = |at: usize, length: usize| {
        let mut value = [0; 8];
        value[..length].copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
        Some(u64::from_le_bytes(value))
    };
    let place = |at: usize| usize::try_from(number(at, 8)?).ok();
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (headers, size, count) = (place(0x28)?, number(0x3a, 2)?, number(0x3c, 2)?);
    let header = |index: u64| headers.checked_add(usize::try_from(index * size).ok()?);
    let table = (0..count)
        .filter_map(header)
        .find(|&at| number(at + 4, 4) == Some(u64::from(SYMBOL_TABLE)))?;
    let names = place(header(number(table + 0x28, 4)?)? + 0x18)?;
    let symbols = bytes.get(place(table + 0x18)?..)?;
    let symbols = symbols.get(..place(table + 0x20)?)?;
    symbols.chunks_exact(24).find_map(|symbol| {
        let (name, value) = (
            symbol.first_chunk::<4>()?,
            symbol[8..16].first_chunk::<8>()?,
        );
        if u64::from_le_bytes(*value) != offset {
            return None;
        }
        let begin = names.checked_add(u32::from_le_bytes(*name) as usize)?;
        let name = bytes.get(begin..)?.split(|&byte| byte == 0).next()?;
        let name = std::str::from_utf8(name).ok()?;
        name.starts_with("_R").then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_names_its_type_with_the_lifetimes_that_it_binds() {
        let said = |text: &str| Some(Put::Type(text.to_owned()));
        for (symbol, ty) in [
            (
                "_RINvNtCsj6gjteTz5uu_1b4cell3putFG0_RL1_eRL0_eEjEB4_",
                said("for<'a, 'b> fn(&'a str, &'b str) -> usize"),
            ),
            (
                "_RINvNtCsj6gjteTz5uu_1b4cell3putFG_RL0_eRL0_eERL0_eEB4_",
                said("for<'a> fn(&'a str, &'a str) -> &'a str"),
            ),
            (
                "_RINvNtCsj6gjteTz5uu_1b4cell3putINtNtCslNYArtu3iFV_5alloc5boxed3BoxDG_INtNtNtCsgEmfK2I1SDS_4core3ops8function2FnTRL0_eEEp6OutputRL0_eNtNtB1c_6marker4SendEL_EEB4_",
                said(
                    "alloc::boxed::Box<dyn for<'a> core::ops::function::Fn<(&'a str,), Output = &'a str> + core::marker::Send>",
                ),
            ),
            (
                "_RINvNtCsj6gjteTz5uu_1b4cell3putINvB4_3genhEEB4_",
                Some(Put::Function),
            ),
            (
                "_RINvNtCsj6gjteTz5uu_1b4cell3putNvB4_6doubleEB4_",
                Some(Put::Function),
            ),
            ("_RNvCs1_3ctx6double", None),
            ("put", None),
        ] {
            assert_eq!(put_of(symbol), ty, "{symbol}");
        }
    }

    #[test]
    fn no_file_brings_it_down() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(symbol_at(&own, u64::MAX), None);
        for length in [0, 6, 40, 64, 1000] {
            assert_eq!(symbol_at(&own[..length], 8), None);
        }
    }
}
