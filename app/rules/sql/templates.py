"""Templates: rules without a client. Some are built in; each tenant can add its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.rules.documents import Document, document_of, rule_of, without_owner
from app.rules.errors import Conflict, NotFound, Stale
from app.rules.rule import Limit, Rule
from app.rules.sql.database.pagination import total_of
from app.rules.sql.database.transactions import versioned_transaction
from app.rules.sql.history import Author, History
from app.rules.sql.models import TemplateRow

MAX_TEMPLATES = 100  # per tenant
MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Template:
    """`rules` are documents without a client or a group."""

    name: str
    description: str
    rules: tuple[Document, ...]
    builtin: bool = False

    def rules_for(self, owner: Mapping[str, str | None], tenant_id: int) -> list[Rule]:
        """Return its rules for the `client_id` or the `group` of `owner`, either of which may be a pattern."""
        return [rule_of(document | dict(owner), tenant_id) for document in self.rules]


def _document(*limits: Limit, **fields: Any) -> Document:
    return without_owner(document_of(Rule(id=-1, limits=limits, **fields)))


# A short limit for bursts and a long one for the plan. Guesses of passwords and codes are limited on every plan: their
# rules have a layer of their own, so that no other rule of a client precedes them.
PROTECTION = "protection"
BUILT_IN = {
    template.name: template
    for template in (
        Template("free", "60 a minute, 1,000 a day", (_document(Limit(60, MINUTE), Limit(1_000, DAY)),), True),
        Template(
            "pro",
            "600 a minute in bursts of up to 1,200, 100,000 a day",
            (_document(Limit(600, MINUTE, "token_bucket", burst=1_200), Limit(100_000, DAY)),),
            True,
        ),
        Template(
            "enterprise",
            "6,000 a minute in bursts of up to 12,000",
            (_document(Limit(6_000, MINUTE, "token_bucket", burst=12_000)),),
            True,
        ),
        Template(
            "login-protection",
            "login: 5 a minute and 20 an hour, exactly; closed while Redis cannot decide",
            (
                _document(
                    Limit(5, MINUTE, "sliding_window"),
                    Limit(20, HOUR, "sliding_window"),
                    layer=PROTECTION,
                    endpoint="login",
                    fail_mode="closed",
                ),
            ),
            True,
        ),
        Template(
            "signup-protection",
            "register: 3 an hour; password_reset: 3 an hour",
            tuple(
                _document(Limit(3, HOUR, "sliding_window"), layer=PROTECTION, endpoint=endpoint, fail_mode="closed")
                for endpoint in ("register", "password_reset")
            ),
            True,
        ),
        Template("unlimited", "never limited, nothing counted", (_document(action="allow"),), True),
    )
}


class Templates:
    """The built-in templates, and those of one tenant."""

    def __init__(self, session: Session, tenant_id: int) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._history = History(session, tenant_id)

    def all(self) -> Sequence[Template]:
        """Return the built-in templates, then the tenant's by name."""
        rows = self._session.execute(self._own().order_by(TemplateRow.name)).scalars()
        return [*BUILT_IN.values(), *map(_template, rows)]

    def get(self, name: str) -> Template:
        found = BUILT_IN.get(name) or self._find(name)
        if found is None:
            raise NotFound(f"there is no template {name}")
        return found

    def put(self, template: Template, author: Author, expected: Callable[[bool], bool] = lambda _: True) -> bool:
        """Store the template under its name; return whether it is new.

        `expected` receives whether one exists already.
        """
        if template.name in BUILT_IN:
            raise Conflict(f"the template {template.name} is built in and cannot be changed", "built-in")
        with versioned_transaction(self._session, self._tenant_id):
            old = self._find(template.name)
            if not expected(old is not None):
                raise Stale(f"the template {template.name} {'exists already' if old else 'does not exist'}")
            if old is None and total_of(self._session, self._own()) >= MAX_TEMPLATES:
                raise Conflict(f"a tenant has at most {MAX_TEMPLATES} templates", "too-many")
            content = {"description": template.description, "rules": list(template.rules)}
            row = insert(TemplateRow).values(tenant_id=self._tenant_id, name=template.name, **content)
            self._session.execute(row.on_conflict_do_update(constraint="uq_templates_tenant_id", set_=content))
            self._note("template.replace" if old else "template.create", old, template, author)
        return old is None

    def delete(self, name: str, author: Author) -> None:
        """Delete the tenant's template. Rules made from it stay."""
        if name in BUILT_IN:
            raise Conflict(f"the template {name} is built in and cannot be deleted", "built-in")
        with versioned_transaction(self._session, self._tenant_id):
            old = self.get(name)
            mine = (TemplateRow.tenant_id == self._tenant_id, TemplateRow.name == name)
            self._session.execute(delete(TemplateRow).where(*mine))
            self._note("template.delete", old, None, author)

    def _find(self, name: str) -> Template | None:
        row = self._session.execute(self._own().where(TemplateRow.name == name)).scalar_one_or_none()
        return _template(row) if row else None

    def _own(self) -> Any:
        return select(TemplateRow).where(TemplateRow.tenant_id == self._tenant_id)

    def _note(self, action: str, before: Template | None, after: Template | None, author: Author) -> None:
        name = (after or before).name  # type: ignore[union-attr]
        self._history.note(author, action, f"template {name}", _document_or_none(before), _document_or_none(after))


def _template(row: TemplateRow) -> Template:
    return Template(row.name, row.description, tuple(row.rules))


def _document_or_none(template: Template | None) -> Document | None:
    return {"description": template.description, "rules": list(template.rules)} if template else None
