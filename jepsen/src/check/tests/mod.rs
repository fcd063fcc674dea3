//! Histories written by hand, good and bad, and random ones.

mod anomalies;
mod bounds;
mod groups;
mod metadata;
mod proof;
mod random;
mod story;
