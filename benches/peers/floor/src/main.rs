//! The floor as a program: `floor SIM DRAIN SHARDS COMPRESSION [THREADS]`, see benches/support/floor.rs.

#[path = "../../../support/floor.rs"]
mod floor;

fn main() {
    floor::run(&std::env::args().skip(1).collect::<Vec<_>>());
}
