//! The client library's example, against a real cluster.

use std::path::PathBuf;
use std::process::Command;

use crate::common::{World, text};

#[test]
fn the_example_of_the_client_library_moves_money() {
    let mut world = World::start("the_example_of_the_client_library_moves_money");
    let example = build();
    let run = || {
        let endpoints = world.local.endpoints().join(",");
        let output = Command::new(&example).env("DRACHMA_ENDPOINTS", endpoints).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    let first = run();
    assert!(first.contains("before: 10 and 10") && first.contains("committed: "), "{first}");
    assert!(first.contains("after: 0 and 20"), "{first}");
    let second = run();
    assert!(second.contains("rejected: ") && second.contains("exceeds_credits"), "{second}");
    assert!(second.contains("after: 0 and 20"), "{second}");
    let id = first.lines().find_map(|line| line.strip_prefix("committed: ")).unwrap();
    let id = u128::from_str_radix(id, 16).unwrap();
    world.verify(&[(crate::common::transfer(id, 1, 2, 10), drachma_client::Status::Committed)]);
}

/// Builds the example in this test's own profile, beside it; does nothing if it is there already.
fn build() -> PathBuf {
    // target/PROFILE/deps/this
    let own = std::env::current_exe().unwrap();
    let directory = own.ancestors().nth(2).unwrap();
    let profile = if directory.ends_with("release") { "release" } else { "test" };
    // Both packages, so that their dependencies are built with the same features as for this test.
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--profile", profile, "--package", "drachma"])
        .args(["--package", "drachma-client", "--example", "transfer", "--target-dir"])
        .arg(directory.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "the example does not build");
    directory.join("examples/transfer")
}
