# SPDX-License-Identifier: BSD-3-Clause
"""The plugin as a process, without a service: what it can, and what it says to bad requests."""

import subprocess
import sys
from pathlib import Path

import classad2
import pytest

from registry.errors import FormatError
from tests.plugin_process import COMMAND, N_SPACES, PluginCall, call_plugin, read_ads
from transfer_plugins.plugin_protocol import JOB_SCHEME, OBJECT_SCHEME, read_settings, split_url


def test_capabilities_as_htcondor_reads_them() -> None:
    done = subprocess.run([*COMMAND, "-classad"], capture_output=True, text=True, check=True)
    ad = classad2.parseOne(done.stdout, classad2.ParserType.Old)
    assert ad["MultipleFileSupport"] is True
    assert (ad["PluginType"], ad["ProtocolVersion"]) == ("FileTransfer", 2)
    assert set(ad["SupportedMethods"].split(",")) == {OBJECT_SCHEME, JOB_SCHEME}
    assert done.stderr == ""


def test_capabilities_are_told_without_slow_imports() -> None:
    # HTCondor asks twice for each job, and for boto3 alone it would wait 0.4 s.
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], "-classad"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.split("|")[2].strip() for line in done.stderr.splitlines()}
    slow = {"boto3", "botocore", "ssl", "http.client", "asyncio", "sqlite3", "concurrent.futures"}
    assert "transfer_plugins.classads" in imported
    assert not slow & imported


def test_console_script_is_the_plugin() -> None:
    script = Path(sys.executable).with_name("quantum_exec_plugin")
    done = subprocess.run([script, "-classad"], capture_output=True, text=True, check=True)
    assert f'SupportedMethods = "{OBJECT_SCHEME},{JOB_SCHEME}"' in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-help"],
        ["-infile"],
        ["-infile", "a"],
        ["-outfile", "a"],
        ["-infile", "a", "-outfile", "b", "-download"],
        ["-infile", "a", "-infile", "b"],
        ["-classad", "-infile", "a"],
    ],
)
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: quantum_exec_plugin -classad | -infile FILE")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_upload", [False, True])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://b/k", "expected a URL of qs3:// or qs3job://, found 's3://b/k'"),
        ("/etc/passwd", "expected a URL of qs3:// or qs3job://, found '/etc/passwd'"),
        ("qs3://bucket", "expected qs3://bucket/key, found 'qs3://bucket'"),
        ("qs3:///key", "expected qs3://bucket/key, found 'qs3:///key'"),
        ("qs3job://b/k.json", "expected "),
    ],
)
def test_url_that_is_none_of_ours(tmp_path: Path, url: str, message: str, is_upload: bool) -> None:
    (tmp_path / "x").write_bytes(b"x")
    answer = call_plugin(tmp_path, [(url, tmp_path / "x")], {}, is_upload=is_upload)
    assert answer.exit_code == 1
    (ad,) = answer.ads
    assert (ad["TransferSuccess"], ad["TransferUrl"]) == (False, url)
    assert ad["TransferFileName"] == str(tmp_path / "x")
    assert message in ad["TransferError"]
    assert ad["TransferType"] == ("upload" if is_upload else "download")


@pytest.mark.parametrize("is_upload", [False, True])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[ Url = ", "ClassAd: expected"),
        ("no ads at all", "ClassAd: expected '['"),
        ("[ a = {;} ]", "ClassAd: expected"),
        ('[ Url = "qs3://b/k" ]', "expected Url and LocalFileName as strings"),
        ('[ Url = 1; LocalFileName = "x" ]', "expected Url and LocalFileName as strings"),
        ('[ LocalFileName = "x" ]', "expected Url and LocalFileName as strings"),
        (None, "No such file or directory"),
    ],
)
def test_bad_input_ads_end_in_an_ad(
    tmp_path: Path, text: str | None, message: str, is_upload: bool
) -> None:
    infile, outfile = tmp_path / "in", tmp_path / "out"
    if text is not None:
        infile.write_text(text)
    outfile.write_bytes(b" " * N_SPACES)
    words = ["-infile", str(infile), "-outfile", str(outfile), *(["-upload"] if is_upload else [])]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    (ad,) = read_ads(outfile.read_text())
    assert (done.returncode, ad["TransferSuccess"]) == (1, False)
    assert message in ad["TransferError"]
    assert {"TransferUrl", "TransferFileName"} <= ad.keys()


def test_one_bad_ad_among_others_has_its_own_answer(tmp_path: Path) -> None:
    text = '[ Url = "qs3://b/1" ] [ Url = "qs3://b/2"; LocalFileName = "/x/2" ]'
    call = PluginCall(tmp_path, [], {}, command=["sleep", "0"])
    call.process.communicate()
    call.infile.write_text(text)
    words = ["-infile", str(call.infile), "-outfile", str(call.outfile)]
    done = subprocess.run([*COMMAND, *words], capture_output=True)
    ads = read_ads(call.outfile.read_text())
    assert done.returncode == 1
    assert [ad["TransferUrl"] for ad in ads] == ["qs3://b/1", "qs3://b/2"]
    assert "expected Url and LocalFileName" in ads[0]["TransferError"]
    assert ads[1]["TransferError"] == "not tried after the first that failed"


def test_nothing_to_transfer_is_no_failure(tmp_path: Path) -> None:
    answer = call_plugin(tmp_path, [], {})
    assert (answer.exit_code, answer.ads, answer.stderr) == (0, [], "")


def test_ads_without_a_url_are_settings_and_no_requests(tmp_path: Path) -> None:
    infile, outfile = tmp_path / "in", tmp_path / "out"
    infile.write_text('[ PluginData = [ Retries = 3 ]; Protocol = "qs3" ]\n')
    outfile.write_bytes(b" " * N_SPACES)
    words = ["-infile", str(infile), "-outfile", str(outfile)]
    assert subprocess.run([*COMMAND, *words]).returncode == 0
    assert outfile.read_bytes() == b" " * N_SPACES


def test_answer_may_be_longer_than_the_file(tmp_path: Path) -> None:
    requests = [(f"s3://bucket/{number}", tmp_path / f"{number}") for number in range(400)]
    answer = call_plugin(tmp_path, requests, {})
    assert [ad["TransferUrl"] for ad in answer.ads] == [url for url, _ in requests]
    assert not any(ad["TransferSuccess"] for ad in answer.ads)
    assert (tmp_path / ".plugin.out").stat().st_size > N_SPACES


def test_error_data_has_the_fields_of_the_protocol(tmp_path: Path) -> None:
    (ad,) = call_plugin(tmp_path, [("s3://b/k", tmp_path / "x")], {}).ads
    (error,) = ad["TransferErrorData"]
    assert error["ErrorType"] == "Transfer"
    assert error["ErrorString"] == ad["TransferError"]
    assert {"Retryable", "PluginVersion"} <= set(error.keys())
    assert isinstance(ad["ConnectionTimeSeconds"], float)
    assert ad["TransferTotalBytes"] == ad["TransferFileBytes"] == 0


@pytest.mark.parametrize("name", ["é ü/x", 'quo"te', "back\\slash", "tab\there", "semi;colon]}"])
def test_file_names_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    (ad,) = call_plugin(tmp_path, [("s3://b/k", tmp_path / name)], {"LC_ALL": "C"}).ads
    assert ad["TransferFileName"] == str(tmp_path / name)


@pytest.mark.parametrize("written", [b"/scratch/\xff", rb"/scratch/\377"])
def test_file_name_that_is_no_utf8_comes_back_as_well(tmp_path: Path, written: bytes) -> None:
    infile, outfile = tmp_path / "in", tmp_path / "out"
    infile.write_bytes(b'[ Url = "s3://b/k"; LocalFileName = "%s" ]' % written)
    outfile.write_bytes(b" " * N_SPACES)
    words = ["-infile", str(infile), "-outfile", str(outfile)]
    assert subprocess.run([*COMMAND, *words]).returncode == 1
    assert b'TransferFileName = "/scratch/\xff"' in outfile.read_bytes()


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("qs3://b/k", "b", "k"),
        ("qs3://My-Bucket.1/a/b c/d.fits", "My-Bucket.1", "a/b c/d.fits"),
        ("qs3://b/a%2520b%2Fc", "b", "a%20b/c"),
        ("qs3://b/%C3%A9", "b", "é"),
    ],
)
def test_url_is_split(url: str, bucket: str, key: str) -> None:
    assert split_url(url) == (bucket, key)


@pytest.mark.parametrize("url", ["qs3://b/a?x=1", "qs3://b/a#x", "qs3://b", "qs3://b/", "qs3://"])
def test_url_that_names_no_object_is_refused(url: str) -> None:
    with pytest.raises(FormatError, match="expected qs3://bucket/key, found"):
        split_url(url)


@pytest.mark.parametrize(
    ("line", "deadline_s"),
    [
        ("", 1800),
        ("= 900", 900),
        ("= 0", 1800),
        ("= -5", 1800),
        ('= "x"', 1800),
        ("= 1 + 1", 1800),
        ("= 99999999999999", 2_592_000),
    ],
)
def test_deadline_is_that_of_the_job_ad(tmp_path: Path, line: str, deadline_s: int) -> None:
    (tmp_path / "job.ad").write_text(f"A = [ x = 1 ;\nQuantumExecTransferDeadline {line}\nZ = 1\n")
    settings = read_settings({"_CONDOR_JOB_AD": str(tmp_path / "job.ad")})
    assert (settings.deadline_s, settings.endpoint_url) == (deadline_s, None)


@pytest.mark.parametrize("environment", [{}, {"_CONDOR_JOB_AD": "/no/such/file"}])
def test_job_ad_may_be_missing(environment: dict[str, str]) -> None:
    assert read_settings(environment).deadline_s == 1800
