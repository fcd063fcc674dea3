//! The short form of `fuzz/`.

use super::*;
use crate::kafka::api::APIS;

#[test]
fn x1_frames_of_kafka_that_lie() {
    FRAMES.check();
}

#[test]
fn x1_requests_of_kafka_that_lie() {
    REQUESTS.check();
}

#[test]
fn x1_what_kafka_clients_produce_and_fetch_lies() {
    PRODUCE.check();
    FETCH.check();
}

#[test]
fn every_version_of_every_request_is_a_sample() {
    let samples = (REQUESTS.samples)();
    for api in APIS {
        for version in api.oldest..=api.newest {
            let head = [(api.key as i16).to_be_bytes(), version.to_be_bytes()].concat();
            let is_there = samples.iter().any(|sample| sample.starts_with(&head));
            // Those of Produce that are refused the library does not know.
            assert_eq!(is_there, api.name != "Produce" || version >= 3, "{} of version {version}", api.name);
        }
    }
}
