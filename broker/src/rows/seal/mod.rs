//! Sealing: the tail of a topic becomes column segments, and a Seal command makes them count.

mod build;
mod group;
mod policy;
mod sealer;

#[cfg(test)]
mod tests;

pub(super) use build::{Job, build};
pub(super) use policy::due;
pub(super) use sealer::Sealer;
