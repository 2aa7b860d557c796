//! Principal components: vectors of many dimensions as points in the plane that shows most of their spread.

use candle_core::{DType, Device, Tensor};
use plotters::prelude::*;

use super::eigen::{self, Square};
use crate::display::axis::Axis;
use crate::display::plot::{DrawError, PALETTE, Paper};
use crate::display::{Figure, MimeBundle, Render, heat, html, number};
use crate::error::{Error, Result};

/// Vectors that are compared at once: the eigenproblem has this many rows.
const MAX_VECTORS: usize = 400;
/// Width of a letter and height of a line of a label, in pixels.
const LETTER: i32 = 7;
const LINE: i32 = 13;

/// Vectors `[N, D]` as N points in a plane, with labels and groups.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vectors = Tensor::new(&[[0f32, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.1, 0.0]], &Device::Cpu)?; // [N, D]
/// let labels = ["zero", "one", "two"].map(String::from);
/// let plane = EmbeddingPca::of(&vectors, &labels, &[])?; // shows itself as a plot
/// assert_eq!(plane.points().len(), 3);
/// assert!(plane.shares().0 > 0.99); // nearly all of the variance lies along one line
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct EmbeddingPca {
    points: Vec<(f64, f64)>,
    labels: Vec<String>,
    groups: Vec<String>,
    /// Shares of the variance along the two axes.
    shares: (f64, f64),
}

impl EmbeddingPca {
    /// The plane for `vectors`, `[N, D]` with N from 2 to 400. `labels` stand at the points where there is room, `groups` colour them; a missing one is
    /// empty.
    ///
    /// # Errors
    /// [`Error::Input`] for another number of vectors, or if one is not finite.
    pub fn of(vectors: &Tensor, labels: &[String], groups: &[String]) -> Result<Self> {
        let (count, _) = vectors.dims2()?;
        if !(2..=MAX_VECTORS).contains(&count) {
            return Err(Error::Input(format!(
                "the plane is for 2 to {MAX_VECTORS} vectors, got {count}: choose some of them"
            )));
        }
        let vectors = vectors
            .detach()
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?; // [N, D]
        let centred = vectors.broadcast_sub(&vectors.mean_keepdim(0)?)?; // [N, D]
        // The Gram matrix of the points has the same eigenvalues as their covariance, and only N rows.
        let gram = centred.matmul(&centred.t()?.contiguous()?)?; // [N, N]
        let gram = Square {
            size: count,
            values: gram.flatten_all()?.to_vec1()?,
        };
        if gram.values.iter().any(|value| !value.is_finite()) {
            return Err(Error::Input(
                "a vector is not finite: look at it before projecting it".into(),
            ));
        }
        let (values, directions) = eigen::symmetric(&gram);
        let total: f64 = values.iter().map(|value| value.max(0.0)).sum();
        let axis = |index: usize| values[index].max(0.0).sqrt();
        let share = |index: usize| {
            if total > 0.0 {
                values[index].max(0.0) / total
            } else {
                0.0
            }
        };
        let filled = |texts: &[String]| {
            let mut texts = texts.to_vec();
            texts.resize(count, String::new());
            texts
        };
        Ok(Self {
            points: (0..count)
                .map(|row| {
                    (
                        directions.at(row, 0) * axis(0),
                        directions.at(row, 1) * axis(1),
                    )
                })
                .collect(),
            labels: filled(labels),
            groups: filled(groups),
            shares: (share(0), share(1)),
        })
    }

    /// The points in the plane.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// Shares of the variance along the two axes.
    pub fn shares(&self) -> (f64, f64) {
        self.shares
    }

    fn group_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for group in &self.groups {
            if !names.contains(&group.as_str()) {
                names.push(group);
            }
        }
        names
    }

    fn draw(&self, paper: &Paper<'_>) -> std::result::Result<(), DrawError> {
        let extent = |values: &dyn Fn(&(f64, f64)) -> f64| {
            let low = self.points.iter().map(values).fold(f64::INFINITY, f64::min);
            let high = self
                .points
                .iter()
                .map(values)
                .fold(f64::NEG_INFINITY, f64::max);
            let room = (high * 0.1 - low * 0.1).max(1e-6).max(high.abs() * 1e-6);
            Axis::linear(low - room, high + room)
        };
        let font = ("sans-serif", 15).into_font().color(&BLACK);
        let mut chart = ChartBuilder::on(paper)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(42)
            .y_label_area_size(70)
            .build_cartesian_2d(extent(&|point| point.0), extent(&|point| point.1))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(230, 230, 230))
            .label_style(font.clone())
            .axis_desc_style(font.clone())
            .x_labels(6)
            .y_labels(6)
            .x_desc(format!("component 1 · {}", number::percent(self.shares.0)))
            .y_desc(format!("component 2 · {}", number::percent(self.shares.1)))
            .draw()?;
        let names = self.group_names();
        let color = |group: &str| {
            let index = names.iter().position(|name| *name == group).unwrap_or(0);
            PALETTE[index % PALETTE.len()]
        };
        let all = self.points.iter().zip(&self.groups);
        chart.draw_series(
            all.map(|(point, group)| Circle::new(*point, 4, color(group).mix(0.75).filled())),
        )?;
        let small = ("sans-serif", 13).into_font().color(&BLACK);
        let mut taken: Vec<(i32, i32, i32)> = Vec::new(); // left, right and top of the labels so far, in pixels
        for (point, label) in self.points.iter().zip(&self.labels) {
            let (x, y) = chart.backend_coord(point);
            let (left, top) = (x + 6, y - 8);
            let right = left + LETTER * label.chars().count() as i32;
            let covered =
                |&(l, r, t): &(i32, i32, i32)| left < r && l < right && (top - t).abs() < LINE;
            // A label on top of another can't be read, and neither can the other.
            if label.is_empty() || taken.iter().any(covered) {
                continue;
            }
            taken.push((left, right, top));
            let text = Text::new(label.clone(), (6, -8), small.clone());
            chart.draw_series([EmptyElement::at(*point) + text])?;
        }
        Ok(())
    }

    /// Groups as coloured words, above the picture.
    fn legend_html(&self) -> String {
        let named = self
            .group_names()
            .into_iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty());
        named
            .map(|(index, name)| {
                let RGBColor(r, g, b) = PALETTE[index % PALETTE.len()];
                html::chip(name, &heat::css([r, g, b]), "#ffffff")
            })
            .collect()
    }
}

impl Render for EmbeddingPca {
    fn render(&self) -> MimeBundle {
        let plain = format!(
            "{} vectors in the plane of their first two principal components ({} and {} of the variance)",
            self.points.len(),
            number::percent(self.shares.0),
            number::percent(self.shares.1)
        );
        match Figure::draw(640, 420, plain.clone(), |paper| self.draw(paper)) {
            Ok(figure) => MimeBundle::text(plain).with_html(format!(
                "<div>{}{}</div>",
                self.legend_html(),
                figure.html()
            )),
            Err(error) => MimeBundle::text(format!("{plain} ({error})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_need_one_component() -> Result<()> {
        let vectors = Tensor::new(
            &[
                [0f32, 0.0, 0.0],
                [1.0, 2.0, 2.0],
                [2.0, 4.0, 4.0],
                [3.0, 6.0, 6.0],
            ],
            &Device::Cpu,
        )?;
        let pca = EmbeddingPca::of(&vectors, &["<a>".into()], &["g".into(), "h".into()])?;
        assert!((pca.shares().0 - 1.0).abs() < 1e-9, "{:?}", pca.shares());
        let distance = (pca.points()[0].0 - pca.points()[3].0).abs();
        assert!((distance - 9.0).abs() < 1e-6, "{distance}");
        let bundle = pca.render();
        assert!(
            bundle
                .html()
                .is_some_and(|html| html.contains("<img") && !html.contains("<a>"))
        );
        Ok(())
    }

    #[test]
    fn too_few_and_not_finite_are_refused() -> Result<()> {
        let one = Tensor::zeros((1, 3), DType::F32, &Device::Cpu)?;
        assert!(EmbeddingPca::of(&one, &[], &[]).is_err());
        let odd = Tensor::new(&[[f32::NAN], [1.0]], &Device::Cpu)?;
        assert!(EmbeddingPca::of(&odd, &[], &[]).is_err());
        let same = Tensor::ones((3, 2), DType::BF16, &Device::Cpu)?;
        assert!(EmbeddingPca::of(&same, &[], &[])?.render().html().is_some());
        Ok(())
    }
}
