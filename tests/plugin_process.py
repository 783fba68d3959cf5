# SPDX-License-Identifier: BSD-3-Clause
"""The transfer plugin as a process, asked in the way of HTCondor, answers read by its bindings."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import classad2

# HTCondor fills the file for the answer with this many spaces, and asks not to truncate it.
N_SPACES = 19264
COMMAND: list[str | Path] = [sys.executable, "-m", "transfer_plugins.htcondor_plugin"]

Ad = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the plugin said: exit code, result ads, and its standard error."""

    exit_code: int
    ads: list[Ad]
    stderr: str

    def is_success(self) -> bool:
        """Whether exit code and all ads say so."""
        return self.exit_code == 0 and all(ad["TransferSuccess"] is True for ad in self.ads)


def write_infile(path: Path, requests: Sequence[tuple[str, Path]]) -> None:
    """Write the input ads with HTCondor's own writer."""
    ads = [classad2.ClassAd({"Url": url, "LocalFileName": str(name)}) for url, name in requests]
    path.write_text("".join(f"{ad}\n" for ad in ads))


def read_ads(text: str) -> list[Ad]:
    """Read result ads with HTCondor's own reader."""
    return [{name: ad[name] for name in ad.keys()} for ad in classad2.parseAds(text)]


class PluginCall:
    """One call of the plugin in a scratch directory."""

    def __init__(
        self,
        scratch: Path,
        requests: Sequence[tuple[str, Path]],
        environment: Mapping[str, str],
        *,
        is_upload: bool = False,
        job_ad: Mapping[str, str | int] | None = None,
        command: Sequence[str | Path] | None = None,
    ) -> None:
        self.infile, self.outfile = scratch / ".plugin.in", scratch / ".plugin.out"
        write_infile(self.infile, requests)
        self.outfile.write_bytes(b" " * N_SPACES)
        variables = {"PATH": os.environ["PATH"], "HOME": str(scratch), **environment}
        if job_ad is not None:
            variables["_CONDOR_JOB_AD"] = str(scratch / ".job.ad")
            (scratch / ".job.ad").write_text(classad2.ClassAd(dict(job_ad)).printOld())
        words = ["-infile", str(self.infile), "-outfile", str(self.outfile)]
        self.process = subprocess.Popen(
            [*(command or COMMAND), *words, *(["-upload"] if is_upload else [])],
            cwd=scratch,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self, timeout_s: float = 60) -> Answer:
        """Wait for the end of the process; it is killed when time is up."""
        try:
            _, stderr = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        assert self.outfile.stat().st_size >= N_SPACES, "the file was truncated"
        return Answer(self.process.returncode, read_ads(self.outfile.read_text()), stderr)


def call_plugin(
    scratch: Path,
    requests: Sequence[tuple[str, Path]],
    environment: Mapping[str, str],
    **options: Any,
) -> Answer:
    """Call the plugin and wait for its answer."""
    return PluginCall(scratch, requests, environment, **options).answer()
