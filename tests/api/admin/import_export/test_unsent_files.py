"""Files that wait for their readers: counted until they were sent, for each tenant."""

from __future__ import annotations

import pytest

from app.api.admin.import_export.unsent_files import UnsentFiles
from app.api.problems import Problem


def _refused(unsent: UnsentFiles, tenant_id: int) -> bool:
    try:
        unsent.refuse_more(tenant_id)
    except Problem as problem:
        return problem.kind == "busy"
    return False


def test_a_tenant_with_too_many_bytes_is_refused_and_no_other() -> None:
    unsent = UnsentFiles(most=30, most_of_tenant=10)
    first = unsent.until_sent(1, [b"x" * 4, b"x" * 5], "text/plain")
    assert not _refused(unsent, 1)
    second = unsent.until_sent(1, [b"x"], "text/plain")
    assert (_refused(unsent, 1), _refused(unsent, 2)) == (True, False)
    del second
    assert not _refused(unsent, 1)
    assert first.data == b"x" * 9


@pytest.mark.parametrize("lengths", [(30,), (9, 9, 9, 9)], ids=str)
def test_all_together_have_a_bound(lengths: tuple[int, ...]) -> None:
    unsent = UnsentFiles(most=30, most_of_tenant=10)
    answers = [unsent.until_sent(tenant, [b"x" * length], "text/plain") for tenant, length in enumerate(lengths)]
    assert _refused(unsent, 99)
    answers.pop()
    assert not _refused(unsent, 99)
