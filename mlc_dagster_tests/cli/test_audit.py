"""``mlc audit``: what an operator, a DBA and an auditor are told, and with which exit codes."""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster_tests.cli.conftest import json_of, run_mlc
from mlc_dagster_tests.ledger.checkpointed import tamper, write
from mlc_dagster_tests.ledger.population import events
from mlc_dagster_tests.servers.partner_rehearsal import partner_rehearsal

WHO = ("--by", "Ada", "--reason", "quarterly review")


class Site:
    """An mlc.yaml and its ledger."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.document: dict[str, Any] = {
            "fusion": {
                "base_url": "https://pod.example.com",
                "token_url": "https://identity.example.com/oauth2/v1/token",
                "client_id": "id",
                "client_secret": "env:UNUSED",
                "scope": "all",
                "charts": {},
            },
            "poll": {"start": "2026-01-01"},
            "data_dir": "data",
            "alerts": {"to": ["mailto://user:canary-password@example.com", "env:ALERTS"]},
            "audit": {"checkpoint_every": 2},
        }
        self.ledger: Ledger = open_ledger(f"sqlite:///{root / 'data' / 'ledger.sqlite'}", actor="test")
        self.save()

    def save(self) -> None:
        (self.root / "mlc.yaml").write_text(yaml.safe_dump(self.document))

    def sign(self) -> str:
        """A signing key in a file; its fingerprint."""
        made = run_mlc("audit", "keygen", "--out", self.root / "signing.key")
        self.document["audit"]["signing_key"] = "file:signing.key"
        self.save()
        return next(line.split()[1] for line in made.stderr.splitlines() if line.startswith("Fingerprint:"))

    def run(self, *arguments: str | Path) -> Any:
        return run_mlc("--config", self.root / "mlc.yaml", "audit", *arguments)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def test_verify_tells_an_auditor_what_holds(site: Site) -> None:
    """Counts, the head to keep elsewhere, the checkpoints, and what is missing: a key."""
    write(site.ledger, *"abc")
    assert site.run("seal").stdout == "3 events sealed, 2 checkpoints made.\n"
    write(site.ledger, "d")
    done = site.run("verify")
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert "The audit trail holds: 3 events sealed, 1 not sealed yet." in text
    assert "Checkpoints: 2 compared, 0 of them signed; the newest of link 3" in text
    assert str(site.root / "data-checkpoints" / "audit-checkpoints.jsonl") in text
    assert "No signing key (audit.signing_key)" in text


def test_verify_ends_with_1_and_names_the_row(site: Site) -> None:
    """What a monitoring job and a person both need."""
    write(site.ledger, *"abcd")
    site.run("seal")
    tamper(site.ledger, "update audit_event set actor = 'x' where id = 2")
    done = site.run("verify")
    assert done.exit_code == 1
    assert "does NOT hold: event 2 (link 2, test.happened of b) was changed" in done.stderr
    found = json_of(site.run("verify", "--json"))
    assert found["faults"] == ["event 2 (link 2, test.happened of b) was changed"]


def test_signed_checkpoints_need_no_private_key_to_be_verified(site: Site) -> None:
    """The auditor's machine has the public key only."""
    site.sign()
    write(site.ledger, *"abc")
    site.run("seal")
    assert "Checkpoints: 2 compared, signed" in site.run("verify").stdout
    private = (site.root / "signing.key").read_text().strip()
    from mlc_dagster.ledger.checkpoints import SigningKey

    site.document["audit"]["public_keys"] = [SigningKey.from_text(private).public_key]
    site.save()
    (site.root / "signing.key").unlink()
    assert "Checkpoints: 2 compared, signed" in site.run("verify").stdout
    sealed = site.run("seal", "--checkpoint")
    assert sealed.exit_code == 1
    assert "the events are sealed, but there is no checkpoint" in sealed.stderr


def test_a_key_that_comes_later_takes_two_people(site: Site) -> None:
    """Until they say so nothing is signed: the same picture as a trail whose signatures were taken away."""
    write(site.ledger, *"abc")
    assert site.run("seal", "--checkpoint").exit_code == 0
    fingerprint = site.sign()
    write(site.ledger, *"de")
    refused = site.run("seal")
    assert refused.exit_code == 1
    assert "two people say so with `mlc audit new-key`" in refused.stderr
    assert site.run("verify").exit_code == 1
    why = "--reason", "first key, made today"
    assert site.run("new-key", "--by", "Ada Lovelace", "--approved-by", "ada lovelace", *why).exit_code == 2
    done = site.run("new-key", "--by", "Ada Lovelace", "--approved-by", "Grace Hopper", *why)
    assert done.exit_code == 0, done.stderr
    assert f"{fingerprint} signs from now on" in done.stdout
    assert site.run("verify").exit_code == 0


def test_checkpoints_that_are_all_gone_are_not_made_anew(site: Site) -> None:
    """The next run would sign whatever the chain is now, and the trail would hold again."""
    site.sign()
    write(site.ledger, *"abcd")
    assert site.run("seal").exit_code == 0
    tamper(site.ledger, "delete from audit_checkpoint")
    (site.root / "data-checkpoints" / "audit-checkpoints.jsonl").unlink()
    write(site.ledger, *"ef")
    refused = site.run("seal")
    assert refused.exit_code == 1
    assert "links 1 to 4 should have one by now and have none" in refused.stderr
    assert "have no checkpoint, which is due every 2" in site.run("verify").stderr


def test_keygen_keeps_the_key_to_its_owner(site: Site) -> None:
    """Mode 0600, nothing of it on the screen, nothing overwritten."""
    path = site.root / "signing.key"
    made = run_mlc("audit", "keygen", "--out", path)
    private = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(private)) == 32
    assert private not in made.stdout + made.stderr
    assert "Fingerprint: SHA256:" in made.stderr
    again = run_mlc("audit", "keygen", "--out", path)
    assert again.exit_code == 2
    assert "not overwritten" in again.stderr
    assert path.read_text().strip() == private


def test_keygen_prints_for_a_pipe_only_the_key(site: Site) -> None:
    """`| mlc secrets set` takes standard output as the secret."""
    made = run_mlc("audit", "keygen", "--out", "-")
    assert len(base64.b64decode(made.stdout.strip())) == 32
    assert "Public key:" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_a_wrong_key_is_one_line(site: Site) -> None:
    """Without the text that was taken for a key."""
    (site.root / "signing.key").touch(mode=0o600)
    (site.root / "signing.key").write_text("canary-no-key")
    site.document["audit"]["signing_key"] = "file:signing.key"
    site.save()
    done = site.run("verify")
    assert done.exit_code == 2
    assert "audit.signing_key: is neither 32 bytes in base64 nor PEM" in done.stderr
    assert "canary" not in done.stderr


def test_export_makes_a_pack_that_an_auditor_can_check(site: Site) -> None:
    """With the fingerprint that was told, and the verifier taken from the product."""
    fingerprint = site.sign()
    write(site.ledger, *"abc")
    done = site.run("export", "--from", "2026-01-01", "--to", "2099-01-01", "--out", site.root / "pack", *WHO)
    assert done.exit_code == 0, done.stderr
    assert f"Signed by: {fingerprint}" in done.stdout
    # Without -I a file of the pack would run in place of one of Python's.
    assert "python3 -I -S verify_evidence.py --manifest-sha256 " in done.stdout
    assert run_mlc("audit", "verifier", site.root / "verify.py").exit_code == 0
    checked = subprocess.run(
        [sys.executable, "-I", "-S", site.root / "verify.py", site.root / "pack", "--key", fingerprint, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["manifest_signed_by"] == fingerprint
    assert events(site.ledger)[-1]["kind"] == "audit.exported"


def test_a_pack_shows_references_and_no_value(site: Site) -> None:
    """Neither the private key nor an address with a password that somebody wrote into mlc.yaml."""
    site.sign()
    site.run("export", "--from", "2026-01-01", "--to", "2099-01-01", "--out", site.root / "pack", *WHO)
    private = (site.root / "signing.key").read_text().strip()
    text = "".join(path.read_text() for path in (site.root / "pack").rglob("*") if path.is_file())
    assert "canary-password" not in text
    assert private not in text
    configuration = json.loads((site.root / "pack/configuration/settings.json").read_text())
    assert configuration["settings"]["fusion"]["client_secret"] == "env:UNUSED"
    assert configuration["settings"]["alerts"]["to"] == ["mailto://…", "env:ALERTS"]
    assert len(configuration["sha256"]) == 64


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "yesterday", "--to", "2026-02-01"), "--from yesterday: is not a date"),
        (("--from", "2026-02-01", "--to", "2026-02-01"), "must be later than --from"),
    ],
)
def test_a_period_that_is_none_is_refused(site: Site, arguments: tuple[str, ...], told: str) -> None:
    """In one line, before anything is written."""
    done = site.run("export", *arguments, "--out", site.root / "pack", *WHO)
    assert done.exit_code == 2
    assert told in done.stderr
    assert not (site.root / "pack").exists()


def test_a_broken_trail_is_exported_and_said(site: Site) -> None:
    """The auditor needs it most then; the exit code says that it does not hold."""
    write(site.ledger, *"abc")
    site.run("seal")
    tamper(site.ledger, "update audit_event set actor = 'x' where id = 2")
    done = site.run("export", "--from", "2026-01-01", "--to", "2099-01-01", "--out", site.root / "pack.zip", *WHO)
    assert done.exit_code == 1
    assert "control audit_chain_holds (the whole trail) did not hold" in done.stderr
    assert (site.root / "pack.zip").exists()


def test_roles_prints_sql_and_runs_nothing() -> None:
    """For a DBA to read; names of one's own."""
    done = run_mlc("audit", "roles", "--print", "--pipeline", "ap_pipeline", "--schema", "mlc")
    assert done.exit_code == 0
    assert "grant select, insert on mlc.audit_event to ap_pipeline;" in done.stdout
    assert run_mlc("audit", "roles").exit_code == 2
    assert run_mlc("audit", "roles", "--print", "--pipeline", "Robert'); drop").exit_code == 2


def test_a_pack_has_what_the_outbound_controls_found(tmp_path: Path) -> None:
    """Those that ask Fusion and the partner only when told to; one that cannot be compared says why."""
    with partner_rehearsal(tmp_path) as remote:
        remote.stand_still()
        remote.world.add_journal_batch(
            "A", lines=[("101-4410-61200-000-000-000", "100.00", None), ("101-0000-22100-000-000-000", None, "100.00")]
        )
        remote.later()
        assert remote.run().sent
        year = ("--from", "2020-01-01", "--to", "2099-01-01")

        def controls(name: str, *options: str) -> dict[str, bool | None]:
            done = run_mlc(
                "--config", remote.config, "audit", "export", *year, "--out", tmp_path / name, *WHO, *options
            )
            assert done.exit_code == 0, done.stderr
            found = json.loads((tmp_path / name / "control_results.json").read_text())
            return {control["control"]: control["holds"] for control in found}

        alone, asked = controls("alone"), controls("asked", "--ask-remote")
        assert alone["debits_equal_credits"] is alone["sequence_has_no_gap"] is alone["audit_chain_holds"] is True
        assert alone["exported_equals_fusion"] is alone["delivered_bytes_match"] is None
        assert asked == {
            "every_invoice_accounted_for": True, "no_blind_reposts": True, "debits_equal_credits": True,
            "exported_equals_fusion": True, "delivered_bytes_match": True, "sequence_has_no_gap": True,
            "audit_chain_holds": True,
        }  # fmt: skip
        (tmp_path / "partner_password").unlink()
        assert controls("locked", "--ask-remote")["delivered_bytes_match"] is None
    digest = hashlib.sha256((tmp_path / "asked" / "manifest.json").read_bytes()).hexdigest()
    checked = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "asked" / "verify_evidence.py", "--manifest-sha256", digest],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert "Exported: 1 files, 1 documents" in checked.stdout


def test_a_restored_ledger(site: Site) -> None:
    """A fault until two people document it; then told, with exit code 0, and signed."""
    fingerprint = site.sign()
    write(site.ledger, *"abc")
    site.run("seal", "--checkpoint")
    site.ledger.close()
    place = site.root / "data" / "ledger.sqlite"
    copy = place.read_bytes()
    site.ledger = open_ledger(f"sqlite:///{place}", actor="test")
    write(site.ledger, *"defg")
    site.run("seal", "--checkpoint")
    site.ledger.close()
    for path in place.parent.glob("ledger.sqlite*"):
        path.unlink()
    place.write_bytes(copy)
    site.ledger = open_ledger(f"sqlite:///{place}", actor="test")
    fault = site.run("verify")
    assert fault.exit_code == 1
    assert "only then two people document it with mlc audit after-restore" in fault.stderr
    assert site.run("after-restore", "--by", "Ada", "--approved-by", "ada", "--reason", "a backup").exit_code == 2
    unsure = site.run("after-restore", *WHO, "--approved-by", "Grace")
    assert unsure.exit_code == 1
    assert "Restored: to link 3, event 3 of 20" in unsure.stderr
    assert "Lost: links 4 to 7 (4)" in unsure.stderr
    assert site.run("verify").exit_code == 1
    done = site.run("after-restore", *WHO, "--approved-by", "Grace", "--yes")
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "links 4 to 7 (4) were lost when the ledger was restored to link 3" in text
    assert f"Signed by {fingerprint}" in text
    verified = site.run("verify")
    assert verified.exit_code == 0, verified.output
    text = " ".join(verified.stdout.split())
    assert "The audit trail holds, with a documented gap from link 4 to 7" in text
    assert "by Ada, approved by Grace: quarterly review. A checkpoint from before proves the restored links." in text
    assert [gap["first"] for gap in json_of(site.run("verify", "--json"))["gaps"]] == [4]
    again = site.run("after-restore", *WHO, "--approved-by", "Grace")
    assert again.exit_code == 2
    assert "nothing is lost that can be shown" in again.output
