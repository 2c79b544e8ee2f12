# The Caracal decision contract, version 2026-07-12.
#
# Evaluate data.caracal.authz.result with the zone's policy documents loaded beside this module and
# the request as input (schema 2026-05-20). The documents are data in the same package: app_ids,
# grants, confinement, restrict, risk and approval_tiers. Any of them may be missing.
package caracal.authz

import rego.v1

default result := {
	"decision": "deny",
	"evaluation_status": "complete",
	"determining_policies": [],
	"diagnostics": [{"reason": "no_rule_matched"}],
}

result := {
	"decision": "allow",
	"evaluation_status": "complete",
	"determining_policies": [{"policy": permit.policy}],
	"diagnostics": permit.diagnostics,
}

result := {
	"decision": "deny",
	"evaluation_status": "complete",
	"determining_policies": [],
	"diagnostics": [{"reason": denial}],
}

# What allows. The rules exclude each other but for a bootstrap of a workload, where the first holds.

permit := {"policy": "caracal-bootstrap", "diagnostics": []} if {
	not frozen
	bootstrap
	owned
} else := {"policy": sprintf("caracal-%s-mint", [grant.application]), "diagnostics": mint_diagnostics} if {
	not frozen
	not bad_risk
	not bad_approval
	mint
	owned
	delegated
	confined(requested)
	held(requested)
} else := {"policy": "caracal-workload-mint", "diagnostics": mint_diagnostics} if {
	not frozen
	not bad_risk
	not bad_approval
	workload
} else := {"policy": sprintf("caracal-%s-use", [grant.application]), "diagnostics": []} if {
	not frozen
	presented
	targeted
	owned
	confined(carried)
	held(carried)
}

# Why not, in this order. No reason stands beside a permit.

denial := "restriction_active" if {
	frozen
} else := "malformed_risk_data" if {
	not bootstrap
	minting
	bad_risk
} else := "malformed_approval_data" if {
	not bootstrap
	minting
	bad_approval
} else := "resource_not_granted" if {
	mint
	not owned
} else := "delegation_scope_exceeded" if {
	mint
	not delegated
} else := "confinement_violation" if {
	mint
	not confined(requested)
} else := "role_scope_mismatch" if {
	mint
	not held(requested)
} else := "mandate_target_mismatch" if {
	presented
	not targeted
} else := "resource_not_granted" if {
	presented
	not owned
} else := "confinement_violation" if {
	presented
	not confined(carried)
} else := "role_scope_mismatch" if {
	presented
	not held(carried)
}

# The request's parts. A part is there when its key exists and is not false.

with_claims if input.context.subject_claims

with_edge if input.delegation_edge

with_session if input.context.agent_session_id

requested := {scope | some scope in input.context.requested_scopes}

labels := {label | some label in input.principal.labels}

edge_scopes := {scope |
	is_array(input.delegation_edge.scopes)
	some scope in input.delegation_edge.scopes
}

# A mandate's scopes are separated by single spaces and by nothing else.
carried := {scope |
	is_string(input.context.subject_claims.scope)
	some scope in split(input.context.subject_claims.scope, " ")
	scope != ""
}

# The request's shapes.

alone if {
	not with_claims
	not with_edge
	not with_session
}

bootstrap if {
	requested == {"agent:lifecycle"}
	alone
}

mint if {
	input.delegation_edge.id
	with_session
	not with_claims
	count(requested) > 0
	not "agent:lifecycle" in requested
}

workload if {
	input.principal.type == "Workload"
	input.action.id == "CredentialInjection"
	alone
}

minting if mint

minting if workload

presented if {
	input.context.subject_claims.delegation_edge_id
	input.context.subject_claims.delegation_edge_id != ""
	count(requested) == 0
	count(carried) > 0
}

targeted if {
	is_array(input.context.subject_claims.target)
	input.resource.identifier in input.context.subject_claims.target
}

# The gates.

grant := data.caracal.authz.grants[input.resource.identifier]

owned if data.caracal.authz.app_ids[grant.application] == input.principal.id

delegated if {
	every scope in requested {
		scope in edge_scopes
	}
}

# One label's role alone must hold every scope.
held(scopes) if {
	some label in labels
	role := grant.roles[label]
	every scope in scopes {
		scope in role
	}
}

# Every cap that one of the labels falls under must hold every scope. A cap that cannot be read
# applies and holds nothing.
confined(scopes) if not exceeded(scopes)

exceeded(scopes) if {
	some cap in data.caracal.authz.confinement
	applies(cap)
	not holds(cap, scopes)
}

applies(cap) if {
	some label in labels
	startswith(label, cap.label_prefix)
}

applies(cap) if not is_string(cap.label_prefix)

holds(cap, scopes) if {
	every scope in scopes {
		scope in cap.scopes
	}
}

# Frozen while an element of restrict is not provably outside its window.
frozen if {
	some entry in data.caracal.authz.restrict
	not thawed(entry)
}

thawed(entry) if {
	is_object(entry)
	time.parse_rfc3339_ns(entry.from) > time.now_ns()
}

thawed(entry) if {
	is_object(entry)
	time.parse_rfc3339_ns(entry.until) <= time.now_ns()
}

# Risk and approval. Data of another shape stops every mint.

bad_risk if {
	rules := data.caracal.authz.risk
	not is_array(rules)
}

bad_risk if {
	is_array(data.caracal.authz.risk)
	some entry in data.caracal.authz.risk
	not classifies(entry)
}

classifies(entry) if {
	is_string(entry.scope)
	entry.scope != ""
	is_string(entry.tier)
	entry.tier != ""
}

bad_approval if {
	rules := data.caracal.authz.approval_tiers
	not is_array(rules)
}

bad_approval if {
	is_array(data.caracal.authz.approval_tiers)
	some entry in data.caracal.authz.approval_tiers
	not declares(entry)
}

declares(entry) if {
	is_string(entry.tier)
	entry.tier != ""
	object.get(entry, "approver", "operator") in {"operator", "subject", "any"}
	object.get(entry, "privacy", "identified") in {"identified", "pseudonymous", "anonymous"}
	seconds := object.get(entry, "ttl_seconds", 1800)
	is_number(seconds)
	seconds > 0
	seconds == floor(seconds)
}

classes := {{"scope": entry.scope, "tier": entry.tier} |
	some entry in data.caracal.authz.risk
	entry.scope in requested
}

gates := {entry |
	some entry in data.caracal.authz.approval_tiers
	some class in classes
	class.tier == entry.tier
}

mint_diagnostics := array.concat(
	[{"step_up_required": {"type": "human_approval", "tiers": [gate | some gate in gates]}} | count(gates) > 0],
	[{"risk": [class | some class in classes]} | count(classes) > 0],
)
