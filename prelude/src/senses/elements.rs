//! The chemical elements: symbols, how many bonds each makes, and the colour in which it is drawn.

use std::fmt;

/// Symbols by atomic number, hydrogen first.
const SYMBOLS: [&str; 118] = [
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl",
    "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As",
    "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In",
    "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb",
    "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl",
    "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk",
    "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh",
    "Fl", "Mc", "Lv", "Ts", "Og",
];

/// A chemical element, by its atomic number.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let oxygen = Element::of_symbol("O");
/// assert_eq!(oxygen.map(Element::number), Some(8));
/// assert_eq!(oxygen, Element::of_number(8));
/// assert_eq!(Element::of_symbol("Xx"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(u8);

impl Element {
    /// Hydrogen.
    pub const H: Self = Self(1);
    /// Boron.
    pub const B: Self = Self(5);
    /// Carbon.
    pub const C: Self = Self(6);
    /// Nitrogen.
    pub const N: Self = Self(7);
    /// Oxygen.
    pub const O: Self = Self(8);
    /// Fluorine.
    pub const F: Self = Self(9);
    /// Silicon.
    pub const SI: Self = Self(14);
    /// Phosphorus.
    pub const P: Self = Self(15);
    /// Sulfur.
    pub const S: Self = Self(16);
    /// Chlorine.
    pub const CL: Self = Self(17);
    /// Arsenic.
    pub const AS: Self = Self(33);
    /// Selenium.
    pub const SE: Self = Self(34);
    /// Bromine.
    pub const BR: Self = Self(35);
    /// Tellurium.
    pub const TE: Self = Self(52);
    /// Iodine.
    pub const I: Self = Self(53);

    /// The element with this symbol, such as `Cl`; `None` if there is none.
    pub fn of_symbol(symbol: &str) -> Option<Self> {
        let at = SYMBOLS.iter().position(|known| *known == symbol)?;
        Self::of_number(at + 1)
    }

    /// The element with this atomic number; `None` if there is none.
    pub fn of_number(number: usize) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=118).contains(&number).then_some(Self(number))
    }

    /// Its symbol.
    pub fn symbol(self) -> &'static str {
        SYMBOLS[usize::from(self.0) - 1]
    }

    /// Its atomic number, from 1.
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    /// How many bonds it makes with this charge, smallest first: what hydrogens are counted by where nobody says how many there
    /// are. Empty for metals and others that carry none unasked.
    pub(super) fn valences(self, charge: i32) -> Vec<i32> {
        let bonds: &[i32] = match self {
            Self::H | Self::F | Self::CL | Self::BR | Self::I => &[1],
            Self::O => &[2],
            Self::S | Self::SE | Self::TE => &[2, 4, 6],
            Self::N => &[3],
            Self::P | Self::AS => &[3, 5],
            Self::C | Self::SI => &[4],
            Self::B => &[3],
            _ => &[],
        };
        // One electron less is one bond more right of carbon, one less at carbon and left of it: N⁺ has four, C⁺ and C⁻ three.
        let shift = match self {
            Self::H => -charge.abs(),
            Self::C | Self::SI => -charge.abs(),
            Self::B => -charge,
            _ => charge,
        };
        let moved = bonds.iter().map(|bonds| bonds + shift);
        moved.filter(|bonds| (0..=8).contains(bonds)).collect()
    }

    /// Row and column in the periodic table; the column is 19 for those that stand below it.
    pub(super) fn table_place(self) -> (usize, usize) {
        let number = self.number();
        let ends = [2, 10, 18, 36, 54, 86, 118];
        let period = 1 + ends.iter().filter(|end| number > **end).count();
        let last = ends[period - 1];
        let first = if period == 1 { 1 } else { ends[period - 2] + 1 };
        let column = match (number - first, last - number) {
            (_, 0) => 18,
            (before, _) if before < 2 => before + 1,
            (_, left) if left < 6 => 18 - left,
            // Long periods: lanthanum and actinium stand in column 3, the fourteen behind them below the table.
            (before, _) if period < 6 => before + 1,
            (2, _) => 3,
            (before, _) if before <= 16 => 19,
            (before, _) => before - 13,
        };
        (period, if number == 1 { 1 } else { column })
    }

    /// Electrons of the outer shell that may take part in bonds.
    pub(super) fn outer_electrons(self) -> i32 {
        match (self.number(), self.table_place().1) {
            (2, _) => 2,
            // Zinc, cadmium and mercury keep their ten inner ones.
            (_, 12) => 2,
            (number, 19) => number as i32 - if number < 72 { 54 } else { 86 },
            (_, column @ 13..) => column as i32 - 10,
            (_, column) => column as i32,
        }
    }

    /// Electrons without a partner in an atom of this charge whose bonds, hydrogens among them, have `pairs` electron pairs.
    pub(super) fn unpaired(self, charge: i32, pairs: i32) -> u32 {
        let (outer, (_, column)) = (self.outer_electrons(), self.table_place());
        if (3..=12).contains(&column) || column == 19 {
            // A metal with neighbours may be anything.
            return match pairs {
                0 => (outer - charge).max(0) as u32 % 2,
                _ => 0,
            };
        }
        let full = if self.number() <= 2 { 2 } else { 8 };
        let missing = match full - outer - pairs + charge {
            missing if missing >= 0 => missing,
            // More than an octet: what is missing to the next number of bonds that it makes.
            _ => {
                let more = self
                    .valences(0)
                    .into_iter()
                    .map(|bonds| bonds - pairs + charge);
                more.filter(|missing| *missing >= 0).min().unwrap_or(0)
            }
        };
        match outer - pairs - charge {
            left if left >= 0 => missing.min(left) as u32,
            _ => missing as u32,
        }
    }

    /// As most drawings of molecules have it.
    pub(super) fn colour(self) -> [u8; 3] {
        match self {
            Self::H => [150, 150, 150],
            Self::C => [70, 70, 70],
            Self::N => [48, 80, 248],
            Self::O => [217, 30, 24],
            Self::F | Self::CL => [31, 160, 31],
            Self::BR => [166, 41, 41],
            Self::I => [148, 0, 148],
            Self::P => [230, 115, 0],
            Self::S => [178, 140, 0],
            Self::B => [214, 130, 130],
            _ => [120, 90, 160],
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_symbols_are_those_of_the_table() {
        for (symbol, number) in [
            ("H", 1),
            ("C", 6),
            ("Cl", 17),
            ("Br", 35),
            ("I", 53),
            ("Au", 79),
            ("U", 92),
            ("Og", 118),
        ] {
            let element = Element::of_symbol(symbol);
            assert_eq!(element.map(Element::number), Some(number));
            assert_eq!(
                Element::of_number(number).map(Element::symbol),
                Some(symbol)
            );
        }
        assert_eq!(Element::of_number(0), None);
        assert_eq!(Element::of_number(119), None);
        assert_eq!(Element::of_symbol("Xx"), None);
    }

    #[test]
    fn charge_changes_how_many_bonds_there_are() {
        assert_eq!(Element::N.valences(1), [4]);
        assert_eq!(Element::O.valences(-1), [1]);
        assert_eq!(Element::C.valences(-1), [3]);
        assert_eq!(Element::B.valences(-1), [4]);
        assert_eq!(Element::CL.valences(-1), [0]);
        assert_eq!(Element::S.valences(0), [2, 4, 6]);
    }

    #[test]
    fn rows_and_columns_of_the_table_of_elements() {
        let known = [
            ("H", 1, 1),
            ("He", 1, 18),
            ("C", 2, 14),
            ("O", 2, 16),
            ("P", 3, 15),
            ("Na", 3, 1),
            ("Ti", 4, 4),
            ("Cu", 4, 11),
            ("Zn", 4, 12),
            ("Ga", 4, 13),
            ("Kr", 4, 18),
            ("Tc", 5, 7),
            ("Sn", 5, 14),
            ("Ba", 6, 2),
            ("La", 6, 3),
            ("Ce", 6, 19),
            ("Lu", 6, 19),
            ("Hf", 6, 4),
            ("Pt", 6, 10),
            ("Hg", 6, 12),
            ("Tl", 6, 13),
            ("At", 6, 17),
            ("Ac", 7, 3),
            ("U", 7, 19),
            ("Sg", 7, 6),
            ("Nh", 7, 13),
        ];
        for (symbol, period, group) in known {
            let element = Element::of_symbol(symbol);
            assert_eq!(
                element.map(Element::table_place),
                Some((period, group)),
                "{symbol}"
            );
        }
    }

    #[test]
    fn electrons_without_a_partner_are_counted() {
        let known = [
            ("C", 0, 4, 0),
            ("C", 0, 3, 1),
            ("C", 1, 3, 0),
            ("C", -1, 3, 0),
            ("C", 0, 0, 4),
            ("N", 0, 2, 1),
            ("O", 0, 0, 2),
            ("O", -1, 0, 1),
            ("Cl", 0, 0, 1),
            ("Cl", -1, 0, 0),
            ("Na", 1, 0, 0),
            ("S", 0, 6, 0),
            ("S", 0, 3, 1),
            ("H", 1, 0, 0),
            ("Cu", 2, 0, 1),
            ("Fe", 2, 0, 0),
        ];
        for (symbol, charge, pairs, unpaired) in known {
            let found = Element::of_symbol(symbol).map(|element| element.unpaired(charge, pairs));
            assert_eq!(found, Some(unpaired), "{symbol} {charge:+} {pairs}");
        }
    }
}
