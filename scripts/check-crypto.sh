#!/usr/bin/env bash
# aws-lc-rs is the one cryptographic library of the default build: fails when ring is built as well.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$(cargo tree --workspace --locked --edges normal,build,dev --prefix none --format '{p}')
grep -q '^aws-lc-rs v' <<<"$tree" || { echo "aws-lc-rs is not in the tree: this check no longer checks anything" >&2; exit 1; }
if grep -q '^ring v' <<<"$tree"; then
  echo "ring is in the tree, through:" >&2
  cargo tree --workspace --locked --edges features --invert ring >&2
  exit 1
fi
