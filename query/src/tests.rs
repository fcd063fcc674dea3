//! The engine as a whole, over a catalog that is not real and files that are.

mod budgets;
mod cases;
mod casts;
mod changes;
mod damage;
mod explain;
mod fixture;
mod hostile;
mod indexes;
mod lies;
mod log_start;
mod nodes;
mod oracle;
mod parameters;
mod placement;
mod pruning;
mod rows;
mod running;
mod search;
mod snapshots;
mod spilling;
mod spread;
mod tables;
mod truth;
