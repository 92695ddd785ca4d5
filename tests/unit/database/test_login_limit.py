"""login_limit: attempts that are counted in memory, before the first apply."""

from __future__ import annotations

from reconciler.database.login_limit import AttemptsInMemory, LoginLimit
from reconciler.database.rows import Scope

SCOPE = Scope("acme", "production")
LIMIT = LoginLimit(failures=3, window_s=900)
EMAIL, ADDRESS = "admin@empresa.com", "10.0.0.1"
MOST = 10_000


def test_a_success_forgives_the_account_and_its_own_attempt_alone() -> None:
    memory = AttemptsInMemory()
    assert [memory.begin(SCOPE, EMAIL, ADDRESS, LIMIT, now) for now in (1, 2, 3)] == [True] * 3
    memory.record_success(SCOPE, EMAIL, ADDRESS)
    assert [memory.begin(SCOPE, f"{now}@x.com", ADDRESS, LIMIT, now) for now in (4, 5)] == [True, False]
    assert memory.begin(SCOPE, EMAIL, "10.0.0.2", LIMIT, 6)


def test_failures_count_for_the_window_alone() -> None:
    memory = AttemptsInMemory()
    assert [memory.begin(SCOPE, EMAIL, ADDRESS, LIMIT, now) for now in (0, 1, 2, 899, 900)] == [
        *(True, True, True, False, True)
    ]


def test_full_of_names_it_forgets_old_ones_else_admits_nobody() -> None:
    memory = AttemptsInMemory()
    assert memory.begin(SCOPE, EMAIL, ADDRESS, LIMIT, 0)
    memory.record_success(SCOPE, EMAIL, ADDRESS)  # leaves an address without a failure
    tries = [
        memory.begin(SCOPE, f"{number}@x.com", f"10.1.{number // 250}.{number % 250}", LIMIT, 1)
        for number in range(MOST)
    ]
    assert (tries[0], tries[-1]) == (True, False)
    assert not memory.begin(SCOPE, EMAIL, ADDRESS, LIMIT, 900)
    assert memory.begin(SCOPE, EMAIL, ADDRESS, LIMIT, 901)
