//! The examples that check themselves: each starts itself as a server, upgrades it, and looks at
//! it as its client. They are programs of their own, as in anybody's hands.

use std::process::Command;

trials![
    p6_no_call_of_grpc_fails_and_no_number_is_missed,
    tls_sessions_resume_with_the_next_generation,
    every_websocket_is_told_1012_in_its_part_of_the_window,
];

fn p6_no_call_of_grpc_fails_and_no_number_is_missed() {
    check("grpc");
}

fn tls_sessions_resume_with_the_next_generation() {
    check("tls");
}

fn every_websocket_is_told_1012_in_its_part_of_the_window() {
    check("websocket");
}

/// `cargo test` builds the examples before it runs the tests; with `--test` it does not.
fn check(name: &str) {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        program.exists(),
        "{} is not there: cargo build --all-features --examples",
        program.display()
    );
    let output = Command::new(program).arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{said}", output.status);
}
