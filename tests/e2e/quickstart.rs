//! The first thing that a user runs.

use crate::harness::{ANY_PORTS, data_dir, run};

#[test]
fn quickstart_does_the_main_job_twice_over_the_same_data() {
    let data = data_dir();
    let path = data.path().to_str().unwrap();
    let tour = ["quickstart", "--exit", "--events", "3000", "--data", path];
    let arguments = [&tour[..], &ANY_PORTS].concat();
    let first = run(&arguments, b"").ok().stdout;
    for step in ["1. Create", "2. Produce", "3. Replay", "4. Ask", "5. Search", "6. Produce one more", "7. Drop"] {
        assert!(first.contains(step), "no step `{step}` in {first}");
    }
    assert!(first.contains("3,000 records") && first.contains("agrees"), "{first}");
    let second = run(&arguments, b"").ok().stdout;
    assert!(second.contains("quickstart_2"), "{second}");
}

#[test]
fn quickstart_takes_the_users_own_records() {
    let data = data_dir();
    let input = data.path().join("own.ndjson");
    let lines: String = (0..2_000)
        .map(|n| {
            format!("{{\"when\":\"2023-01-29T{:02}:00:00Z\",\"host\":\"h{}\",\"msg\":\"error {n}\"}}\n", n / 400, n % 7)
        })
        .collect();
    std::fs::write(&input, lines).unwrap();
    let input = input.to_str().unwrap();
    let tour = ["quickstart", "--exit", "--input", input, "--time-field", "when"];
    let arguments = [&tour[..], &ANY_PORTS].concat();
    let shown = run(&arguments, b"").ok().stdout;
    assert!(shown.contains("2,000 records") && shown.contains("800 rows"), "{shown}");
    let error = run(&["quickstart", "--exit", "--input", "/nowhere/x"], b"").failed(1);
    assert!(error.contains("/nowhere/x"), "{error}");
}
