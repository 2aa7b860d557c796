//! What holds a graph together: its separate parts, which edges lie in a ring, and a smallest set of rings.

use std::collections::{BTreeSet, VecDeque};

type Pairs = [(usize, usize)];

fn adjacent(nodes: usize, pairs: &Pairs) -> Vec<Vec<(usize, usize)>> {
    let mut all = vec![Vec::new(); nodes];
    for (number, (from, to)) in pairs.iter().enumerate() {
        all[*from].push((*to, number));
        all[*to].push((*from, number));
    }
    all
}

/// For each node the number of the part that it belongs to, from 0.
pub(super) fn components(nodes: usize, pairs: &Pairs) -> Vec<usize> {
    let adjacent = adjacent(nodes, pairs);
    let mut part = vec![usize::MAX; nodes];
    let mut parts = 0;
    for start in 0..nodes {
        if part[start] != usize::MAX {
            continue;
        }
        let mut queue = VecDeque::from([start]);
        part[start] = parts;
        while let Some(node) = queue.pop_front() {
            for (other, _) in &adjacent[node] {
                if part[*other] == usize::MAX {
                    part[*other] = parts;
                    queue.push_back(*other);
                }
            }
        }
        parts += 1;
    }
    part
}

/// For each edge whether it lies in a ring: whether its ends hold together without it.
pub(super) fn in_ring(nodes: usize, pairs: &Pairs) -> Vec<bool> {
    let adjacent = adjacent(nodes, pairs);
    let mut ring = vec![true; pairs.len()];
    let (mut order, mut low) = (vec![usize::MAX; nodes], vec![0; nodes]);
    let mut count = 0;
    for start in 0..nodes {
        if order[start] != usize::MAX {
            continue;
        }
        // Depth first without recursion: chains may be long.
        let mut stack = vec![(start, usize::MAX, 0)];
        (order[start], low[start]) = (count, count);
        count += 1;
        while let Some((node, by, next)) = stack.pop() {
            match adjacent[node].get(next) {
                Some((other, edge)) => {
                    stack.push((node, by, next + 1));
                    if *edge == by {
                        continue;
                    }
                    if order[*other] == usize::MAX {
                        (order[*other], low[*other]) = (count, count);
                        count += 1;
                        stack.push((*other, *edge, 0));
                    } else {
                        low[node] = low[node].min(order[*other]);
                    }
                }
                None => {
                    if let Some((parent, _, _)) = stack.last() {
                        if low[node] > order[*parent] {
                            ring[by] = false;
                        }
                        low[*parent] = low[*parent].min(low[node]);
                    }
                }
            }
        }
    }
    ring
}

/// Edges from every node to one that are passed at least; `usize::MAX` where there is no way.
pub(super) fn distances(nodes: usize, pairs: &Pairs, from: usize) -> Vec<usize> {
    let adjacent = adjacent(nodes, pairs);
    let mut found = vec![usize::MAX; nodes];
    let mut queue = VecDeque::from([from]);
    found[from] = 0;
    while let Some(node) = queue.pop_front() {
        for (other, _) in &adjacent[node] {
            if found[*other] == usize::MAX {
                found[*other] = found[node] + 1;
                queue.push_back(*other);
            }
        }
    }
    found
}

/// More rings are not looked for: each costs a search.
const MOST_RINGS: usize = 400;

/// A smallest set of rings from which all others are made, each as its nodes in order. Of a graph with very many rings, only the
/// first [`MOST_RINGS`].
pub(super) fn smallest(nodes: usize, pairs: &Pairs) -> Vec<Vec<usize>> {
    let ring = in_ring(nodes, pairs);
    let adjacent = adjacent(nodes, pairs);
    let part = components(nodes, pairs);
    let parts = part.iter().max().map_or(0, |last| last + 1);
    let wanted = (pairs.len() + parts).saturating_sub(nodes).min(MOST_RINGS);
    if wanted == 0 {
        return Vec::new();
    }
    // A shortest way around for every pair of an edge and a node near it holds a smallest set (Horton). Edges alone miss a few
    // in cages, so both are tried, edges first.
    let mut candidates: Vec<(Vec<usize>, BTreeSet<usize>)> = Vec::new();
    let mut seen: BTreeSet<BTreeSet<usize>> = BTreeSet::new();
    let ring_nodes: BTreeSet<usize> = pairs
        .iter()
        .zip(&ring)
        .filter(|(_, ring)| **ring)
        .flat_map(|((from, to), _)| [*from, *to])
        .collect();
    for root in ring_nodes.into_iter().take(MOST_RINGS) {
        let (mut far, mut via) = (
            vec![usize::MAX; nodes],
            vec![(usize::MAX, usize::MAX); nodes],
        );
        far[root] = 0;
        let mut queue = VecDeque::from([root]);
        while let Some(node) = queue.pop_front() {
            for (other, edge) in &adjacent[node] {
                if ring[*edge] && far[*other] == usize::MAX {
                    far[*other] = far[node] + 1;
                    via[*other] = (node, *edge);
                    queue.push_back(*other);
                }
            }
        }
        for (number, (from, to)) in pairs.iter().enumerate() {
            if !ring[number] || far[*from] == usize::MAX || far[*to] == usize::MAX {
                continue;
            }
            if via[*from].1 == number || via[*to].1 == number {
                continue;
            }
            let way = |mut at: usize| {
                let (mut along, mut edges) = (vec![at], Vec::new());
                while at != root {
                    let (before, edge) = via[at];
                    edges.push(edge);
                    at = before;
                    along.push(at);
                }
                (along, edges)
            };
            let ((left, left_edges), (right, right_edges)) = (way(*from), way(*to));
            let shared = left.iter().filter(|node| right.contains(node)).count();
            if shared != 1 {
                continue; // they meet before the root: a smaller ring elsewhere
            }
            let edges: BTreeSet<usize> = left_edges
                .into_iter()
                .chain(right_edges)
                .chain([number])
                .collect();
            if seen.insert(edges.clone()) {
                let mut around = left;
                around.extend(right.into_iter().rev().skip(1));
                candidates.push((around, edges));
            }
        }
        if candidates.len() > 20 * MOST_RINGS {
            break;
        }
    }
    candidates.sort_by_key(|(around, _)| around.len());
    // Kept are those that are no sum of smaller ones.
    let mut basis: Vec<BTreeSet<usize>> = Vec::new();
    let mut kept = Vec::new();
    for (around, edges) in candidates {
        let mut rest = edges;
        while let Some(first) = rest.first().copied() {
            match basis.iter().find(|other| other.first() == Some(&first)) {
                Some(other) => rest = rest.symmetric_difference(other).copied().collect(),
                None => break,
            }
        }
        if !rest.is_empty() {
            basis.push(rest);
            kept.push(around);
        }
        if kept.len() == wanted {
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_of_known_graphs() {
        let hexagon: Vec<(usize, usize)> = (0..6).map(|at| (at, (at + 1) % 6)).collect();
        assert_eq!(smallest(6, &hexagon).len(), 1);
        let mut tail = hexagon.clone();
        tail.push((5, 6));
        assert_eq!(
            in_ring(7, &tail),
            [true, true, true, true, true, true, false]
        );
        // A cube has five small rings of four.
        let cube = [
            (0, 1),
            (1, 2),
            (2, 3),
            (3, 0),
            (4, 5),
            (5, 6),
            (6, 7),
            (7, 4),
            (0, 4),
            (1, 5),
            (2, 6),
            (3, 7),
        ];
        let rings = smallest(8, &cube);
        assert_eq!(rings.iter().map(Vec::len).collect::<Vec<_>>(), [4; 5]);
        // Each ring's neighbours are joined.
        for ring in rings {
            for (at, node) in ring.iter().enumerate() {
                let next = ring[(at + 1) % ring.len()];
                assert!(cube.contains(&(*node, next)) || cube.contains(&(next, *node)));
            }
        }
        assert!(smallest(3, &[(0, 1), (1, 2)]).is_empty());
        assert_eq!(components(4, &[(0, 1), (2, 3)]), [0, 0, 1, 1]);
        assert_eq!(distances(4, &[(0, 1), (1, 2)], 0), [0, 1, 2, usize::MAX]);
    }
}
