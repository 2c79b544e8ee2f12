# caracal:data-document
package caracal.authz
import rego.v1
app_ids := {"books":"app-7"}
grants := {"resource://ledger":{"application":"books","roles":{"closer":["ledger:read","ledger:write"],"viewer":["ledger:read"]}}}
