//! What a token may be: each rule looks at a place and says how far it reaches; the longest wins, the earlier of two.

use super::abbreviations::{self, Abbreviation};
use super::characters::{Kind, is_alphanumeric, is_apostrophe, is_digit, is_letter, kind};

/// A token that a rule found.
pub(super) struct Found {
    /// Characters that the rule looked at, those that must follow counted in: what makes it the longest.
    span: usize,
    /// Characters that the token takes.
    pub taken: usize,
    /// What is written for it; `None` for nothing.
    pub token: Option<String>,
}

impl Found {
    fn written(length: usize, token: &str) -> Option<Found> {
        (length > 0).then(|| Found {
            span: length,
            taken: length,
            token: Some(token.to_string()),
        })
    }
}

/// The text from a place on.
#[derive(Clone, Copy)]
struct View<'a>(&'a [char]);

impl View<'_> {
    fn at(self, index: usize) -> Option<char> {
        self.0.get(index).copied()
    }

    fn is(self, index: usize, test: impl Fn(char) -> bool) -> bool {
        self.at(index).is_some_and(test)
    }

    /// How many characters from `start` on pass the test.
    fn run(self, start: usize, test: impl Fn(char) -> bool) -> usize {
        let rest = self.0.get(start..).unwrap_or_default();
        rest.iter().take_while(|c| test(**c)).count()
    }

    /// Whether these letters stand at `start`, in any case.
    fn says(self, start: usize, word: &str) -> bool {
        let mut index = start;
        word.chars().all(|wanted| {
            let there = match wanted {
                '\'' => self.is(index, is_apostrophe),
                _ => self.is(index, |c| c.eq_ignore_ascii_case(&wanted)),
            };
            index += 1;
            there
        })
    }

    fn plain(self, length: usize) -> Option<Found> {
        self.ahead(length, length)
    }

    /// A token of `taken` characters that are followed by what makes the rule reach over `span`.
    fn ahead(self, span: usize, taken: usize) -> Option<Found> {
        let token: String = self.0.get(..taken)?.iter().collect();
        (taken > 0).then_some(Found {
            span,
            taken,
            token: Some(token),
        })
    }

    fn text(self, from: usize, to: usize) -> String {
        self.0[from..to].iter().collect()
    }
}

type Rule = fn(View<'_>) -> Option<Found>;

/// In the order in which they win among those that reach as far.
const RULES: [Rule; 27] = [
    markup,
    dashes,
    split_words,
    before_not,
    before_ending,
    not,
    ending,
    address,
    mail,
    handle,
    word,
    whole_with_apostrophe,
    fraction,
    telephone,
    number,
    money,
    abbreviation,
    hyphenated,
    stop_before_comma,
    slashed,
    with_ampersand,
    file_name,
    smiley,
    entity,
    dots,
    repeated,
    one_sign,
];

/// The token at a place that is no white space.
pub(super) fn longest(text: &[char], at: usize) -> Found {
    let view = View(&text[at..]);
    let mut best: Option<Found> = None;
    for rule in RULES {
        if let Some(found) = rule(view)
            && best.as_ref().is_none_or(|best| found.span > best.span)
        {
            best = Some(found);
        }
    }
    best.unwrap_or(Found {
        span: 1,
        taken: 1,
        token: None,
    })
}

const SPLIT: [(&str, usize); 8] = [
    ("cannot", 3),
    ("gonna", 3),
    ("gotta", 3),
    ("lemme", 3),
    ("gimme", 3),
    ("wanna", 3),
    ("'tis", 2),
    ("'twas", 2),
];

/// Whether a word of letters is one that is split.
pub(super) fn is_split(word: &[char]) -> bool {
    let view = View(word);
    SPLIT
        .iter()
        .any(|(split, _)| split.len() == word.len() && view.says(0, split))
}

/// `<br>`, `</p>`, `<p class="x">`.
fn markup(text: View<'_>) -> Option<Found> {
    if text.at(0) != Some('<') {
        return None;
    }
    let end = 1 + text.run(1, |c| c != '>' && c != '\n');
    if text.at(end) != Some('>') {
        return None;
    }
    let inside = View(&text.0[1..end]);
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
    if inside.is(0, |c| matches!(c, '!' | '?')) {
        let begins = inside.is(1, |c| c.is_ascii_alphabetic() || c == '-');
        return begins.then(|| text.plain(end + 1))?;
    }
    let slash = usize::from(inside.at(0) == Some('/'));
    if !inside.is(slash, |c| c.is_ascii_alphabetic()) {
        return None;
    }
    let mut at = slash + inside.run(slash, name);
    if slash == 0 {
        at = attributes(inside, at)?;
    }
    at += inside.run(at, |c| c == ' ');
    // A space inside of a token does not part it.
    (at == inside.0.len())
        .then(|| Found::written(end + 1, &text.text(0, end + 1).replace(' ', "\u{a0}")))?
}

/// Behind a tag's name: names with or without values, and a slash at the end.
fn attributes(inside: View<'_>, mut at: usize) -> Option<usize> {
    loop {
        let space = inside.run(at, |c| c == ' ');
        if space == 0 || !inside.is(at + space, |c| c.is_ascii_alphabetic()) {
            at += space;
            return Some(at + usize::from(inside.at(at) == Some('/')));
        }
        at += space;
        at += inside.run(at, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-')
        });
        let equal = at + inside.run(at, |c| c == ' ');
        if inside.at(equal) == Some('=') {
            at = equal + 1;
            at += inside.run(at, |c| c == ' ');
            at += match inside.at(at)? {
                quote @ ('"' | '\'') => inside.run(at + 1, |c| c != quote) + 2,
                _ => inside.run(at, |c| {
                    c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-')
                }),
            };
        }
    }
}

/// Hyphens in a row, and the dashes of Unicode.
fn dashes(text: View<'_>) -> Option<Found> {
    match text.at(0)? {
        '–' | '—' | '―' | '\u{96}' | '\u{97}' => Found::written(1, "--"),
        '-' => match text.run(0, |c| c == '-') {
            count @ 2..=4 => Found::written(count, "--"),
            count => text.plain(count),
        },
        _ => None,
    }
}

/// `can|not`, `gon|na`, `'t|is`.
fn split_words(text: View<'_>) -> Option<Found> {
    let found = SPLIT
        .iter()
        .find(|(word, _)| text.says(0, word) && !text.is(word.chars().count(), is_alphanumeric));
    found.and_then(|(word, first)| text.ahead(word.chars().count() + 1, *first))
}

/// Letters and figures that begin with a letter.
fn letters(text: View<'_>, start: usize) -> usize {
    match text.is(start, is_letter) {
        true => text.run(start, is_alphanumeric),
        false => 0,
    }
}

/// A word, also where a full stop or an exclamation mark stands in it: "the man.the woman".
fn word_length(text: View<'_>) -> usize {
    let mut length = letters(text, 0);
    while length > 0 && text.is(length, |c| matches!(c, '.' | '!' | '?')) {
        match letters(text, length + 1) {
            0 => break,
            more => length += 1 + more,
        }
    }
    length
}

fn word(text: View<'_>) -> Option<Found> {
    text.plain(word_length(text))
}

/// `does` before `n't`.
fn before_not(text: View<'_>) -> Option<Found> {
    let length = text.run(0, |c| c.is_ascii_alphabetic());
    let not = length > 1
        && text.says(length - 1, "n't")
        && !text.is(length - 2, |c| c.eq_ignore_ascii_case(&'n'));
    not.then(|| text.ahead(length + 2, length - 1))?
}

const ENDINGS: [&str; 6] = ["'m", "'s", "'d", "'re", "'ve", "'ll"];

/// `dog` before `'s`.
fn before_ending(text: View<'_>) -> Option<Found> {
    let length = word_length(text);
    let ending = ENDINGS.iter().find(|ending| text.says(length, ending))?;
    text.ahead(length + ending.len(), length)
}

fn not(text: View<'_>) -> Option<Found> {
    let length = 3 + text.run(3, |c| c.is_ascii_alphabetic());
    text.says(0, "n't")
        .then(|| Found::written(length, &format!("{}'{}", text.0[0], text.text(2, length))))?
}

/// `'s` where no letter follows.
fn ending(text: View<'_>) -> Option<Found> {
    let ending = ENDINGS.iter().find(|ending| {
        text.says(0, ending) && !text.is(ending.len(), |c| c.is_ascii_alphabetic())
    })?;
    let found = Found::written(ending.len(), &format!("'{}", text.text(1, ending.len())))?;
    Some(Found {
        span: found.span + 1,
        ..found
    })
}

/// Words that hold an apostrophe and stay whole.
fn whole_with_apostrophe(text: View<'_>) -> Option<Found> {
    const WORDS: [&str; 20] = [
        "'n'",
        "'n",
        "l'",
        "d'",
        "j'",
        "dunkin'",
        "somethin'",
        "ol'",
        "'em",
        "c'mon",
        "'till",
        "'til",
        "'cause",
        "'twere",
        "nor'easter",
        "e'er",
        "s'mores",
        "ev'ry",
        "li'l",
        "nat'l",
    ];
    let known = WORDS.iter().filter(|word| {
        text.says(0, word)
            && (**word != "'n" || text.0.get(2).is_none_or(|c| kind(*c) == Kind::Space))
    });
    let mut length = known.map(|word| word.len()).max().unwrap_or(0);
    if text.says(0, "y'") && text.is(2, is_letter) {
        length = length.max(2);
    }
    // Years: '60s, and '60 where the text goes on behind white space.
    if text.is(0, is_apostrophe) {
        let figures = text.run(1, |c| c.is_ascii_digit());
        if figures == 2
            && text.at(2) == Some('0')
            && text.is(3, |c| c == 's')
            && text.is(1, |c| c >= '2')
        {
            length = length.max(4);
        } else if figures == 2 && text.0.get(3).is_none_or(|c| kind(*c) == Kind::Space) {
            return text.ahead(4, 3);
        }
    }
    // ma'am, Hawai'i: a vowel, and behind the apostrophe a vowel or a capital.
    let first = text.run(0, is_letter);
    let vowel = |c: char| "aeiou".contains(c);
    if first > 1
        && text.is(first - 1, |c| {
            vowel(c.to_ascii_lowercase()) || c.eq_ignore_ascii_case(&'y')
        })
        && text.is(first, is_apostrophe)
        && text.is(first + 1, |c| vowel(c) || c.is_ascii_uppercase())
    {
        length = length.max(first + 1 + text.run(first + 1, is_letter));
    }
    text.plain(length)
}

/// Letters and figures joined by hyphens, with O' and d' in front of a part; also A.B.-c and 1,000-seat.
fn hyphenated(text: View<'_>) -> Option<Found> {
    text.plain(hyphenated_length(text))
}

/// A word keeps a full stop where a comma, a colon or a semicolon follows: it must be an abbreviation.
fn stop_before_comma(text: View<'_>) -> Option<Found> {
    let length = word_length(text).max(hyphenated_length(text));
    let abbreviated = length > 0
        && text.at(length) == Some('.')
        && text.is(length + 1, |c| matches!(c, ',' | ';' | ':' | '、'));
    abbreviated.then(|| text.ahead(length + 2, length + 1))?
}

fn hyphenated_length(text: View<'_>) -> usize {
    let part = |start: usize| {
        let prefix = text.is(start, |c| "dDoOlL".contains(c))
            && text.is(start + 1, |c| is_apostrophe(c) || c == '`' || c == '‘')
            && text.is(start + 2, is_alphanumeric);
        let from = if prefix { start + 2 } else { start };
        match text.run(from, is_alphanumeric) {
            0 => 0,
            length => from + length - start,
        }
    };
    let mut length = part(0);
    while length > 0 && text.is(length, |c| c == '-' || c == '_') {
        match part(length + 1) {
            0 => break,
            more => length += 1 + more,
        }
    }
    let ascii = |c: char| c.is_ascii_alphanumeric();
    let mut other = match text.is(0, ascii) {
        true => text.run(0, |c| ascii(c) || c == '.' || c == ','),
        false => 0,
    };
    let mut parts = 0;
    while other > 0 && text.at(other) == Some('-') {
        let more = match acronym_length(View(&text.0[other + 1..])) {
            acronym if acronym > 1 && text.at(other + 1 + acronym) == Some('.') => acronym + 1,
            _ => text.run(other + 1, ascii),
        };
        if more == 0 {
            break;
        }
        other += 1 + more;
        parts += 1;
    }
    if parts > 0 { length.max(other) } else { length }
}

/// `cat/dog`, `24/7`: up to three parts.
fn slashed(text: View<'_>) -> Option<Found> {
    let part = |start: usize| {
        let mut length = text.run(start, |c| c.is_ascii_alphanumeric());
        for _ in 0..2 {
            if length == 0 || text.at(start + length) != Some('-') {
                break;
            }
            match text.run(start + length + 1, |c| c.is_ascii_alphabetic()) {
                0 => break,
                more => length += 1 + more,
            }
        }
        length
    };
    let mut length = part(0);
    if length == 0 {
        return None;
    }
    let mut parts = 1;
    while parts < 3 && text.at(length) == Some('/') {
        match part(length + 1) {
            0 => break,
            more => length += 1 + more,
        }
        parts += 1;
    }
    (parts > 1).then(|| text.plain(length))?
}

/// `-5`, `1,000.50`, `12:30`, `.5`.
fn number(text: View<'_>) -> Option<Found> {
    let sign = usize::from(text.is(0, |c| c == '-' || c == '+'));
    let mut length = text.run(sign, is_digit);
    while text.is(sign + length, |c| {
        matches!(c, '.' | ':' | ',' | '\u{ad}' | '٫' | '٬')
    }) {
        match text.run(sign + length + 1, is_digit) {
            0 => break,
            more => length += 1 + more,
        }
    }
    if length == 0 {
        let small = |c: char| matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉');
        return text.plain(text.run(0, small));
    }
    text.plain(sign + length)
}

/// `1/2`, `1 1/2` (one token with a space that does not part), `½`, and dates.
fn fraction(text: View<'_>) -> Option<Found> {
    let single = match text.at(0)? {
        '½' => "1/2",
        '¼' => "1/4",
        '¾' => "3/4",
        '⅓' => "1/3",
        '⅔' => "2/3",
        _ => "",
    };
    if !single.is_empty() {
        return Found::written(1, single);
    }
    let digits = |start: usize| text.run(start, is_digit);
    let simple = |start: usize| {
        let (above, below) = (digits(start), digits(start + digits(start) + 1));
        let bar = text.is(start + above, |c| c == '/' || c == '⁄');
        ((1..=4).contains(&above) && bar && below > 0).then(|| above + 1 + below.min(4))
    };
    let whole = digits(0);
    let mut best = simple(0).unwrap_or(0);
    if (1..=4).contains(&whole)
        && text.is(whole, |c| matches!(c, '-' | ' ' | '\u{a0}'))
        && let Some(length) = simple(whole + 1)
    {
        best = best.max(whole + 1 + length);
    }
    // A date: 12/25/2012, 12-25-12.
    let separated = |start: usize, most: usize| {
        let count = digits(start);
        let bar = text.is(start + count, |c| c == '-' || c == '/');
        ((1..=most).contains(&count) && bar).then_some(start + count + 1)
    };
    if let Some(year) = separated(0, 2).and_then(|month| separated(month, 2))
        && digits(year) >= 2
    {
        best = best.max(year + digits(year).min(4));
    }
    (best > 0).then(|| Found::written(best, &text.text(0, best).replace(' ', "\u{a0}")))?
}

/// `555-1234`, `(555) 123-4567`, `555.123.4567`.
fn telephone(text: View<'_>) -> Option<Found> {
    let digits = |start: usize| text.run(start, |c| c.is_ascii_digit());
    let mut start = 0;
    let mut bracketed = false;
    if text.at(0) == Some('(')
        && (2..=3).contains(&digits(1))
        && text.at(1 + digits(1)) == Some(')')
    {
        start = 2 + digits(1);
        start += usize::from(text.at(start) == Some(' '));
        bracketed = true;
    }
    let mut groups = Vec::new();
    let mut at = start;
    loop {
        let count = digits(at);
        if count == 0 {
            break;
        }
        at += count;
        groups.push((count, at));
        if !text.is(at, |c| matches!(c, '-' | ' ')) {
            break;
        }
        at += 1;
    }
    let fits = |groups: &[(usize, usize)]| match groups {
        [(middle, _), (last, _)] if bracketed => (3..=4).contains(middle) && (3..=5).contains(last),
        [(first, _), (middle, _), (last, _)] if !bracketed => {
            (2..=4).contains(first) && (3..=4).contains(middle) && (3..=5).contains(last)
        }
        [(first, _), (second, _), (middle, _), (last, _)] if !bracketed => {
            (2..=4).contains(first)
                && (2..=4).contains(second)
                && (3..=4).contains(middle)
                && (3..=5).contains(last)
        }
        _ => false,
    };
    let count = (2..=4)
        .rev()
        .find(|count| groups.get(..*count).is_some_and(fits))?;
    let end = groups[count - 1].1;
    let written = text.text(0, end);
    let written = written
        .replace(' ', "\u{a0}")
        .replace('(', "-lrb-")
        .replace(')', "-rrb-");
    Found::written(end, &written)
}

/// Signs of money, with letters of a country in front of a dollar.
fn money(text: View<'_>) -> Option<Found> {
    let country = text.run(0, |c| c.is_ascii_uppercase());
    if text.at(country) == Some('$') {
        return text.plain(country + 1);
    }
    if text.says(0, "c#") || text.says(0, "f#") {
        return text.plain(2); // languages
    }
    match text.at(0)? {
        '€' | '¤' | '\u{80}' | '\u{20a0}' => Found::written(1, "$"),
        '£' => Found::written(1, "#"),
        '¢' => Found::written(1, "cents"),
        _ => None,
    }
}

/// Letters with full stops between them, none behind the last.
fn acronym_length(text: View<'_>) -> usize {
    let letter = |at: usize| text.is(at, |c| c.is_ascii_alphabetic());
    let mut length = usize::from(letter(0));
    while length > 0 && text.at(length) == Some('.') && letter(length + 1) {
        length += 2;
    }
    length
}

/// `U.S.`, `a.`, `Mr.`, `no.` before a figure, `Ph.D.`
fn abbreviation(text: View<'_>) -> Option<Found> {
    let acronym = acronym_length(text);
    if acronym > 0 && text.at(acronym) == Some('.') {
        return text.plain(acronym + 1);
    }
    let length = text.run(0, |c| c.is_ascii_alphabetic());
    // Two more characters, one of which may be the end of the line.
    let other = |length: usize| {
        let span = if text.0.len() > length {
            length + 2
        } else {
            length
        };
        text.ahead(span, length)
    };
    if text.says(0, "ph.d.") || text.says(0, "ed.d.") {
        return other(5);
    }
    if length == 0 || text.at(length) != Some('.') {
        return None;
    }
    match abbreviations::of(&text.0[..length]) {
        Abbreviation::Title => text.plain(length + 1),
        Abbreviation::Other => other(length + 1),
        Abbreviation::BeforeFigure => {
            let space = usize::from(text.at(length + 1) == Some(' '));
            let figure = text.is(length + 1 + space, is_digit);
            figure.then(|| text.ahead(length + 2 + space, length + 1))?
        }
        Abbreviation::Never => None,
    }
}

/// `AT&T`, `R&D`: capitals.
fn with_ampersand(text: View<'_>) -> Option<Found> {
    let capitals = |start: usize| text.run(start, |c| c.is_ascii_uppercase());
    let mut length = capitals(0);
    if length == 0 {
        return None;
    }
    let mut parts = 1;
    while text.is(length, |c| c == '&' || c == '+') && capitals(length + 1) > 0 {
        length += 1 + capitals(length + 1);
        parts += 1;
    }
    (parts > 1).then(|| text.plain(length))?
}

/// `12.jpg`.
fn file_name(text: View<'_>) -> Option<Found> {
    const ENDINGS: &str = " bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py \
        sql tar txt wav xml zip wmv ";
    let mut at = text.run(0, is_alphanumeric);
    let mut best = 0;
    while at > 0 && text.is(at, |c| matches!(c, '.' | '_' | '-')) {
        let more = text.run(at + 1, is_alphanumeric);
        let ending = text.text(at + 1, at + 1 + more).to_lowercase();
        if text.at(at) == Some('.') && ENDINGS.contains(&format!(" {ending} ")) && more > 0 {
            best = at + 1 + more;
        }
        if more == 0 {
            break;
        }
        at += 1 + more;
    }
    text.plain(best)
}

/// `https://a.b/c`, `www.a.com`, `a.org`.
fn address(text: View<'_>) -> Option<Found> {
    let inside = |c: char| !c.is_whitespace() && !matches!(c, '"' | '<' | '>' | '|' | '(' | ')');
    let last = |c: char| inside(c) && !matches!(c, '.' | '!' | '?' | '{' | '}' | ',' | '-');
    // As far as a run reaches that ends in a character that may be the last.
    let reach = |start: usize| {
        let length = text.run(start, inside);
        (0..length)
            .rev()
            .find(|at| last(text.0[start + at]))
            .map(|at| start + at + 1)
    };
    for scheme in ["http://", "https://"] {
        if text.says(0, scheme)
            && let Some(end) = reach(scheme.len())
            && end > scheme.len() + 1
        {
            return text.plain(end);
        }
    }
    let name = |c: char| {
        inside(c)
            && !matches!(
                c,
                '.' | '!' | '?' | '{' | '}' | ',' | '`' | '\'' | '-' | '_' | '$' | '/'
            )
    };
    let www = text.says(0, "www.");
    let (mut at, mut end) = (0, 0);
    loop {
        let length = text.run(at, |c| {
            name(c) || (www && matches!(c, '-' | '_' | '$' | '/'))
        });
        if length == 0 {
            break;
        }
        let label = text.text(at, at + length).to_lowercase();
        let top = ["com", "net", "org", "edu"]
            .iter()
            .find(|top| label.starts_with(*top));
        if at > 0 {
            let letters = text.run(at, |c| c.is_ascii_alphabetic());
            match top {
                _ if www && at > 4 && letters >= 2 => end = at + letters.min(4),
                Some(top) if !www => end = at + top.len(),
                _ => {}
            }
        }
        at += length;
        if text.at(at) != Some('.') {
            break;
        }
        at += 1;
    }
    if end > 0
        && text.at(end) == Some('/')
        && let Some(further) = reach(end + 1)
        && further > end + 2
    {
        end = further;
    }
    text.plain(end)
}

/// `a@b.com`.
fn mail(text: View<'_>) -> Option<Found> {
    let inside =
        |c: char| !c.is_whitespace() && !matches!(c, '"' | '<' | '>' | '|' | '(' | ')' | '{' | '}');
    if !text.is(0, |c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let run = text.run(0, inside);
    let at = (1..run).rev().find(|at| text.0[*at] == '@')?;
    let label = |c: char| inside(c) && c != '.';
    let mut end = at + 1 + text.run(at + 1, label);
    if end == at + 1 {
        return None;
    }
    while text.at(end) == Some('.') && text.is(end + 1, label) {
        end += 1 + text.run(end + 1, label);
    }
    text.plain(end)
}

/// `@name`, `#word`.
fn handle(text: View<'_>) -> Option<Found> {
    let ascii = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.at(0)? {
        '@' if text.is(1, |c| c.is_ascii_alphabetic() || c == '_') => {
            text.plain(1 + text.run(1, ascii))
        }
        '#' if text.is(1, is_letter) => text.plain(1 + text.run(1, is_letter)),
        _ => None,
    }
}

/// `:)`, `;-(`, `=D`.
fn smiley(text: View<'_>) -> Option<Found> {
    if text.says(0, "^_^") {
        return text.plain(3);
    }
    let hat = usize::from(text.is(0, |c| c == '<' || c == '>'));
    if !text.is(hat, |c| matches!(c, ':' | ';' | '=')) {
        return None;
    }
    let nose = usize::from(text.is(hat + 1, |c| matches!(c, '-' | 'o' | '*' | '\'')));
    let mouth = |at: usize| {
        text.is(at, |c| {
            matches!(
                c,
                '(' | ')' | 'D' | 'P' | 'd' | 'p' | 'O' | '\\' | '{' | '@' | '|' | '[' | ']' | '3'
            )
        })
    };
    let end = [hat + 1 + nose, hat + 1]
        .into_iter()
        .find(|at| mouth(*at))?;
    let follows = text.at(end + 1);
    if follows.is_some_and(is_alphanumeric) {
        return None;
    }
    let written = text.text(0, end + 1);
    let brackets = [
        ("(", "-lrb-"),
        (")", "-rrb-"),
        ("[", "-lsb-"),
        ("]", "-rsb-"),
        ("{", "-lcb-"),
    ];
    let written = brackets
        .iter()
        .fold(written, |text, (from, to)| text.replace(from, to));
    Found::written(end + 1, &written)
}

/// `&amp;` and its kind.
fn entity(text: View<'_>) -> Option<Found> {
    for (name, written) in [
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "''"),
        ("&apos;", "'"),
    ] {
        if text.says(0, name) {
            return Found::written(name.len(), written);
        }
    }
    text.says(0, "&nbsp;").then_some(Found {
        span: 6,
        taken: 6,
        token: None,
    })
}

/// Dots: three to five in a row or three apart are one token.
fn dots(text: View<'_>) -> Option<Found> {
    if text.at(0) == Some('…') {
        return Found::written(1, "...");
    }
    let count = text.run(0, |c| c == '.');
    if count >= 3 {
        return Found::written(count.min(5), "...");
    }
    if text.says(0, ". . .") {
        return Found::written(5, "...");
    }
    (count > 0).then(|| Found::written(1, "."))?
}

/// Marks that stand together: `?!`, `**`, `___`, `##`, `''`, `<<`.
fn repeated(text: View<'_>) -> Option<Found> {
    match text.at(0)? {
        '!' | '?' => text.plain(text.run(0, |c| c == '!' || c == '?')),
        sign @ ('*' | '_' | '#' | '@') => text.plain(text.run(0, |c| c == sign)),
        '<' if text.at(1) == Some('<') => text.plain(2),
        '>' if text.at(1) == Some('>') => text.plain(2),
        '\'' if text.at(1) == Some('\'') => Found::written(2, "''"),
        '`' if text.at(1) == Some('`') => Found::written(2, "``"),
        _ => None,
    }
}

/// One sign, as it is written in the end.
fn one_sign(text: View<'_>) -> Option<Found> {
    let c = text.at(0)?;
    let written = match c {
        '(' => "-lrb-",
        ')' => "-rrb-",
        '[' => "-lsb-",
        ']' => "-rsb-",
        '{' => "-lcb-",
        '}' => "-rcb-",
        '"' | '”' | '»' | '\u{94}' => "''",
        '“' | '«' | '\u{93}' => "``",
        '‘' | '‛' | '‹' | '`' | '\u{91}' => "`",
        '\'' | '’' | '›' | '\u{92}' => "'",
        _ => return text.plain(1),
    };
    Found::written(1, written)
}
