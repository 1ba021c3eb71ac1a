"""The JSON API over a real socket: what it answers, whom it refuses, and what fuzzing finds."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from review_parts import config, drawn, filled, keep, row, token_of

from pipeline.bench.storm import free_port
from pipeline.errors import ConfigError, StageError
from pipeline.review.desk import Desk
from pipeline.review.facts import Role
from pipeline.review.serving import Served, refuse_open_doors

pytest.importorskip("fastapi", reason="needs the extra [review]")
PASSWORD = "correct horse"
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]
SPAN = {"since": "2026-03-01T12:00:00Z", "until": "2026-03-01T13:00:00Z"}
REJECT = 78  # of `drawn`


class Web:
    """A station that is served."""

    def __init__(self, folder: Path, **review: Any) -> None:
        self.line = config(folder, review={"port": free_port()} | review)
        self.store = filled(self.line, drawn(100))
        keep(self.line, self.store, REJECT)
        self.desk = Desk(self.line)
        self.served = Served(self.line, self.desk, pages=False)

    def __enter__(self) -> "Web":
        self.served.__enter__()
        self.client = httpx.Client(base_url=self.served.address, trust_env=False)
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self.served.__exit__()
        self.desk.close()
        self.store.close()

    def csrf(self) -> dict[str, str]:
        return {"X-CSRF-Token": self.client.get("/api/session").json()["csrf"]}


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[Web]:
    """Without accounts: everybody on this machine is local."""
    with Web(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture
def locked(tmp_path) -> Iterator[Web]:
    """With two accounts."""
    with Web(tmp_path) as web:
        web.desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
        web.desk.accounts.add("root", "quinn", Role.QUALITY, PASSWORD)
        yield web


PANEL = f"/api/panels/{token_of(REJECT)}"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/panels", "application/json"),
        (PANEL, "application/json"),
        (f"{PANEL}/thumb", "image/jpeg"),
        (f"{PANEL}/pictures/top_dark", "image/png"),
        (f"{PANEL}/pictures/top_dark?kind=jpeg", "image/jpeg"),
        (f"{PANEL}/heat", "image/png"),
        (f"{PANEL}/outlines", "application/json"),
        ("/api/find?text=P0000", "application/json"),
        ("/api/codes", "application/json"),
        ("/api/products", "application/json"),
        ("/api/pulse", "application/json"),
        ("/api/live", "application/json"),
        ("/api/audit?who=eve&panel=P0000", "application/json"),
        ("/api/audit/chain", "application/json"),
        (f"/api/shift?{httpx.QueryParams(SPAN)}", "application/json"),
        (f"/api/shift.csv?{httpx.QueryParams(SPAN)}", "text/csv"),
        ("/api/docs", "text/html"),
        ("/api/openapi.json", "application/json"),
    ],
)
def test_everything_is_there(web, path, kind):
    answer = web.client.get(path)
    assert answer.status_code == 200 and answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["x-frame-options"] == "DENY" and answer.headers["x-content-type-options"] == "nosniff"
    kept = "immutable" if kind.startswith("image") else "no-store"
    assert kept in answer.headers["cache-control"]


def test_the_page_of_the_api_needs_nothing_from_elsewhere(web):
    page = web.client.get("/api/docs").text
    assert "http://" not in page.replace("http://127.0.0.1", "") and "https://" not in page and "<script" not in page


def test_a_list_goes_on_by_its_cursor(web):
    first = web.client.get("/api/panels", params={"limit": 4}).json()
    second = web.client.get("/api/panels", params={"limit": 200, "cursor": first["next"]}).json()
    seqs = [one["seq"] for one in [*first["rows"], *second["rows"]]]
    assert seqs == sorted(seqs, reverse=True) and len(set(seqs)) == 10 and second["next"] is None


def test_a_decision_needs_the_token_of_the_page(web):
    wish = {"finding": "defective", "code": "dust"}
    refused = web.client.post(f"{PANEL}/findings", json=wish)
    assert refused.status_code == 403 and "X-CSRF-Token" in refused.json()["error"]
    assert web.client.post(f"{PANEL}/findings", json=wish, headers={"X-CSRF-Token": "x"}).status_code == 403
    done = web.client.post(f"{PANEL}/findings", json=wish, headers=web.csrf())
    assert done.json()["state"] == "done" and done.json()["by"] == "local"
    assert web.client.delete(f"{PANEL}/findings", headers=web.csrf()).json()["state"] == "open"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "http://elsewhere.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "elsewhere.example"}, 400)],
)
def test_another_sites_page_is_refused(web, headers, status):
    assert web.client.get("/api/pulse", headers=headers).status_code == status


def test_our_own_page_is_not(web):
    assert web.client.get("/api/pulse", headers={"Origin": web.served.address}).status_code == 200


def test_bad_input_is_told_and_nothing_falls(web):
    for path, status in (
        ("/api/panels?cursor=x", 400),
        ("/api/panels?limit=0", 422),
        ("/api/panels?since=yesterday", 422),
        ("/api/panels?sinse=2026-03-01T12:00:00Z", 422),
        ("/api/find?text=%00", 422),
        ("/api/panels/..%2F..%2Fetc", 404),
        (f"{PANEL}/pictures/..%2F..%2F..%2Fstore.sqlite", 404),
        ("/api/shift?since=2026-03-01T12:00:00Z&until=2026-03-01T12:00:00Z", 400),
    ):
        assert web.client.get(path).status_code == status, path
    bad = web.client.post(f"{PANEL}/findings", content=b"\xff{", headers=web.csrf())
    assert bad.status_code == 422


def test_with_accounts_nobody_comes_in_without_a_log_in(locked):
    document = locked.client.get("/api/openapi.json").json()
    for path, methods in document["paths"].items():
        if "get" in methods:
            url = path.replace("{token}", token_of(REJECT)).replace("{name}", "top_dark")
            assert locked.client.get(url, params=SPAN | {"text": "x"}).status_code in (401, 422), path
    assert locked.client.post(f"{PANEL}/findings", json={"finding": "good"}).status_code == 401


def test_a_log_in_sets_a_cookie_that_scripts_cannot_read(locked):
    wrong = locked.client.post("/api/session", json={"name": "eve", "password": "wrong"})
    assert wrong.status_code == 403 and "set-cookie" not in wrong.headers
    entered = locked.client.post("/api/session", json={"name": "eve", "password": PASSWORD})
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and entered.json()["person"]["role"] == "operator"
    for path in ("/api/audit", "/api/audit/chain"):
        assert locked.client.get(path).status_code == 403
    done = locked.client.post(f"{PANEL}/findings", json={"finding": "good"}, headers=locked.csrf())
    assert done.json()["by"] == "eve"
    assert locked.client.delete("/api/session", headers=locked.csrf()).status_code == 204
    assert locked.client.get("/api/pulse").status_code == 401


def test_to_inspect_again_needs_the_token_of_the_page_and_an_engineer(locked):
    locked.client.post("/api/session", json={"name": "quinn", "password": PASSWORD})
    assert "X-CSRF-Token" in locked.client.post(f"{PANEL}/again").json()["error"]
    refused = locked.client.post(f"{PANEL}/again", headers=locked.csrf())
    assert refused.status_code == 403 and "engineer" in refused.json()["error"]
    locked.desk.accounts.set_role("root", "quinn", Role.ENGINEER)
    refused = locked.client.post(f"{PANEL}/again", headers=locked.csrf())
    assert refused.status_code == 403 and "cannot be inspected again" in refused.json()["error"]  # no recipe lies there


def test_a_store_that_is_away_is_said_and_the_station_goes_on(tmp_path):
    with Web(tmp_path) as web:
        path = web.store.place.file
        web.store.close()
        web.desk.close()
        away = path.with_suffix(".away")
        path.rename(away)
        path.mkdir()
        answer = web.client.get("/api/pulse")
        assert answer.status_code == 503 and "\n" not in answer.json()["error"]
        path.rmdir()
        away.rename(path)
        assert web.client.get("/api/pulse").status_code == 200


# --- whom it lets in ---


@pytest.mark.parametrize(
    ("review", "accounts", "said"),
    [
        ({"address": "192.0.2.1"}, True, "name certificate and private_key"),
        ({"address": "192.0.2.1", "certificate": "c", "private_key": "k"}, False, "takt users add"),
        ({"address": "0.0.0.0", "certificate": "c", "private_key": "k"}, True, "review.names"),
        ({"address": "nonsense"}, True, "no IP address"),
        ({"certificate": "c"}, True, "go together"),
    ],
)
def test_beyond_this_machine_only_with_tls_and_accounts(tmp_path, review, accounts, said):
    with pytest.raises(ConfigError, match=said):
        refuse_open_doors(Desk(config(tmp_path, review=review)).settings, accounts=accounts)


def test_an_address_that_is_taken_is_one_line(web, tmp_path):
    line = config(tmp_path, review={"port": web.desk.settings.port})
    filled(line, []).close()
    desk = Desk(line)
    with pytest.raises(StageError, match="name a free port"), Served(line, desk, pages=False):
        pass
    desk.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_with_tls_the_cookie_is_secure(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    with Web(tmp_path, certificate=str(certificate), private_key=str(key)) as web:
        web.desk.accounts.add("root", "eve", Role.OPERATOR, PASSWORD)
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=web.served.address, verify=trusted, trust_env=False) as client:
            entered = client.post("/api/session", json={"name": "eve", "password": PASSWORD})
            assert "secure" in entered.headers["set-cookie"].lower()
            assert client.get("/api/pulse").status_code == 200


# --- fuzzing ---


def fuzz(web: Web, examples: int) -> None:
    """schemathesis draws requests from the OpenAPI document, and holds the answers against it."""
    schemathesis = pytest.importorskip("schemathesis", reason="needs the extra [dev]")
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_dict(web.client.get("/api/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    headers = web.csrf()

    @settings(max_examples=examples, deadline=None, suppress_health_check=SLOW)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        case = data.draw(data.draw(st.sampled_from(operations)).as_strategy())
        answer = case.call(base_url=web.served.address, headers=headers, timeout=10)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])  # a cursor that nobody gave is one

    holds()


def test_no_request_brings_an_answer_that_the_document_does_not_tell(web):
    fuzz(web, 40)


@pytest.mark.slow
def test_none_of_many_requests_does(web):
    fuzz(web, 1500)


def test_a_panel_that_comes_is_shown_at_once(web):
    before = web.client.get("/api/pulse").json()
    web.store.add_panels([row(500, "REJECT")], {})
    assert web.client.get("/api/pulse").json()["open_rejects"] == before["open_rejects"] + 1
