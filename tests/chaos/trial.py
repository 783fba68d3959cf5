# SPDX-License-Identifier: BSD-3-Clause
"""One seed: a survey, mergers, faults, and what is left of it all in the end."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg

from merger.exit_codes import ExitCode
from tests.chaos.bucket import BUCKET, BucketServer
from tests.chaos.faults import Scene, Struck, plan_faults, strike
from tests.chaos.mergers import Mergers, Slot, environment, merge_options, processes_marked
from tests.chaos.network import Network
from tests.chaos.outcome import compare_dumps, compare_findings, compare_with_plan
from tests.chaos.places import ROOT, S3_ENVIRONMENT, Datastore, link_files, write_files
from tests.chaos.recipes import plan_survey
from tests.chaos.survey import RUN
from tests.dumps import Dump, dump, rows
from tests.fix_pgbouncer import Pgbouncer
from tests.own_postgres import OwnPostgres
from transfer_plugins.object_store import open_store

TEMPLATE = "registry_template"

MERGED = (0, 10, 11, 12)
"""Exit codes of a merge that was not hindered."""

_DONE_S = 300
"""Seconds within which the mergers have to be done once no fault happens any more."""

BACKENDS = """
SELECT pid, state, query FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a seed is tried with."""

    n_deltas: int = 2000
    n_mergers: int = 3
    connections: int | None = None
    pgbouncer: str | None = None
    """Program of the pooler, if one stands between."""
    datastore: str = "both"
    """``s3``, ``file``, or ``both``: every other seed."""

    @property
    def n_faults(self) -> int:
        """Faults of a seed, nearly all of which have to hit."""
        return max(6, min(16, self.n_deltas // 125))


@dataclass(slots=True)
class Trial:
    """What came of a seed."""

    seed: int
    datastore: str = ""
    struck: list[Struck] = field(default_factory=list)
    exit_codes: dict[str, int] = field(default_factory=dict)
    n_started: int = 0
    n_kills: int = 0
    n_deltas: int = 0
    n_conflicts: int = 0
    n_quarantined: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage: faults, until the mergers were done, until they ended, looking at the outcome."""
    wall_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    directory: str | None = None
    """What was kept, if something was wrong."""

    @property
    def n_hit(self) -> int:
        """Faults that met somebody."""
        return sum(one.is_hit for one in self.struck)

    def by_kind(self) -> dict[str, int]:
        """Faults that met somebody, by kind."""
        return dict(Counter(one.fault.kind for one in self.struck if one.is_hit))


def run_trial(seed: int, settings: Settings, server: OwnPostgres) -> Trial:
    """Try a seed; everything is removed unless something was wrong."""
    began = time.monotonic()
    is_s3 = settings.datastore == "s3" or (settings.datastore == "both" and seed % 2 == 0)
    trial = Trial(seed, "s3" if is_s3 else "file")
    directory = Path(tempfile.mkdtemp(prefix=f"qe-chaos-{seed}-"))
    try:
        with ExitStack() as stack:
            running = Running(stack, seed, settings, server, directory, is_s3=is_s3)
            stack.callback(running.end, trial)
            running.run(trial)
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(directory)
        raise
    except Exception:
        # The others are to be tried all the same.
        trial.problems.append(traceback.format_exc())
        if not server.is_running():
            server.start()
    trial.wall_s = time.monotonic() - began
    if trial.problems:
        trial.directory = str(directory)
        (directory / "trial.json").write_text(json.dumps(asdict(trial), indent=1, default=str))
    else:
        shutil.rmtree(directory)
    return trial


class Running:
    """A seed that is being tried."""

    def __init__(
        self,
        stack: ExitStack,
        seed: int,
        settings: Settings,
        server: OwnPostgres,
        directory: Path,
        *,
        is_s3: bool,
    ) -> None:
        self.directory, self.server = directory, server
        self.rng = random.Random(f"running {seed}")
        self.forgotten: list[str] = []
        self.survey = plan_survey(seed, settings.n_deltas)
        self.faults = plan_faults(seed, settings.n_faults, has_bucket=is_s3)
        half = len(self.faults) // 2
        # Somebody also works with the RUN meanwhile.
        self.interventions = {half: self._archive} if seed % 3 else {}
        if "--remerge" in merge_options() and seed % 3 != 1:
            self.interventions[half + 1] = self._forget
        self.database = f"chaos_{seed}"
        self.files = directory / "datastore"
        write_files(self.files, self.survey.early())
        for name in ("", "_clean", "_shuffled"):
            _create_database(server, f"{self.database}{name}")
            stack.callback(_drop_database, server, f"{self.database}{name}")
        bucket = _start_bucket(stack, directory, self.files) if is_s3 else None
        self.datastore = _open_datastore(self.files, bucket)
        port = _start_pooler(stack, settings, server, directory)
        network = stack.enter_context(Network())
        slots = [
            Slot(n, network.wire(port), network.wire(bucket.port) if bucket else None)
            for n in range(settings.n_mergers)
        ]
        arguments = [self.datastore.uri, RUN]
        self.mergers = Mergers(
            *(directory, arguments, self.database, slots, seed),
            connections=settings.connections,
        )
        self.scene = Scene(
            *(network, server, self.database, self.mergers, self.rng),
            is_pooled=settings.pgbouncer is not None,
        )

    @property
    def address(self) -> str:
        """URL of the database that the mergers fill, past all proxies."""
        return self.server.address(self.database)

    def run(self, trial: Trial) -> None:
        """Do everything, and note what is wrong."""
        survey = self.survey
        trial.n_deltas, trial.n_conflicts = len(survey.deltas), len(survey.conflicts)
        trial.n_quarantined = len(survey.quarantine)
        self.mergers.start()
        with _timed(trial, "faults"):
            trial.problems += self._trouble()
        with _timed(trial, "done"):
            trial.problems += self._wait_until_done()
        with _timed(trial, "ended"):
            self.mergers.settle(60)
            trial.problems += self._left_over()
        n_hit = sum(one.is_hit for one in self.scene.struck)
        if n_hit < len(self.faults) * 3 // 4:
            trial.problems.append(f"only {n_hit} of {len(self.faults)} faults met anybody")
        with _timed(trial, "outcome"):
            trial.problems += self._compare()

    def end(self, trial: Trial) -> None:
        """End all processes, and note what became of them."""
        self.mergers.kill()
        trial.problems += self.mergers.problems
        trial.exit_codes = self.mergers.exit_codes()
        trial.n_started = sum(slot.n_started for slot in self.mergers.slots)
        trial.struck, trial.n_kills = self.scene.struck, self.scene.n_kills

    def _trouble(self) -> Iterator[str]:
        late = self.survey.late(self.rng)
        for number, fault in enumerate(self.faults):
            if self._is_hopeless():
                return
            # What is left is shared out, so that there is something to merge at every fault.
            if number in self.interventions:
                yield from self.interventions[number]()
            n_now = len(late) // (len(self.faults) - number)
            self.datastore.put(late[:n_now])
            late = late[n_now:]
            self.scene.struck.append(strike(self.scene, fault))
        self.datastore.put(late)

    def _wait_until_done(self) -> Iterator[str]:
        deadline = time.monotonic() + _DONE_S
        n_wanted = len(self.survey.ledger)
        while (n_merged := self._count_merged()) < n_wanted and time.monotonic() < deadline:
            if self._is_hopeless():
                break
            time.sleep(0.1)
        if n_merged < n_wanted:
            yield f"the mergers were not done: {n_merged} of {n_wanted} deltas"

    def _archive(self) -> Iterator[str]:
        code, report = self._registry_merge("archive", None, self.datastore.uri)
        if code not in (0, 11, 12):
            yield f"archive: exit code {code}, {report}"

    def _forget(self) -> Iterator[str]:
        """Take out some quanta that are merged; they come back with the last merge only."""
        found = rows(
            self.address, "SELECT DISTINCT quantum_id::text FROM merged_attempt ORDER BY 1"
        )
        some = [q for (q,) in self.rng.sample(found, min(5, len(found)))]
        chosen = [word for quantum_id in some for word in ("--quantum", quantum_id)]
        code, report = self._registry_merge("forget", self.address, None, "--yes", *chosen)
        statement = "SELECT attempt_id::text FROM merged_attempt WHERE forgotten ORDER BY 1"
        self.forgotten = [attempt_id for (attempt_id,) in rows(self.address, statement)]
        if code != 0 or len(self.forgotten) < len(some):
            yield f"forget: exit code {code}, {self.forgotten} forgotten, {report}"

    def _remerge(self) -> Iterator[str]:
        statement = "SELECT attempt_id::text FROM attempt WHERE attempt_id = ANY(%s::uuid[])"
        if back := rows(self.address, statement, self.forgotten):
            yield f"forgotten, and merged again without being told to: {back}"
        code, report = self._registry_merge("merge", self.address, self.datastore.uri, "--remerge")
        if code not in MERGED or report.get("n_deltas_merged") != len(self.forgotten):
            yield f"merge --remerge of {len(self.forgotten)}: exit code {code}, {report}"

    def _is_hopeless(self) -> bool:
        """Whether so much is wrong with the mergers that there is no use in going on."""
        return len(self.mergers.problems) > 5

    def _count_merged(self) -> int:
        ((n_merged,),) = rows(self.address, "SELECT count(*) FROM merged_attempt")
        return int(n_merged)

    def _left_over(self) -> Iterator[str]:
        if found := processes_marked(self.directory):
            deadline = time.monotonic() + 15
            while (found := processes_marked(self.directory)) and time.monotonic() < deadline:
                time.sleep(0.1)
        if found:
            yield f"processes are left: {found}"
        deadline = time.monotonic() + 30
        while (left := self._backends()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            yield f"backends are left: {left}"

    def _backends(self) -> list[object]:
        with psycopg.connect(self.server.address(), autocommit=True) as connection:
            found = connection.execute(BACKENDS, (self.database,)).fetchall()
        # A pooler keeps its sessions; none may be in a transaction.
        return [one for one in found if not (self.scene.is_pooled and one[1] == "idle")]

    def _compare(self) -> Iterator[str]:
        if self.forgotten:
            yield from self._remerge()
        code, report = self._registry_merge("merge", self.address, self.datastore.uri)
        if code not in MERGED or report.get("n_deltas_merged") != 0:
            yield f"a merge when all is done: exit code {code}, {report}"
        yield from compare_with_plan(self.address, self.survey)
        code, report = self._registry_merge("verify", self.address, self.datastore.uri)
        if code != ExitCode.DIFFERENCES:
            yield f"verify: expected exit code 13, found {code}"
        yield from compare_findings(report, self.survey)
        found = dump(self.address)
        self._keep("chaos", found)
        yield from self._compare_with(found, "one undisturbed merge", "_clean", 1)
        yield from self._compare_with(found, "merges in another order", "_shuffled", 2)

    def _compare_with(self, found: Dump, what: str, name: str, n_parts: int) -> Iterator[str]:
        address = self.server.address(f"{self.database}{name}")
        together = sorted(self.survey.together)
        keys = [d.key for d in self.survey.deltas if d.key not in self.survey.together]
        self.rng.shuffle(keys)
        directory = self.directory / f"datastore{name}"
        link_files(self.files, directory, [o.key for o in self.survey.graphs])
        batch_size = str(self.rng.choice([100, 300, 4000]))
        for part in range(n_parts):
            link_files(self.files, directory, keys[part::n_parts] + together * (part == 0))
            code, report = self._registry_merge(
                "merge", address, f"file://{directory}", "--batch-size", batch_size
            )
            if code not in MERGED:
                yield f"{what}: exit code {code}, {report}"
        wanted = dump(address)
        self._keep(name.strip("_"), wanted)
        yield from compare_dumps(found, wanted, what)

    def _keep(self, name: str, dumped: Dump) -> None:
        (self.directory / f"{name}.json").write_text(json.dumps(dumped, indent=1))

    def _registry_merge(
        self, command: str, address: str | None, uri: str | None, *words: str
    ) -> tuple[int, dict[str, object]]:
        """Run a command past all proxies; returns its exit code and what it reports."""
        named = [uri, RUN] if uri else [RUN]
        done = subprocess.run(
            [sys.executable, "-m", "merger.cli", command, *named, "--json", *words],
            env=os.environ
            | environment(self.directory, None)
            | ({"REGISTRY_MERGE_DATABASE": address} if address else {})
            | self.datastore.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            return done.returncode, json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            return done.returncode, {"stdout": done.stdout, "stderr": done.stderr}


@contextmanager
def _timed(trial: Trial, stage: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    trial.seconds[stage] = round(time.monotonic() - began, 1)


def _create_database(server: OwnPostgres, name: str) -> None:
    server.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    server.execute("CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE)


def _drop_database(server: OwnPostgres, name: str) -> None:
    if server.is_running():
        server.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def _start_bucket(stack: ExitStack, directory: Path, files: Path) -> BucketServer:
    server = BucketServer(files, directory / "bucket.log")
    stack.callback(server.stop)
    return server


def _open_datastore(files: Path, bucket: BucketServer | None) -> Datastore:
    if bucket is None:
        return Datastore(files, None)
    os.environ.update(S3_ENVIRONMENT)
    endpoint = f"http://127.0.0.1:{bucket.port}"
    return Datastore(files, open_store(f"s3://{BUCKET}", endpoint_url=endpoint))


def _start_pooler(
    stack: ExitStack, settings: Settings, server: OwnPostgres, directory: Path
) -> int:
    if settings.pgbouncer is None:
        return server.port
    place = directory / "pgbouncer"
    place.mkdir()
    directory.chmod(0o755)
    pooler = Pgbouncer(settings.pgbouncer, place, server.address(), pool_size=8)
    stack.callback(pooler.stop)
    return pooler.port
