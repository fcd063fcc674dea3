//! End-to-end tests: the real binary as a user runs it, and the rules of the house that no compiler checks.

mod bad_input;
mod bad_queries;
mod bad_values;
mod cli;
mod cluster;
mod crash;
mod dead_letters;
mod docs;
mod harness;
mod house;
mod http;
mod inspection;
mod kafka;
mod lines;
mod power_cut;
mod quickstart;
mod real_data;
