//! A largest set of edges without a common node (Edmonds' blossoms): which bonds of an aromatic system are the double ones.

use std::collections::VecDeque;

/// For each node its partner in a largest matching. `edges[i]` lists the neighbours of node `i`.
pub(super) fn matched(edges: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut search = Search {
        edges,
        partner: vec![None; edges.len()],
        parent: vec![None; edges.len()],
        base: (0..edges.len()).collect(),
    };
    // Most are found without a search.
    for (node, own) in edges.iter().enumerate() {
        if search.partner[node].is_none()
            && let Some(free) = own
                .iter()
                .copied()
                .find(|other| search.partner[*other].is_none() && *other != node)
        {
            search.partner[node] = Some(free);
            search.partner[free] = Some(node);
        }
    }
    for (node, own) in edges.iter().enumerate() {
        if search.partner[node].is_none()
            && !own.is_empty()
            && let Some(end) = search.free_end(node)
        {
            search.turn(end);
        }
    }
    search.partner
}

struct Search<'a> {
    edges: &'a [Vec<usize>],
    partner: Vec<Option<usize>>,
    parent: Vec<Option<usize>>,
    /// The node that a blossom is shrunk to.
    base: Vec<usize>,
}

impl Search<'_> {
    /// The end of a path from `root` on which matched and other edges take turns.
    fn free_end(&mut self, root: usize) -> Option<usize> {
        let count = self.edges.len();
        self.parent = vec![None; count];
        self.base = (0..count).collect();
        let mut seen = vec![false; count];
        seen[root] = true;
        let mut queue = VecDeque::from([root]);
        while let Some(node) = queue.pop_front() {
            for &other in &self.edges[node] {
                if self.base[node] == self.base[other] || self.partner[node] == Some(other) {
                    continue;
                }
                let in_tree = other == root
                    || self.partner[other].is_some_and(|partner| self.parent[partner].is_some());
                if in_tree {
                    let base = self.common(node, other);
                    let mut inside = vec![false; count];
                    self.mark(node, base, other, &mut inside);
                    self.mark(other, base, node, &mut inside);
                    for at in 0..count {
                        if inside[self.base[at]] {
                            self.base[at] = base;
                            if !seen[at] {
                                seen[at] = true;
                                queue.push_back(at);
                            }
                        }
                    }
                } else if self.parent[other].is_none() {
                    self.parent[other] = Some(node);
                    match self.partner[other] {
                        None => return Some(other),
                        Some(partner) => {
                            seen[partner] = true;
                            queue.push_back(partner);
                        }
                    }
                }
            }
        }
        None
    }

    /// The first node that lies on both ways back to the root.
    fn common(&self, a: usize, b: usize) -> usize {
        let mut passed = vec![false; self.edges.len()];
        let mut at = a;
        loop {
            at = self.base[at];
            passed[at] = true;
            match self.partner[at].and_then(|partner| self.parent[partner]) {
                Some(before) => at = before,
                None => break,
            }
        }
        let mut at = b;
        loop {
            at = self.base[at];
            if passed[at] {
                return at;
            }
            match self.partner[at].and_then(|partner| self.parent[partner]) {
                Some(before) => at = before,
                None => return at,
            }
        }
    }

    fn mark(&mut self, from: usize, base: usize, mut child: usize, inside: &mut [bool]) {
        let mut at = from;
        while self.base[at] != base {
            let Some(partner) = self.partner[at] else {
                return;
            };
            inside[self.base[at]] = true;
            inside[self.base[partner]] = true;
            self.parent[at] = Some(child);
            child = partner;
            match self.parent[partner] {
                Some(before) => at = before,
                None => return,
            }
        }
    }

    /// Matches along the path that ends here.
    fn turn(&mut self, end: usize) {
        let mut at = Some(end);
        while let Some(node) = at {
            let Some(before) = self.parent[node] else {
                return;
            };
            let next = self.partner[before];
            self.partner[node] = Some(before);
            self.partner[before] = Some(node);
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// By trying all.
    fn most(edges: &[Vec<usize>], used: &mut Vec<bool>, node: usize) -> usize {
        if node == edges.len() {
            return 0;
        }
        let mut best = most(edges, used, node + 1);
        if !used[node] {
            for &other in &edges[node] {
                if other > node && !used[other] {
                    (used[node], used[other]) = (true, true);
                    best = best.max(1 + most(edges, used, node + 1));
                    (used[node], used[other]) = (false, false);
                }
            }
        }
        best
    }

    #[test]
    fn it_is_as_large_as_any() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for _ in 0..600 {
            let nodes = rng.random_range(1..10usize);
            let mut edges = vec![Vec::new(); nodes];
            for a in 0..nodes {
                for b in 0..a {
                    if rng.random_bool(0.3) {
                        edges[a].push(b);
                        edges[b].push(a);
                    }
                }
            }
            let partner = matched(&edges);
            for (node, other) in partner.iter().enumerate() {
                if let Some(other) = other {
                    assert_eq!(partner[*other], Some(node));
                    assert!(edges[node].contains(other));
                }
            }
            let found = partner.iter().flatten().count() / 2;
            assert_eq!(found, most(&edges, &mut vec![false; nodes], 0), "{edges:?}");
        }
    }
}
