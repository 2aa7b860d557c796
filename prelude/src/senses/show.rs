//! How molecules' parts and the encoders of this folder show themselves.

use super::{
    Atom, Bond, BondOrder, BondStereo, EdgeLines, Element, FlowEncoder, FlowGaps, GraphEdge,
    GraphEncoder, GraphKind, GraphWidths, MessagePassing, Minimol, SdfRecord, SpectrumEncoder,
    SpectrumKind, SpectrumReads,
};
use crate::display::facts::{debug_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render};
use crate::nn::{Network, show};
use crate::vision::Modality;

shown_by_fields!(
    Atom,
    Bond,
    BondOrder,
    BondStereo,
    EdgeLines,
    Element,
    GraphEdge,
    GraphKind,
    GraphWidths,
    FlowGaps,
    SpectrumKind,
    SpectrumReads
);

impl Render for SdfRecord {
    fn render(&self) -> MimeBundle {
        let facts = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value));
        let facts = facts.fold(Facts::new("data fields"), |facts, (name, value)| {
            facts.fact(name, value)
        });
        let facts = self
            .molecule
            .not_used()
            .iter()
            .fold(facts, |facts, (mark, count)| {
                facts.fact(format!("not used: {mark}"), count)
            });
        self.molecule.render().above(&facts.render())
    }
}

impl Render for MessagePassing {
    fn render(&self) -> MimeBundle {
        let parameters = self.named_parameters();
        show::block(format!("MessagePassing {}", self.fc1.name()), &parameters).render()
    }
}

macro_rules! encoders {
    ($($type:ty),+) => {$(
        impl $type {
            fn facts(&self) -> Facts {
                Facts::new(format!("{}: {}", self.kind(), crate::vision::show_positions(self)))
                    .fact("parameters", show::parameters(&self.named_parameters()))
            }
        }

        impl Render for $type {
            fn render(&self) -> MimeBundle {
                let title = format!("{}: {}", self.kind(), crate::vision::show_positions(self));
                show::network(title, &self.named_parameters()).render()
            }
        }

        debug_by_facts!($type);
    )+};
}
encoders!(GraphEncoder, Minimol, SpectrumEncoder, FlowEncoder);
