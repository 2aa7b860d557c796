//! The pages of cells' libraries: where the code is, and how to hold no more of it in memory than is used.
//!
//! Libraries stay loaded when their cells have run, but code and constants are pages of their files. The system reads them again
//! when something in the library is called or looked at, so that a session holds the pages of what it uses, not of every cell that ever
//! ran.

use std::ffi::c_void;
use std::ops::Range;

/// The code and constants of the libraries of all cells.
#[derive(Default)]
pub(crate) struct Pages(Vec<Vec<Range<usize>>>);

impl Pages {
    /// Notes the library that `function`, which is loaded, is in. Returns where its code is; nowhere, if that is not known.
    pub(crate) fn note(&mut self, function: *const c_void) -> Range<usize> {
        let parts = parts(function).unwrap_or_default();
        let unwritten = parts.iter().filter(|part| part.flags & libc::PF_W == 0);
        self.0
            .push(unwritten.map(|part| part.range.clone()).collect());
        parts
            .into_iter()
            .map(|part| part.range)
            .find(|range| range.contains(&(function as usize)))
            .unwrap_or_default()
    }

    /// Hands the pages of the newest library, or of all, back to the system, which has them in the file.
    pub(crate) fn give_back(&self, all: bool) {
        // Looking at one page of a small library brings in all, so none must be looked at for this.
        let older = if all {
            0
        } else {
            self.0.len().saturating_sub(1)
        };
        for pages in self.0.iter().skip(older).flatten() {
            // A system that won't keeps them in memory.
            // SAFETY: the range is that of a library, none of which is ever unloaded, and holds what its file does: nobody writes to it but
            // a debugger, which loses a breakpoint.
            unsafe { libc::madvise(pages.start as *mut c_void, pages.len(), libc::MADV_DONTNEED) };
        }
    }
}

/// A part of a library as it is in memory, in whole pages.
struct Part {
    range: Range<usize>,
    /// Whether it may be written to, and executed.
    flags: u32,
}

/// The parts of the library around an address.
fn parts(function: *const c_void) -> Option<Vec<Part>> {
    // SAFETY: all bytes zero are a valid value, which the call fills.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the call only reads the loader's tables.
    if unsafe { libc::dladdr(function, &raw mut found) } == 0 || found.dli_fbase.is_null() {
        return None;
    }
    let base = found.dli_fbase.cast::<u8>();
    // SAFETY: a library begins with its header, in its first segment.
    let header = unsafe { &*base.cast::<libc::Elf64_Ehdr>() };
    if header.e_ident.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    // SAFETY: the loader has read so many headers from this place in the first segment.
    let headers = unsafe {
        let first = base.add(usize::try_from(header.e_phoff).ok()?);
        std::slice::from_raw_parts(first.cast::<libc::Elf64_Phdr>(), header.e_phnum.into())
    };
    // SAFETY: no memory is involved.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let loaded = headers
        .iter()
        .filter(|segment| segment.p_type == libc::PT_LOAD);
    let part = |segment: &libc::Elf64_Phdr| {
        let start = base as usize + usize::try_from(segment.p_vaddr).ok()?;
        let end = start + usize::try_from(segment.p_memsz).ok()?;
        Some(Part {
            range: start / page * page..end.next_multiple_of(page),
            flags: segment.p_flags,
        })
    };
    loaded.map(part).collect()
}
