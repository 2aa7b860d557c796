//! On which sides of double bonds neighbours lie: what a reader found of one neighbour at each end → E or Z.
//!
//! ```text
//! F/C=C/F, coordinates ─► Sides (one neighbour at each end, same side or not) ─► which neighbour comes first at each end ─► E, Z
//! ```
//! Which comes first is what Cahn, Ingold and Prelog's rule says of atoms near and then farther: heavier elements, then their neighbours, a
//! double bond counted twice, and at last the sides of other double bonds, Z before E. Atoms are ranked all at once and the ranks refined,
//! as RDKit does; where that leaves two neighbours equal (they differ in how atoms turn, or not at all), the bond has no side.

use std::collections::{HashMap, VecDeque};

use super::molecule::{BondOrder, BondStereo, Molecule};

/// In a smaller ring there is only one way for a double bond.
const SMALLEST_RING: usize = 8;

/// One neighbour at each end of a double bond, and whether they lie on the same side of it.
pub(super) struct Sides {
    pub bond: usize,
    /// Beside the bond's `from`, and beside its `to`.
    pub beside: [usize; 2],
    pub same: bool,
}

impl Molecule {
    /// Sets E and Z where a bond can have sides.
    pub(super) fn set_sides(&mut self, sides: &[Sides]) {
        if sides.is_empty() {
            return;
        }
        let neighbours = self.neighbours();
        let mut left: Vec<&Sides> = sides
            .iter()
            .filter(|side| self.may_have_sides(side.bond))
            .collect();
        // A side that is known may tell the neighbours of another bond apart.
        loop {
            let ranks = ranks(self, &neighbours);
            let before = left.len();
            left.retain(|side| !self.set_side(side, &neighbours, &ranks));
            if left.is_empty() || left.len() == before {
                break;
            }
        }
    }

    fn may_have_sides(&self, bond: usize) -> bool {
        let bond = self.bonds[bond];
        let small = self.rings.iter().any(|ring| {
            ring.len() < SMALLEST_RING && ring.contains(&bond.from) && ring.contains(&bond.to)
        });
        bond.order == BondOrder::Double && !small
    }

    fn set_side(
        &mut self,
        side: &Sides,
        neighbours: &[Vec<(usize, usize)>],
        ranks: &[usize],
    ) -> bool {
        let bond = self.bonds[side.bond];
        let a = self.first_beside(bond.from, bond.to, &neighbours[bond.from], ranks);
        let b = self.first_beside(bond.to, bond.from, &neighbours[bond.to], ranks);
        let (Some(a), Some(b)) = (a, b) else {
            return false;
        };
        let as_seen = (a == side.beside[0]) == (b == side.beside[1]);
        self.bonds[side.bond].stereo = Some(match side.same == as_seen {
            true => BondStereo::Z,
            false => BondStereo::E,
        });
        true
    }

    /// The marks `/` and `\` that write the sides: for single bonds beside double ones, whether the bond's `to` lies above its `from`.
    pub(super) fn slopes(&self) -> HashMap<usize, bool> {
        let mut slopes = HashMap::new();
        if self.bonds.iter().all(|bond| bond.stereo.is_none()) {
            return slopes;
        }
        let neighbours = self.neighbours();
        let ranks = ranks(self, &neighbours);
        let mut done = vec![false; self.bonds.len()];
        for first in 0..self.bonds.len() {
            // Bonds that share a mark one after the other, so that each has one end free when its turn comes.
            let mut waiting = VecDeque::from([first]);
            while let Some(number) = waiting.pop_front() {
                let bond = self.bonds[number];
                let Some(stereo) = bond
                    .stereo
                    .filter(|_| !std::mem::replace(&mut done[number], true))
                else {
                    continue;
                };
                let ends = [(bond.from, bond.to), (bond.to, bond.from)];
                let first =
                    ends.map(|(end, over)| self.first_beside(end, over, &neighbours[end], &ranks));
                let [Some(a), Some(b)] = first else { continue };
                let known = [(ends[0], a), (ends[1], b)].map(|((end, over), first)| {
                    self.is_above(end, over, first, &neighbours[end], &slopes)
                });
                let above = match known {
                    [Some(a), Some(b)] => [a, b],
                    [Some(a), None] => [a, a == (stereo == BondStereo::Z)],
                    [None, Some(b)] => [b == (stereo == BondStereo::Z), b],
                    [None, None] => [true, stereo == BondStereo::Z],
                };
                if (above[0] == above[1]) != (stereo == BondStereo::Z) {
                    // A ring of marks that does not close: this side stays unsaid.
                    continue;
                }
                for (((end, over), first), (above, known)) in ends
                    .into_iter()
                    .zip([a, b])
                    .zip(above.into_iter().zip(known))
                {
                    if known.is_none() {
                        let beside = self.marked_beside(end, over, &neighbours);
                        if let Some((other, bond)) = beside {
                            let above = above == (other == first);
                            slopes.insert(bond, above == (self.bonds[bond].from == end));
                        }
                    }
                    for (other, _) in &neighbours[end] {
                        waiting.extend(neighbours[*other].iter().map(|(_, bond)| *bond));
                    }
                }
            }
        }
        slopes
    }

    /// Whether the first neighbour of an end lies above, as marks that are there say of it or of the other.
    fn is_above(
        &self,
        end: usize,
        over: usize,
        first: usize,
        own: &[(usize, usize)],
        slopes: &HashMap<usize, bool>,
    ) -> Option<bool> {
        let others = own.iter().filter(|(other, _)| *other != over);
        let mut marked = others.filter_map(|(other, bond)| {
            let up = *slopes.get(bond)?;
            let above = up == (self.bonds[*bond].from == end);
            Some(above == (*other == first))
        });
        marked.next()
    }

    /// The bond beside an end that gets the mark: best one that no other double bond is beside.
    fn marked_beside(
        &self,
        end: usize,
        over: usize,
        neighbours: &[Vec<(usize, usize)>],
    ) -> Option<(usize, usize)> {
        let others = neighbours[end]
            .iter()
            .filter(|(other, bond)| *other != over && self.bonds[*bond].order == BondOrder::Single);
        let shared = |other: usize| {
            neighbours[other]
                .iter()
                .any(|(_, bond)| self.bonds[*bond].order == BondOrder::Double)
        };
        others.min_by_key(|(other, _)| shared(*other)).copied()
    }

    /// Of the neighbours of a double bond's end the one that comes first; `None` where there are none, or two alike.
    fn first_beside(
        &self,
        end: usize,
        over: usize,
        own: &[(usize, usize)],
        ranks: &[usize],
    ) -> Option<usize> {
        let others: Vec<usize> = own
            .iter()
            .filter(|(other, _)| *other != over)
            .map(|(other, bond)| (self.bonds[*bond].order.pairs() == 1).then_some(*other))
            .collect::<Option<_>>()?;
        match others[..] {
            [only] if self.atoms[end].hydrogens < 2 => Some(only),
            [a, b] if ranks[a] != ranks[b] && self.atoms[end].hydrogens == 0 => {
                Some(if ranks[a] > ranks[b] { a } else { b })
            }
            _ => None,
        }
    }
}

/// The place of each atom in the order, equal for atoms that are alike.
fn ranks(molecule: &Molecule, neighbours: &[Vec<(usize, usize)>]) -> Vec<usize> {
    let atoms = &molecule.atoms;
    let ranks = atoms
        .iter()
        .map(|atom| (atom.element.number(), atom.isotope.unwrap_or(0)));
    let ranks = refined(molecule, neighbours, placed(&ranks.collect::<Vec<_>>()));
    let side = |bond: usize| match molecule.bonds[bond].stereo {
        Some(BondStereo::Z) => 2,
        Some(BondStereo::E) => 1,
        None => 0,
    };
    let with_sides = (0..atoms.len()).map(|at| {
        let own = neighbours[at].iter().map(|(_, bond)| side(*bond));
        (ranks[at], own.max().unwrap_or(0))
    });
    refined(
        molecule,
        neighbours,
        placed(&with_sides.collect::<Vec<_>>()),
    )
}

/// Ranks by those of the neighbours, again and again, until nothing changes.
fn refined(
    molecule: &Molecule,
    neighbours: &[Vec<(usize, usize)>],
    mut ranks: Vec<usize>,
) -> Vec<usize> {
    let atoms = &molecule.atoms;
    loop {
        let keys = (0..atoms.len()).map(|at| {
            // In half bonds, so that an aromatic one is one and a half.
            let mut around: Vec<usize> = neighbours[at]
                .iter()
                .flat_map(|(other, bond)| {
                    let times = match molecule.bonds[*bond].order {
                        BondOrder::Aromatic => 3,
                        order => 2 * order.pairs() as usize,
                    };
                    std::iter::repeat_n(ranks[*other] + 1, times)
                })
                .collect();
            around.sort_unstable_by(|a, b| b.cmp(a));
            around.extend(std::iter::repeat_n(0, atoms[at].hydrogens as usize));
            (ranks[at], around)
        });
        let refined = placed(&keys.collect::<Vec<_>>());
        if refined == ranks {
            return ranks;
        }
        ranks = refined;
    }
}

/// Each key's place among all, equal for equal ones.
fn placed<Key: Ord>(keys: &[Key]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
    let (mut places, mut place) = (vec![0; keys.len()], 0);
    for (at, number) in order.iter().enumerate() {
        if at > 0 && keys[order[at - 1]] != keys[*number] {
            place = at;
        }
        places[*number] = place;
    }
    places
}
