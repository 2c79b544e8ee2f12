#!/usr/bin/env bash
# Every test that the table of invariants names is there.
set -euo pipefail
cd "$(dirname "$0")/.."

names=$(sed -n '/^## Invariants/,/^## The freshness/p' docs/architecture.md |
  grep -oE '`[a-z_/.]+::[a-z0-9_:]+`' | tr -d '`' | sed 's/.*:://' | sort -u)
[ -n "$names" ]
missing=0
for name in $names; do
  if ! grep -rqw --include='*.rs' --include='*.py' "$name" crates tests; then
    echo "no such test: $name" >&2
    missing=1
  fi
done
exit "$missing"
