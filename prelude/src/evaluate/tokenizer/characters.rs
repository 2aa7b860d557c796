//! What a character is to the tokenizer.

/// Classes of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Space,
    Letter,
    Digit,
    Apostrophe,
    /// A sign of its own.
    Sign,
    /// What the reference can't tokenize and leaves out.
    Dropped,
}

/// The class of a character.
pub(super) fn kind(c: char) -> Kind {
    match c {
        ' '
        | '\t'
        | '\n'
        | '\r'
        | '\u{b}'
        | '\u{c}'
        | '\u{85}'
        | '\u{a0}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{3000}' => Kind::Space,
        '\'' | '\u{92}' | '’' => Kind::Apostrophe,
        '0'..='9' => Kind::Digit,
        'a'..='z' | 'A'..='Z' => Kind::Letter,
        '!'..='~' => Kind::Sign,
        '\u{ad}' => Kind::Letter,
        // Pairs of surrogates in Java: emoji among them.
        '\u{10000}'.. => Kind::Dropped,
        '\0'..='\u{7f}'
        | '\u{81}'..='\u{84}'
        | '\u{86}'..='\u{90}'
        | '\u{95}'
        | '\u{98}'..='\u{9f}' => Kind::Dropped,
        // Superscript figures are signs, others that Unicode calls numbers have no place there.
        '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' => Kind::Sign,
        '\u{2150}'..='\u{2152}' | '\u{215f}'..='\u{218f}' => Kind::Dropped,
        '¼' | '½' | '¾' | '⅓'..='⅞' | '①'..='⓿' => Kind::Sign,
        '\u{200b}'..='\u{2012}'
        | '\u{2024}'
        | '\u{2025}'
        | '\u{2027}'
        | '\u{202a}'..='\u{202f}'
        | '\u{203c}'
        | '\u{203d}'
        | '\u{2043}'
        | '\u{2045}'..='\u{206f}'
        | '\u{20a1}'..='\u{20a3}'
        | '\u{20a5}'..='\u{20ab}'
        | '\u{20ad}'..='\u{20ff}' => Kind::Dropped,
        '\u{fe00}'..='\u{fe0f}' | '\u{1680}' | '\u{180e}' => Kind::Dropped,
        _ if c.is_alphabetic() || is_mark(c) => Kind::Letter,
        _ if c.is_numeric() => Kind::Digit,
        _ => Kind::Sign,
    }
}

/// Accents and vowel signs that stand above or below the letter before them.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{487}' | '\u{591}'..='\u{5bd}' | '\u{93c}' | '\u{94d}' | '\u{9cd}'
        | '\u{e47}'..='\u{e4e}')
}

pub(super) fn is_letter(c: char) -> bool {
    kind(c) == Kind::Letter
}

pub(super) fn is_digit(c: char) -> bool {
    kind(c) == Kind::Digit
}

pub(super) fn is_alphanumeric(c: char) -> bool {
    matches!(kind(c), Kind::Letter | Kind::Digit)
}

pub(super) fn is_apostrophe(c: char) -> bool {
    kind(c) == Kind::Apostrophe
}
