//! The engine as a whole, over a catalog that is not real and files that are.

mod budgets;
mod cases;
mod casts;
mod damage;
mod fixture;
mod hostile;
mod indexes;
mod oracle;
mod placement;
mod pruning;
mod rows;
mod search;
mod snapshots;
mod truth;
