# caracal:data-document
package caracal.authz
import rego.v1
confinement := [{"label_prefix": "tenant:", "scopes": ["ledger:read"]}]
restrict contains {"from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
risk := [{"scope": sprintf("ledger:%s", ["write"]), "tier": "high"}]
approval_tiers := [{"tier": t, "approver": "subject", "ttl_seconds": 60} | some t in ["high", "low"]]
