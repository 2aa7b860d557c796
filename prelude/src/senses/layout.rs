//! Where the nodes of a graph stand on paper: as far from each other as they are in the graph.
//!
//! ```text
//! wanted distances ─ classical scaling (a first guess) ─► stress majorization (SMACOF) ─► places, part by part side by side
//! ```
//! Of a molecule the wanted distances are those of a drawing by hand: rings are regular polygons, chains turn by 120°.

use super::rings;

/// A place on paper; a bond or edge is about 1 long.
pub(super) type Place = (f64, f64);

/// A graph of more nodes is laid out in a spiral: distances between all of them would take long.
const MOST: usize = 400;
const ROUNDS: usize = 200;

/// The atoms of a molecule.
pub(super) fn molecule(nodes: usize, pairs: &[(usize, usize)], rings: &[Vec<usize>]) -> Vec<Place> {
    laid_out(nodes, pairs, |wanted| {
        for a in 0..nodes {
            for b in 0..nodes {
                // Every turn of a chain by 120° makes it shorter than its bonds.
                let steps = wanted[a * nodes + b];
                if steps.is_finite() && a != b {
                    wanted[a * nodes + b] = match steps as usize {
                        1 => 1.0,
                        2 => 3f64.sqrt(),
                        more => 0.866 * more as f64 + 0.1,
                    };
                }
            }
        }
        for ring in rings {
            // Chords of a regular polygon of side 1.
            let (count, angle) = (ring.len(), std::f64::consts::PI / ring.len() as f64);
            for (i, a) in ring.iter().enumerate() {
                for (j, b) in ring.iter().enumerate() {
                    let apart = i.abs_diff(j).min(count - i.abs_diff(j)) as f64;
                    if i != j && count <= 12 {
                        wanted[a * nodes + b] = (apart * angle).sin() / angle.sin();
                    }
                }
            }
        }
    })
}

/// The nodes of any graph.
pub(super) fn graph(nodes: usize, pairs: &[(usize, usize)]) -> Vec<Place> {
    laid_out(nodes, pairs, |_| {})
}

fn laid_out(nodes: usize, pairs: &[(usize, usize)], adjust: impl Fn(&mut [f64])) -> Vec<Place> {
    if nodes > MOST {
        // A sunflower's seeds.
        return (0..nodes)
            .map(|at| {
                let (angle, radius) = (at as f64 * 2.399_963, 0.6 * (at as f64 + 0.5).sqrt());
                (radius * angle.cos(), radius * angle.sin())
            })
            .collect();
    }
    let mut wanted = vec![f64::INFINITY; nodes * nodes];
    for a in 0..nodes {
        for (b, steps) in rings::distances(nodes, pairs, a).into_iter().enumerate() {
            if steps != usize::MAX {
                wanted[a * nodes + b] = steps as f64;
            }
        }
    }
    adjust(&mut wanted);
    let part = rings::components(nodes, pairs);
    let mut places = vec![(0.0, 0.0); nodes];
    let mut right = 0.0;
    for number in 0..part.iter().max().map_or(0, |last| last + 1) {
        let members: Vec<usize> = (0..nodes).filter(|node| part[*node] == number).collect();
        let own = part_laid_out(&members, &wanted, nodes);
        let left = own
            .iter()
            .map(|place| place.0)
            .fold(f64::INFINITY, f64::min);
        let end = own
            .iter()
            .map(|place| place.0)
            .fold(f64::NEG_INFINITY, f64::max);
        for (node, (x, y)) in members.iter().zip(own) {
            places[*node] = (x - left + right, y);
        }
        right += end - left + 1.5;
    }
    places
}

/// One part that holds together.
fn part_laid_out(members: &[usize], wanted: &[f64], nodes: usize) -> Vec<Place> {
    let count = members.len();
    if count == 1 {
        return vec![(0.0, 0.0)];
    }
    let far = |i: usize, j: usize| wanted[members[i] * nodes + members[j]];
    let mut places = first_guess(count, far);
    // Guttman's transform: every node goes to the mean of where the others want it, near ones before far ones.
    for _ in 0..ROUNDS {
        let mut moved: f64 = 0.0;
        for i in 0..count {
            let (mut x, mut y, mut weights) = (0.0, 0.0, 0.0);
            for j in (0..count).filter(|j| *j != i) {
                let (dx, dy) = (places[i].0 - places[j].0, places[i].1 - places[j].1);
                let length = dx.hypot(dy).max(1e-9);
                let weight = far(i, j).powi(-3);
                x += weight * (places[j].0 + far(i, j) * dx / length);
                y += weight * (places[j].1 + far(i, j) * dy / length);
                weights += weight;
            }
            let next = (x / weights, y / weights);
            moved = moved.max((next.0 - places[i].0).abs() + (next.1 - places[i].1).abs());
            places[i] = next;
        }
        if moved < 1e-4 {
            break;
        }
    }
    upright(places)
}

/// Two directions in which the nodes lie furthest apart, by squaring and repeated multiplication; a little beside, so that nothing
/// lies on a line that has to turn.
fn first_guess(count: usize, far: impl Fn(usize, usize) -> f64) -> Vec<Place> {
    let square = |i: usize, j: usize| if i == j { 0.0 } else { far(i, j).powi(2) };
    let mean: Vec<f64> = (0..count)
        .map(|i| (0..count).map(|j| square(i, j)).sum::<f64>() / count as f64)
        .collect();
    let all = mean.iter().sum::<f64>() / count as f64;
    let product = |i: usize, j: usize| -0.5 * (square(i, j) - mean[i] - mean[j] + all);
    let gram: Vec<f64> = (0..count * count)
        .map(|at| product(at / count, at % count))
        .collect();
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for axis in 0..2usize {
        let mut vector: Vec<f64> = (0..count)
            .map(|i| ((i * 7 + axis * 3) as f64 * 1.3).sin() + 0.01 * i as f64)
            .collect();
        for _ in 0..60 {
            for before in &axes {
                let along: f64 = before.iter().zip(&vector).map(|(a, b)| a * b).sum::<f64>();
                let size: f64 = before.iter().map(|a| a * a).sum::<f64>().max(1e-12);
                vector
                    .iter_mut()
                    .zip(before)
                    .for_each(|(v, b)| *v -= along / size * b);
            }
            let next: Vec<f64> = gram
                .chunks_exact(count)
                .map(|row| row.iter().zip(&vector).map(|(a, b)| a * b).sum())
                .collect();
            let length = next.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length < 1e-12 {
                break;
            }
            vector = next.into_iter().map(|v| v / length).collect();
        }
        axes.push(vector);
    }
    let spread = (count as f64).sqrt();
    (0..count)
        .map(|i| {
            let beside = ((i * 13) as f64).sin() * 0.05;
            (spread * axes[0][i] + beside, spread * axes[1][i] - beside)
        })
        .collect()
}

/// Turned so that it is widest from left to right.
fn upright(mut places: Vec<Place>) -> Vec<Place> {
    let count = places.len() as f64;
    let (mx, my) = (
        places.iter().map(|p| p.0).sum::<f64>() / count,
        places.iter().map(|p| p.1).sum::<f64>() / count,
    );
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in &places {
        xx += (x - mx).powi(2);
        xy += (x - mx) * (y - my);
        yy += (y - my).powi(2);
    }
    let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    let (sin, cos) = angle.sin_cos();
    for (x, y) in &mut places {
        let (dx, dy) = (*x - mx, *y - my);
        (*x, *y) = (dx * cos + dy * sin, dy * cos - dx * sin);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(places: &[Place], a: usize, b: usize) -> f64 {
        (places[a].0 - places[b].0).hypot(places[a].1 - places[b].1)
    }

    #[test]
    fn a_ring_of_six_is_a_regular_hexagon_and_a_chain_turns() {
        let pairs: Vec<(usize, usize)> = (0..6).map(|at| (at, (at + 1) % 6)).collect();
        let places = molecule(6, &pairs, &[(0..6).collect()]);
        for (a, b) in &pairs {
            assert!((between(&places, *a, *b) - 1.0).abs() < 0.02);
        }
        assert!((between(&places, 0, 3) - 2.0).abs() < 0.02);
        let chain = molecule(4, &[(0, 1), (1, 2), (2, 3)], &[]);
        assert!(
            (between(&chain, 0, 2) - 3f64.sqrt()).abs() < 0.1,
            "{chain:?}"
        );
    }

    #[test]
    fn parts_and_many_nodes_have_finite_places_of_their_own() {
        for (nodes, pairs) in [
            (1, vec![]),
            (3, vec![(0, 1)]),
            (900, vec![(0, 1)]),
            (0, vec![]),
        ] {
            let places = graph(nodes, &pairs);
            assert_eq!(places.len(), nodes);
            assert!(places.iter().all(|(x, y)| x.is_finite() && y.is_finite()));
            for a in 0..nodes.min(20) {
                assert!((0..a).all(|b| between(&places, a, b) > 0.3));
            }
        }
    }
}
