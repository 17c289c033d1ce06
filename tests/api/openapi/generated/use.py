"""A client of openapi-python-client, used on a real node."""

import json
import sys

from limiter_client import AuthenticatedClient, Client
from limiter_client.api.check import check, check_batch
from limiter_client.api.rules import list_rules, put_rule
from limiter_client.models import Batch, Check, Decision, Problem, Rule, Undecided

url, key = sys.argv[1:]
anyone = Client(base_url=url)
admin = AuthenticatedClient(base_url=url, token=key, prefix="", auth_header_name="X-API-Key")

rule = put_rule.sync(client=admin, body=Rule(client_id="python", rate=3, window=60))
for _ in range(1000):  # another worker hears of the rule a little later
    look = check.sync(client=anyone, body=Check(client_id="python", cost=0))
    if isinstance(look, Decision) and look.rule_id == rule.id:
        break
decision = check.sync(client=anyone, body=Check(client_id="python"))
assert isinstance(decision, Decision)
first = Check(client_id="python", request_id="once")
second = Check(client_id="python", request_id="once", cost=2)
batch = check_batch.sync(client=anyone, body=Batch(checks=[first, second]))
said = [str(result.error.type_) if isinstance(result, Undecided) else result.remaining for result in batch.results]
refused = check.sync(client=anyone, body=Check(client_id=""))
assert isinstance(refused, Problem)
listed = [each.client_id for each in list_rules.sync(client=admin, client_id="python")]
same = decision.rule_id == rule.id
print(json.dumps({"same": same, "reason": decision.reason, "said": said, "status": refused.status, "listed": listed}))
