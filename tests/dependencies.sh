#!/usr/bin/env bash
# The rules of deny.toml that need no tool: no second TLS or signing provider in the tree, and
# crates depend downwards only. Every crate of ours also keeps the workspace's lints, which forbid
# unsafe code.
set -euo pipefail
cd "$(dirname "$0")/.."

# The lock file also names what an optional feature would bring; the tree is what is built.
tree=$(cargo tree --locked --workspace --target all --edges all --prefix none --format '{p}')
for banned in ring openssl openssl-sys native-tls; do
  if grep -q "^$banned v" <<<"$tree"; then
    echo "banned crate in the tree: $banned" >&2
    exit 1
  fi
done

# Roles talk through traits, never through one another's insides. A test may put two of them on one wire.
roles="sts gateway coordinator audit api"
for role in $roles; do
  shipped=$(sed '/^\[dev-dependencies\]/,/^\[/d' "crates/$role/Cargo.toml")
  for other in $roles; do
    if [ "$role" != "$other" ] && grep -q "^caracal-$other" <<<"$shipped"; then
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
# `forbid` can't be lifted further down, but a crate that takes no lints never hears of it.
if ! grep -qx 'unsafe_code = "forbid"' Cargo.toml; then
  echo "the workspace does not forbid unsafe code" >&2
  exit 1
fi
for manifest in crates/*/Cargo.toml; do
  if ! grep -A1 -x '\[lints\]' "$manifest" | grep -qx 'workspace = true'; then
    echo "$manifest does not take the workspace's lints" >&2
    exit 1
  fi
done
echo "dependency rules hold"
