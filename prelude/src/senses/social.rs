//! Social graphs: who knows whom, in which community; read from lists of edges, made by rule, drawn.
//!
//! What an encoder reads of a person: how many they know, how many of these know each other, and the community of those for whom it is
//! given away. Who belongs where else has to be seen in the edges.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::draw::Drawing;
use super::graph::{Graph, GraphEdge, GraphWidths};
use crate::display::{MimeBundle, Render};
use crate::{Error, Result, files};

/// A larger file is not read, in bytes.
const LARGEST: u64 = 1 << 30;
/// More people are not read from a list.
const MOST: usize = 100_000;
/// Communities that can be given away.
const COMMUNITIES: usize = 4;

/// People, edges between them with weights, and communities where they are known.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let text = "ann,bob\nbob,cid\n";
/// let graph = SocialGraph::read("friends", text)?;
/// assert_eq!(graph.labels(), ["ann", "bob", "cid"]);
/// assert_eq!(SocialGraph::karate_club()?.edges().len(), 78);
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct SocialGraph {
    /// What it is called.
    pub name: String,
    labels: Vec<String>,
    edges: Vec<(usize, usize, f32)>,
    communities: Option<Vec<usize>>,
    /// Whose community an encoder is told.
    told: Vec<usize>,
}

impl SocialGraph {
    /// Features and values that an encoder of social graphs reads: for [`GraphKind::Graphs`](super::GraphKind).
    pub const WIDTHS: GraphWidths = GraphWidths {
        features: 2 + COMMUNITIES,
        relations: 1,
    };

    /// A graph from names, and edges (from, to, weight) by their numbers.
    ///
    /// # Errors
    /// [`Error::NoNodes`], [`Error::NotANumber`]; for edges to nobody, to oneself, given twice, or of weight 0.
    pub fn new(
        name: impl Into<String>,
        labels: Vec<String>,
        edges: Vec<(usize, usize, f32)>,
    ) -> Result<Self> {
        let name = name.into();
        if labels.is_empty() {
            return Err(Error::NoNodes { graph: name });
        }
        let mut seen = std::collections::BTreeSet::new();
        for (number, (from, to, weight)) in edges.iter().enumerate() {
            if !weight.is_finite() {
                return Err(Error::NotANumber {
                    what: name,
                    place: format!("the weight of edge {number}"),
                    value: f64::from(*weight),
                });
            }
            let wrong = match (*from.max(to) >= labels.len(), from == to, *weight == 0.0) {
                (true, _, _) => {
                    format!("joins {from} and {to}, there are 0 to {}", labels.len() - 1)
                }
                (_, true, _) => format!("joins {from} to itself"),
                (_, _, true) => "has the weight 0, which is no edge".into(),
                _ if !seen.insert((from.min(to), from.max(to))) => {
                    format!("joins {from} and {to}, who are joined already")
                }
                _ => continue,
            };
            return Err(Error::Input(format!("{name}: edge {number} {wrong}")));
        }
        Ok(Self {
            name,
            labels,
            edges,
            communities: None,
            told: Vec::new(),
        })
    }

    /// The same graph with everybody's community.
    ///
    /// # Errors
    /// For another number of communities than people.
    pub fn with_communities(mut self, communities: Vec<usize>) -> Result<Self> {
        if communities.len() != self.labels.len() {
            return Err(Error::Input(format!(
                "{} communities are given for {} people",
                communities.len(),
                self.labels.len()
            )));
        }
        self.communities = Some(communities);
        Ok(self)
    }

    /// The same graph with the communities of these people given away to encoders.
    ///
    /// # Errors
    /// Without communities, for more than four of them, and for nobody's number.
    pub fn telling(mut self, people: &[usize]) -> Result<Self> {
        let Some(communities) = &self.communities else {
            return Err(Error::Input(format!(
                "{}: nobody's community is known: use with_communities first",
                self.name
            )));
        };
        for person in people {
            match communities.get(*person) {
                Some(community) if *community < COMMUNITIES => {}
                Some(community) => {
                    return Err(Error::Input(format!(
                        "community {community} can't be told: there are 0 to {}",
                        COMMUNITIES - 1
                    )));
                }
                None => {
                    return Err(Error::Input(format!(
                        "there is no person {person}: 0 to {}",
                        self.labels.len() - 1
                    )));
                }
            }
        }
        self.told = people.to_vec();
        Ok(self)
    }

    /// People's names.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Edges as (from, to, weight).
    pub fn edges(&self) -> &[(usize, usize, f32)] {
        &self.edges
    }

    /// Everybody's community, where known.
    pub fn communities(&self) -> Option<&[usize]> {
        self.communities.as_deref()
    }

    /// Reads a list of edges: two names a line, a weight behind them perhaps, `#` before remarks.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Line`] with the line of what is wrong, [`Error::NoNodes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read(path, LARGEST)?;
        Self::read(
            &path.display().to_string(),
            &String::from_utf8_lossy(&bytes),
        )
    }

    /// Reads the text of a list of edges; `what` is how messages call it.
    ///
    /// # Errors
    /// As [`SocialGraph::open`].
    pub fn read(what: &str, text: &str) -> Result<Self> {
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let (mut labels, mut edges): (Vec<String>, Vec<_>) = (Vec::new(), Vec::new());
        let mut joined = BTreeMap::new();
        for (place, line) in text.lines().enumerate() {
            let fault = |message: String| Error::Line {
                what: what.to_owned(),
                line: place + 1,
                message,
            };
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let parts: Vec<&str> = line
                .split([' ', '\t', ',', ';'])
                .filter(|part| !part.is_empty())
                .collect();
            let (from, to, weight) = match parts[..] {
                [from, to] => (from, to, 1.0),
                [from, to, weight] => match weight.parse::<f32>() {
                    Ok(weight) if weight.is_finite() && weight != 0.0 => (from, to, weight),
                    _ => {
                        return Err(fault(format!(
                            "the weight is {weight:?}, a number other than 0 is read"
                        )));
                    }
                },
                _ => {
                    return Err(fault(format!(
                        "an edge is two names and a weight perhaps, got {} words",
                        parts.len()
                    )));
                }
            };
            let mut number = |name: &str| {
                let next = labels.len();
                *numbers.entry(name.to_owned()).or_insert_with(|| {
                    labels.push(name.to_owned());
                    next
                })
            };
            let (from, to) = (number(from), number(to));
            if from == to {
                return Err(fault("the edge joins somebody to themself".into()));
            }
            if let Some(before) = joined.insert((from.min(to), from.max(to)), place + 1) {
                return Err(fault(format!("both are joined in line {before} already")));
            }
            if labels.len() > MOST {
                return Err(fault(format!("more than {MOST} people are not read")));
            }
            edges.push((from, to, weight));
        }
        Self::new(what, labels, edges)
    }

    /// Zachary's karate club (1977): 34 members, 78 friendships, and who went with whom when the club split.
    ///
    /// # Errors
    /// None; the signature is that of all that makes graphs.
    pub fn karate_club() -> Result<Self> {
        // The friends of each member with a higher number.
        const FRIENDS: [&[usize]; 34] = [
            &[1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19, 21, 31],
            &[2, 3, 7, 13, 17, 19, 21, 30],
            &[3, 7, 8, 9, 13, 27, 28, 32],
            &[7, 12, 13],
            &[6, 10],
            &[6, 10, 16],
            &[16],
            &[],
            &[30, 32, 33],
            &[33],
            &[],
            &[],
            &[],
            &[33],
            &[32, 33],
            &[32, 33],
            &[],
            &[],
            &[32, 33],
            &[33],
            &[32, 33],
            &[],
            &[32, 33],
            &[25, 27, 29, 32, 33],
            &[25, 27, 31],
            &[31],
            &[29, 33],
            &[33],
            &[31, 33],
            &[32, 33],
            &[32, 33],
            &[32, 33],
            &[33],
            &[],
        ];
        const WITH_THE_TEACHER: [usize; 17] =
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 16, 17, 19, 21];
        let edges = FRIENDS
            .iter()
            .enumerate()
            .flat_map(|(from, friends)| friends.iter().map(move |to| (from, *to, 1.0)));
        let communities = (0..34).map(|member| usize::from(!WITH_THE_TEACHER.contains(&member)));
        Self::new(
            "Zachary's karate club",
            (0..34).map(|member| member.to_string()).collect(),
            edges.collect(),
        )?
        .with_communities(communities.collect())
    }

    /// Communities made by rule: `communities` of `members` each, who know somebody of their own with a chance of 0.6 and of another with
    /// 0.08; the first two of each are told. The same seed gives the same graph.
    ///
    /// # Errors
    /// For no communities or more than four, and for fewer than two members.
    pub fn generated(communities: usize, members: usize, seed: u64) -> Result<Self> {
        if !(1..=COMMUNITIES).contains(&communities) || members < 2 {
            return Err(Error::Input(format!(
                "{communities} communities of {members}: give 1 to {COMMUNITIES} of two members or more"
            )));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = communities * members;
        let mut edges = Vec::new();
        for from in 0..count {
            for to in from + 1..count {
                // Neighbours in a community know each other, so that it holds together.
                let same = from / members == to / members;
                let chance = if same && to == from + 1 {
                    1.0
                } else if same {
                    0.6
                } else {
                    0.08
                };
                if rng.random_bool(chance) {
                    edges.push((from, to, 1.0));
                }
            }
        }
        let told: Vec<usize> = (0..communities)
            .flat_map(|community| [community * members, community * members + 1])
            .collect();
        Self::new(
            format!("{communities} communities of {members}"),
            (0..count).map(|person| person.to_string()).collect(),
            edges,
        )?
        .with_communities((0..count).map(|person| person / members).collect())?
        .telling(&told)
    }

    /// The graph with features: how many somebody knows (over 10), which part of these know each other, and what is told of communities.
    pub fn graph(&self) -> Graph {
        let count = self.labels.len();
        let mut knows = vec![std::collections::BTreeSet::new(); count];
        for (from, to, _) in &self.edges {
            knows[*from].insert(*to);
            knows[*to].insert(*from);
        }
        let features = (0..count).map(|person| {
            let own = &knows[person];
            let pairs = own.len() * own.len().saturating_sub(1) / 2;
            let closed: usize = own
                .iter()
                .map(|one| {
                    own.range(one + 1..)
                        .filter(|other| knows[*one].contains(other))
                        .count()
                })
                .sum();
            let mut features = vec![own.len() as f32 / 10.0, closed as f32 / pairs.max(1) as f32];
            let told = self
                .communities
                .as_ref()
                .filter(|_| self.told.contains(&person))
                .map(|all| all[person]);
            features.extend(
                (0..COMMUNITIES).map(|community| f32::from(u8::from(told == Some(community)))),
            );
            features
        });
        let features: Vec<Vec<f32>> = features.collect();
        let edges = self.edges.iter().map(|(from, to, weight)| GraphEdge {
            from: *from,
            to: *to,
            values: vec![*weight],
        });
        Graph {
            title: self.name.clone(),
            labels: self.labels.clone(),
            features,
            relations: 1,
            edges: edges.collect(),
        }
    }

    /// What a [`GraphEncoder`](super::GraphEncoder) of [`SocialGraph::WIDTHS`] reads, `[1, N, 6 + N, 1]`.
    ///
    /// # Errors
    /// For more than 512 people.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        self.graph().tensor(device)
    }

    /// The graph as a drawing, coloured by community where they are known.
    pub fn drawing(&self) -> Drawing {
        let drawing = Drawing::of_graph(&self.graph());
        match &self.communities {
            Some(communities) => drawing.clone().groups(communities).unwrap_or(drawing),
            None => drawing,
        }
    }
}

impl Render for SocialGraph {
    fn render(&self) -> MimeBundle {
        self.drawing().render()
    }
}

impl std::fmt::Debug for SocialGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SocialGraph {} ({} people, {} edges)",
            self.name,
            self.labels.len(),
            self.edges.len()
        )
    }
}
