#!/usr/bin/env bash
# The rules of deny.toml that need no tool: no second TLS or signing provider in the tree, and
# crates depend downwards only.
set -euo pipefail
cd "$(dirname "$0")/.."

for banned in ring openssl openssl-sys native-tls; do
  if grep -qx "name = \"$banned\"" Cargo.lock; then
    echo "banned crate in the tree: $banned" >&2
    exit 1
  fi
done

# Roles talk through traits, never through one another's insides.
roles="sts gateway coordinator audit api"
for role in $roles; do
  for other in $roles; do
    if [ "$role" != "$other" ] && grep -q "^caracal-$other" "crates/$role/Cargo.toml"; then
      echo "role $role depends on role $other" >&2
      exit 1
    fi
  done
done

# The vocabulary knows nobody.
if grep -q '^caracal-' crates/core/Cargo.toml; then
  echo "core depends on another crate" >&2
  exit 1
fi
echo "dependency rules hold"
