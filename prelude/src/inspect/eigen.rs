//! Eigenvalues and eigenvectors of small symmetric matrices, by Jacobi's rotations.
//!
//! Meant for up to a few hundred rows (LoRA ranks, numbers of tokens), where it is exact and short. By hand: `nalgebra`, whose
//! `SymmetricEigen` does the same, brings fifteen crates and takes 23 s of CPU time to compile, in everybody's first session.

/// A square matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Square {
    pub size: usize,
    pub values: Vec<f64>,
}

impl Square {
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.size + column]
    }

    fn set(&mut self, row: usize, column: usize, value: f64) {
        self.values[row * self.size + column] = value;
    }

    fn identity(size: usize) -> Self {
        let values =
            (0..size * size).map(|index| f64::from(u8::from(index / size == index % size)));
        Self {
            size,
            values: values.collect(),
        }
    }

    pub fn product(&self, other: &Self) -> Self {
        let size = self.size;
        let mut values = vec![0.0; size * size];
        for row in 0..size {
            for inner in 0..size {
                let factor = self.at(row, inner);
                for column in 0..size {
                    values[row * size + column] += factor * other.at(inner, column);
                }
            }
        }
        Self { size, values }
    }

    pub fn transposed(&self) -> Self {
        let size = self.size;
        let values = (0..size * size).map(|index| self.at(index % size, index / size));
        Self {
            size,
            values: values.collect(),
        }
    }
}

/// Eigenvalues in falling order, and the eigenvectors as the columns of a matrix in the same order.
///
/// `matrix` has to be symmetric; only finite values give a meaningful answer.
pub(crate) fn symmetric(matrix: &Square) -> (Vec<f64>, Square) {
    let size = matrix.size;
    let mut a = matrix.clone();
    let mut vectors = Square::identity(size);
    let scale: f64 = a.values.iter().map(|value| value * value).sum();
    // Convergence is quadratic: a handful of sweeps is enough, the bound is for values that are not finite.
    for _ in 0..60 {
        let off: f64 = (0..size)
            .flat_map(|row| (0..size).map(move |column| (row, column)))
            .filter(|(row, column)| row != column)
            .map(|(row, column)| a.at(row, column).powi(2))
            .sum();
        if off.is_nan() || off <= scale * 1e-26 {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut a, &mut vectors, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|left, right| a.at(*right, *right).total_cmp(&a.at(*left, *left)));
    let values = order.iter().map(|index| a.at(*index, *index)).collect();
    let mut sorted = Square::identity(size);
    for (column, index) in order.iter().enumerate() {
        for row in 0..size {
            sorted.set(row, column, vectors.at(row, *index));
        }
    }
    (values, sorted)
}

/// One rotation that makes `a[p, q]` zero.
fn rotate(a: &mut Square, vectors: &mut Square, p: usize, q: usize) {
    let off = a.at(p, q);
    if off == 0.0 {
        return;
    }
    let theta = (a.at(q, q) - a.at(p, p)) / (2.0 * off);
    let sign = if theta < 0.0 { -1.0 } else { 1.0 };
    let tangent = sign / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for index in 0..a.size {
        let (left, right) = (a.at(index, p), a.at(index, q));
        a.set(index, p, cosine * left - sine * right);
        a.set(index, q, sine * left + cosine * right);
    }
    for index in 0..a.size {
        let (upper, lower) = (a.at(p, index), a.at(q, index));
        a.set(p, index, cosine * upper - sine * lower);
        a.set(q, index, sine * upper + cosine * lower);
        let (left, right) = (vectors.at(index, p), vectors.at(index, q));
        vectors.set(index, p, cosine * left - sine * right);
        vectors.set(index, q, sine * left + cosine * right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_eigenvalues() {
        let (values, _) = symmetric(&Square {
            size: 2,
            values: vec![2.0, 1.0, 1.0, 2.0],
        });
        assert!(
            (values[0] - 3.0).abs() < 1e-12 && (values[1] - 1.0).abs() < 1e-12,
            "{values:?}"
        );
    }

    #[test]
    fn vectors_rebuild_the_matrix() {
        let size = 9;
        let raw = Square {
            size,
            values: (0..81)
                .map(|index| f64::from(index * 37 % 23) - 11.0)
                .collect(),
        };
        let matrix = raw.product(&raw.transposed());
        let (values, vectors) = symmetric(&matrix);
        let mut scaled = vectors.clone();
        for row in 0..size {
            for (column, value) in values.iter().enumerate() {
                scaled.set(row, column, vectors.at(row, column) * value);
            }
        }
        let rebuilt = scaled.product(&vectors.transposed());
        let worst = rebuilt
            .values
            .iter()
            .zip(&matrix.values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-9, "{worst}");
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
    }

    #[test]
    fn not_finite_ends() {
        symmetric(&Square {
            size: 2,
            values: vec![f64::NAN; 4],
        });
        symmetric(&Square {
            size: 0,
            values: vec![],
        });
    }
}
