//! Tests of whole clusters in simulated time. The harness and the tests are in `tests/simulated`.

#![forbid(unsafe_code)]
