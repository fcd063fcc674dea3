//! End-to-end tests: the real binary as a user runs it, and the rules of the house that no compiler checks.

mod bad_input;
mod cli;
mod crash;
mod harness;
mod house;
mod http;
mod inspection;
mod power_cut;
mod quickstart;
mod real_data;
