//! Sealing: the tail of a topic becomes column segments, and a Seal command makes them count.

mod build;
mod group;
mod passed;
mod policy;
mod sealer;
mod troubles;

#[cfg(test)]
mod tests;

pub(super) use build::{BuildFailed, Job, build};
pub(super) use policy::due;
pub(super) use sealer::Sealer;
