//! Words that keep the full stop behind them.

/// Whatever follows: titles and their kind.
const TITLES: &str = " adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft \
    gen gov govs hon insp invt jos lieut lt maj messrs mfg mlle mme mr mrs ms msgr mt mtg natl pfc ph pres prof profs pvt rep \
    reps rev sen sens sfc sgt spc st ste supt supts treas vs wm ";
/// Words that no name follows as a rule: with two more characters behind them they go before longer words.
const OTHERS: &str = " al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc \
    ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc \
    ppte ppty pte ptes pty ptys rd rt sep sept seq sq sr sys tel tenn thu tue tues univ va vt wed wis wisc wyo ";
/// The same, with a capital at the beginning only: "a tub of ore." is a sentence's end.
const CAPITAL: &str = " ark az del ill la mass miss ore pa tex wash ";
/// Before a figure only: "no. 5".
const BEFORE_FIGURE: &str = " art ca fig figs no nos op pp prop ";

/// How a word and a full stop belong together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Abbreviation {
    Title,
    Other,
    BeforeFigure,
    Never,
}

/// Looks up a word of ASCII letters.
pub(super) fn of(word: &[char]) -> Abbreviation {
    let lower: String = word.iter().map(char::to_ascii_lowercase).collect();
    let among = |list: &str| list.contains(&format!(" {lower} "));
    if among(TITLES) {
        Abbreviation::Title
    } else if among(OTHERS) || (word[0].is_ascii_uppercase() && among(CAPITAL)) {
        Abbreviation::Other
    } else if among(BEFORE_FIGURE) {
        Abbreviation::BeforeFigure
    } else {
        Abbreviation::Never
    }
}
