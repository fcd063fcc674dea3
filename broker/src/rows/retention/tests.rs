//! What leaves, and what stays.

mod life;
mod plans;
