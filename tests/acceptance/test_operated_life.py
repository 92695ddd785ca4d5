"""An instance's whole life as operators live it: adopted, changed, reverted, repaired, handed over, live, suspended.

After each step the rows, `status`, `diff`, `history`, the report and the page in a real browser agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.passwords import hash_password
from tests.acceptance.test_serve import serving
from tests.support.browsing import CHROMIUM
from tests.support.company import git
from tests.support.harness import INSTANCE, PASSWORD, Ended, Fivrec, rows, run_sql
from tests.support.watching import until, watching

if not Path(CHROMIUM).exists():
    pytest.skip(f"NOT TESTED: a life with the page in a browser: no {CHROMIUM}", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="NOT TESTED: a life with the page: no playwright")

ANA, NOVA, CLARA = "admin@empresa.com", "nova@empresa.com", "clara@empresa.com"


@dataclass
class Life:
    """One instance with its file, its database, and the page that its administrator has open."""

    fivrec: Fivrec
    url: str
    browser: Any
    admin: str = ANA
    environment: str = "development"
    former: list[str] = field(default_factory=list)
    audited: int = 0
    page: Any = None
    site: str = ""

    def run(self, *words: str, **more: str | None) -> Ended:
        return self.fivrec.run(words[0], "client.yaml", *words[1:], **more)

    def apply(self, *words: str) -> Ended:
        return self.run("apply", "-o", "json", *words)

    def git(self, *words: str) -> str:
        return git(self.fivrec.folder, *words)

    def commit(self, message: str) -> str:
        self.git("add", "client.yaml")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def replace(self, old: str, new: str) -> None:
        path = self.fivrec.folder / "client.yaml"
        assert old in path.read_text(), old
        path.write_text(path.read_text().replace(old, new, 1))

    def sign_in(self) -> None:
        self.page.context.clear_cookies()
        self.page.goto(f"{self.site}/login")
        self.page.fill("#email", self.admin)
        self.page.fill("#password", PASSWORD)
        self.page.press("#password", "Enter")
        self.page.wait_for_url(re.compile(f"{self.site}/(instances/.*)?$"))

    def agree(
        self, *, diff: tuple[str, ...] = (), drift: int = 0, status: str = "active", billing: str = "paid"
    ) -> None:
        """`diff`: the changes that an apply would make, as kind/name (cause); `drift`: how much the last run found."""
        self.rows_and_status(drift, status, billing)
        self.diff_and_history(diff)
        self.report_and_page(diff, drift, status, billing)

    def rows_and_status(self, drift: int, status: str, billing: str) -> None:
        said = self.run("status", "-o", "json").one
        ((*held,),) = rows(self.url, "SELECT status, billing_status, is_locked FROM instance_config")
        assert held == [status, billing, status == "suspended"]
        assert [said[name] for name in ("status", "billing_status", "is_locked")] == held
        assert rows(self.url, "SELECT environment FROM fivrec.applied WHERE kind = 'environment'") == [
            (self.environment,)
        ]
        last = said["last_run"]
        assert (said["environment"], last["drift"]) == (self.environment, drift)
        assert [f"{item['kind']}/{item['name']}" for item in last["former"]] == self.former
        assert rows(self.url, "SELECT command, outcome, drift FROM fivrec.last_run") == [
            (last["command"], last["outcome"], drift)
        ]
        declared = "SELECT email FROM users WHERE role = 'admin' AND environment = %s AND email <> %s"
        others = [("admin/" + email) for (email,) in rows(self.url, declared, self.environment, self.admin)]
        assert others == self.former

    def diff_and_history(self, diff: tuple[str, ...]) -> None:
        shown = self.run("diff", "-o", "json")
        assert tuple(f"{kind}/{name} ({cause})" for kind, name, _, cause in shown.changes()) == diff
        assert shown.code == (2 if diff else 0)
        assert [f"{item['kind']}/{item['name']}" for item in shown.one["former"]] == self.former
        written = rows(self.url, "SELECT kind, name, action, cause FROM fivrec.audit_log WHERE seq > 0 ORDER BY seq")
        told = self.run("history", "-o", "json", "--lines", "500").one["entries"]
        found = [tuple(entry[name] for name in ("kind", "name", "action", "cause")) for entry in reversed(told)]
        assert found == [(kind, name, action, cause) for kind, name, action, cause in written]
        assert len(written) >= self.audited
        self.audited = len(written)
        assert self.run("history", "--verify").code == 0

    def report_and_page(self, diff: tuple[str, ...], drift: int, status: str, billing: str) -> None:
        assert self.run("report", "--out", "report.html").code == 0
        now = sum("(drift)" in one for one in diff)
        report = self.browser.new_page()
        report.goto((self.fivrec.folder / "report.html").as_uri())
        assert _row(report) == _expected_row(self.environment, status, billing, now)
        assert _changes(report) == diff
        assert _former(report) == self.former
        assert (_history(report), _checks(report)) == self.recorded()
        report.close()
        self.page.goto(f"{self.site}/")
        assert _row(self.page) == _expected_row(self.environment, status, billing, drift)
        self.page.goto(f"{self.site}/instances/{INSTANCE}")
        if status == "suspended":
            assert self.page.locator("[data-notice=suspended]").count() == 1
            return
        assert (_changes(self.page), _former(self.page)) == (diff, self.former)
        assert (_history(self.page), _checks(self.page)) == self.recorded()

    def recorded(self) -> tuple[list[str], list[str]]:
        """Returns the newest rows of the audit log and of the status checks, formatted as on a page."""
        audit = "SELECT seq, kind || '/' || name FROM fivrec.audit_log WHERE seq > 0 ORDER BY seq DESC LIMIT 50"
        checks = (
            "SELECT check_type, CASE WHEN success THEN initcap(status_received) "
            "ELSE concat_ws(' ', 'Failed', error_message) END FROM status_check_logs "
            "ORDER BY created_at DESC, id DESC LIMIT 20"
        )
        return [f"{seq} {name}" for seq, name in rows(self.url, audit)], [
            f"{word} {received}" for word, received in rows(self.url, checks)
        ]


def _row(page: Any) -> list[str]:
    cells = ["Status", "Billing", "Access"]
    row = page.locator("tr[data-find]")
    drift = row.locator("td[data-label=Drift] .pill")
    return [
        row.locator("th .tag").first.inner_text(),
        *(row.locator(f"td[data-label={name}]").inner_text() for name in cells),
        drift.inner_text() if drift.count() else "0",
    ]


def _expected_row(environment: str, status: str, billing: str, drift: int) -> list[str]:
    access = "Locked" if status == "suspended" else "Open"
    return [environment, status.capitalize(), billing.capitalize(), access, str(drift)]


def _changes(page: Any) -> tuple[str, ...]:
    found = page.locator("ul.changes li.change:not(:has(.sign:text-is('?')))")
    texts = [(one.locator("strong").inner_text(), one.locator(".muted").first.inner_text()) for one in found.all()]
    return tuple(f"{name} ({about.split(' · ')[1].split()[0]})" for name, about in texts)


def _former(page: Any) -> list[str]:
    return [one.locator("strong").inner_text() for one in page.locator("li.change:has(.sign:text-is('?'))").all()]


def _history(page: Any) -> list[str]:
    assert page.locator("section[aria-labelledby^=history] .pill.verified").count() == 1
    return _cells(page, "history", 0, 4)


def _checks(page: Any) -> list[str]:
    return _cells(page, "checks", 1, 2)


def _cells(page: Any, section: str, *columns: int) -> list[str]:
    table = page.locator(f"section[aria-labelledby^={section}] tbody tr").all()
    cells = [row.locator("td").all_inner_texts() for row in table]
    return [" ".join(found[column].strip() for column in columns) for found in cells]


@contextmanager
def page_of(life: Life, **more: str | None) -> Iterator[None]:
    with serving(life.fivrec, "client.yaml", "--no-checks", **more) as (site, _):
        life.site = site
        life.page = life.browser.new_context(locale="en-US").new_page()
        yield
        life.page.context.close()


@pytest.fixture
def life(fivrec: Fivrec, seed_database: Secret) -> Iterator[Life]:
    """A development instance made by the app, whose administrator can log in."""
    url = fivrec.env["DATABASE_URL"] = seed_database.reveal()
    run_sql(
        url,
        f"UPDATE instance_config SET connect_api_url = '{fivrec.env['FIV_APP_API_URL']}', "
        f"instance_key = '{fivrec.env['FIV_APP_API_KEY']}'",
        "DELETE FROM users WHERE email = 'teste@empresa.com'",
        f"UPDATE users SET environment = 'development', password = '{hash_password(Secret(PASSWORD), 4)}'",
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield Life(fivrec, url, browser)
        browser.close()


@pytest.mark.slow
def test_a_life_as_operators_live_it(life: Life) -> None:
    adopt(life)
    with page_of(life, FIVREC_JWT_KEY=generate_key()):
        life.sign_in()
        life.agree()
        change_and_revert(life)
        drift_is_pulled(life)
        replace_the_administrator_twice(life)
        go_live(life)
        suspend_pay_unlock(life)
    rotate_the_key(life)


def adopt(life: Life) -> None:
    exported = life.fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    assert (exported.code, "environment: development" in exported.stdout) == (0, True), exported.stderr
    life.fivrec.write(exported.stdout)
    life.git("init", "-q", "-b", "main", ".")
    life.commit("What is there")
    users = rows(life.url, "SELECT * FROM users ORDER BY id")
    assert (life.run("diff").code, life.apply().code) == (2, 0)
    assert rows(life.url, "SELECT * FROM users ORDER BY id") == users


QUEUES = "queues:\n  - {name: Sales, description: Vendas}\n  - {name: Night}\n"


def change_and_revert(life: Life) -> None:
    life.replace("queues: []\n", QUEUES.replace("  - {name: Night}\n", ""))
    life.commit("A queue")
    assert life.apply().changes() == [("queue", "Sales", "create", "new")]
    life.agree()
    life.replace(QUEUES.replace("  - {name: Night}\n", ""), QUEUES)
    commit = life.commit("One for the night")
    life.agree(diff=("queue/Night (new)",))
    assert life.apply().changes() == [("queue", "Night", "create", "new")]
    assert rows(life.url, "SELECT git_commit FROM fivrec.last_run") == [(commit,)]
    life.agree()
    life.git("revert", "--no-edit", "HEAD")
    life.agree(diff=("queue/Night (intent)",))
    assert life.apply("--strict").changes() == [("queue", "Night", "deactivate", "intent")]
    assert rows(life.url, "SELECT name, is_active FROM queues ORDER BY name") == [("Night", False), ("Sales", True)]
    life.agree()


def drift_is_pulled(life: Life) -> None:
    run_sql(life.url, "UPDATE queues SET description = '0800' WHERE name = 'Sales'")
    life.agree(diff=("queue/Sales (drift)",))  # only diff looked: the page shows what the last run found
    with watching(life.fivrec, "--report-only") as watch:
        until(lambda: any("found and left" in event["message"] for event in watch.events))
    life.agree(diff=("queue/Sales (drift)",), drift=1)
    assert life.run("drift").code == 2
    pulled = life.run("pull", "--write")
    assert ('+  - {name: Sales, description: "0800"}' in pulled.stdout, life.run("drift").code) == (True, 0)
    life.commit("Sales has a number")
    done = life.apply()
    assert (done.code, done.one["outcome"]) == (0, "in_sync")
    life.agree()


def replace_the_administrator_twice(life: Life) -> None:
    """An adopted administrator is kept and shown; one created by fivrec is demoted, and logged out of the page at
    once."""
    life.replace(f"email: {ANA}", f"email: {NOVA}")
    life.commit("Ana leaves")
    life.former = [f"admin/{ANA}"]
    assert life.apply().code == 0
    life.admin = NOVA
    life.sign_in()
    life.agree()
    life.replace(f"email: {NOVA}", f"email: {CLARA}")
    life.commit("Nova leaves")
    assert set(life.apply().changes()) == {
        ("admin", NOVA, "update", "intent"),
        ("admin", CLARA, "create", "new"),
    }
    life.page.goto(f"{life.site}/instances/{INSTANCE}")
    assert "/login" in life.page.url
    life.admin = CLARA
    life.sign_in()
    life.agree()
    assert life.run("diff", "--strict").code == 1
    run_sql(life.url, f"UPDATE users SET role = 'agent' WHERE email = '{ANA}'")
    life.former = []
    assert life.apply("--strict").code == 0
    life.agree()


GOING = (
    f"environment/{INSTANCE} (intent)",
    f"admin/{CLARA} (intent)",
    "queue/Sales (new)",
    "test_data/queues (intent)",
    "test_data/users (intent)",
)


def go_live(life: Life) -> None:
    life.replace("environment: development\n", "environment:\n  name: production\n  purge_development_data: true\n")
    life.commit("Live")
    assert life.run("production-test").code == 0
    refused = life.apply()
    assert (refused.code, refused.one["error"]["code"]) == (3, "guard")
    asked = life.run("status", "-o", "json").one["last_run"]
    assert (asked["outcome"], asked["error"]) == ("refused", "guard")
    life.rows_and_status(0, "active", "paid")  # as the rows are, which are not production yet
    life.diff_and_history(GOING)
    accept = re.search(r"--accept (\w+)", refused.one["error"]["message"])
    assert accept is not None
    assert life.apply("--accept", accept[1]).code == 0
    life.environment = "production"
    assert rows(life.url, "SELECT email, role, environment FROM users") == [(CLARA, "admin", "production")]
    life.sign_in()
    life.agree()


def suspend_pay_unlock(life: Life) -> None:
    life.fivrec.connect_set("--status", "suspended", "--billing", "overdue")
    assert life.run("check").code == 6
    life.agree(status="suspended", billing="overdue")
    life.fivrec.connect_set("--status", "active", "--billing", "paid")
    assert life.run("check").code == 0
    life.agree()


def rotate_the_key(life: Life) -> None:
    old, new = life.fivrec.env["FIVREC_ENCRYPTION_KEY"], generate_key()
    before = rows(life.url, "SELECT instance_key FROM instance_config")
    life.fivrec.env["FIVREC_ENCRYPTION_KEY"] = f"{new},{old}"
    assert life.fivrec.run("key", "rotate", "client.yaml").code == 0
    life.fivrec.env["FIVREC_ENCRYPTION_KEY"] = new
    assert rows(life.url, "SELECT instance_key FROM instance_config") != before
    with page_of(life, FIVREC_JWT_KEY=generate_key()):
        life.sign_in()
        life.agree()
