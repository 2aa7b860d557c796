//! Cursor positions: Jupyter counts Unicode code points, Rust counts bytes.

/// The byte offset of the `points`-th code point; the end of `code` if there are fewer.
pub fn to_bytes(code: &str, points: usize) -> usize {
    code.char_indices()
        .nth(points)
        .map_or(code.len(), |(byte, _)| byte)
}

/// How many code points begin before `byte` (any offset, also inside a character or beyond the end).
pub fn to_points(code: &str, byte: usize) -> usize {
    code.char_indices().take_while(|(at, _)| *at < byte).count()
}

#[cfg(test)]
mod tests {
    use super::{to_bytes, to_points};

    #[test]
    fn code_points_are_not_bytes_nor_graphemes() {
        let code = "é😀a\u{301}x"; // 2 + 4 + 1 + 2 + 1 bytes, 5 code points, 4 graphemes
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(|p| to_bytes(code, p)),
            [0, 2, 6, 7, 9, 10, 10]
        );
        assert_eq!(
            [0, 2, 6, 7, 9, 10, 99].map(|b| to_points(code, b)),
            [0, 1, 2, 3, 4, 5, 5]
        );
    }
}
