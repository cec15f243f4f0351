#!/usr/bin/env bash
# Builds the fuzzers and runs them one after the other: fuzz/run.sh [SECONDS] [TARGET...]
#
# Without arguments every target runs for ten minutes. It starts from the corpus in git, works on a copy of it, and keeps
# what it learns in the build directory, so that the next run goes on from there. A finding is written to
# fuzz/artifacts/TARGET/ and ends the script with status 1, after all targets have run.
# Needs a stable toolchain and a C++ compiler. With a nightly, `cargo fuzz run TARGET` does the same under the address
# sanitizer; with stable, `cargo fuzz run --sanitizer none TARGET`.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-600}
shift || true
all=(frame message cluster_toml run_file log_recovery replica leader coordinator participant ledger_entry ledger_image)
targets=("${@:-${all[@]}}")
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$PWD/target}/fuzz

# The same instrumentation as cargo-fuzz gives. With --target, build scripts are left without it.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="--cfg fuzzing $(echo $coverage)" CARGO_TARGET_DIR=$build \
  cargo build --release --locked --quiet --target "$host"

found=0
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target" "artifacts/$target"
  log=$build/$target.log
  if nice -n 19 "$build/$host/release/$target" "$build/corpus/$target" "corpus/$target" -max_total_time="$seconds" \
    -max_len=4096 -len_control=0 -timeout=20 -rss_limit_mb=2048 -artifact_prefix="artifacts/$target/" >"$log" 2>&1; then
    printf '%-14s %s\n' "$target" "$(tail -n 1 "$log")"
  else
    found=1
    printf '%-14s FOUND SOMETHING, see %s\n' "$target" "$log"
    grep -a -A 2 panicked "$log" || tail -n 20 "$log"
  fi
done
exit "$found"
