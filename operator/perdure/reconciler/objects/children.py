"""All objects of a Worker."""

from __future__ import annotations

from perdure.reconciler.objects.common import Object, Plan
from perdure.reconciler.objects.config import config_map, service_account
from perdure.reconciler.objects.network import disruption_budget, headless_service, service
from perdure.reconciler.objects.workload import workload


def children(plan: Plan) -> list[Object]:
    """The ServiceAccount only where the template names none of the user's own."""
    found = [] if plan.account != plan.name else [service_account(plan)]
    return [*found, config_map(plan), headless_service(plan), service(plan), workload(plan), disruption_budget(plan)]
