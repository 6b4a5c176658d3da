"""Segments on the workers of a cluster: the same products, whatever dies on the way."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from contextlib import suppress

import psutil
import pytest

import tso3
from compare_products import identical
from tso3 import cluster, cluster_client, cluster_start, cluster_worker, pipeline
from tso3.cli import main
from tso3.errors import ClusterError, InputError, OutputError, ParameterError, Tso3Error, Tso3Warning
from tso3.progress import SilentProgress
from tso3.simulate import simulate

pytest.importorskip("distributed")

KILLED_ONCE = """
import os, pathlib, signal
from tso3 import lane, spectral_lane  # so that the first task finds everything imported

if "consume" not in globals():  # dask runs this twice
    consume = spectral_lane.SpectralRecipe.consume
folder = pathlib.Path(os.environ["TSO3_TEST_KILL"])
victim = folder.with_name("victim")

def killed_once(recipe, block, gathered, rows):
    consume(recipe, block, gathered, rows)
    if victim.exists():
        os.kill(int(victim.read_text()), signal.SIGKILL)
    if folder.exists() and block.start >= gathered.segments.start + 3 and gathered.segments.first == 2:
        folder.rmdir()
        os.kill(os.getpid(), signal.SIGKILL)

spectral_lane.SpectralRecipe.consume = killed_once
"""
"""
Loaded by the workers: as long as a folder exists, the process that reduces the third segment is killed in it; or
another one whose number is in a file.
"""


class Cluster:
    """A scheduler and two workers on this machine, started as a user would."""

    def __init__(self, folder):
        self.fatal = folder / "fatal"
        self.victim = folder / "victim"
        hook = folder / "killed_once.py"
        hook.write_text(KILLED_ONCE)
        self.log = (folder / "log").open("wb")
        self.processes = []
        address = folder / "scheduler.json"
        self.start("scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard", f"--scheduler-file={address}")
        options = ("--nworkers=2", "--nthreads=1", "--no-dashboard", "--memory-limit=0", f"--local-directory={folder}")
        self.start("worker", f"--scheduler-file={address}", *options, f"--preload={hook}")
        until = time.monotonic() + 60
        while not address.exists() and time.monotonic() < until:
            time.sleep(0.05)
        self.address = json.loads(address.read_text())["address"]

    def start(self, kind, *options):
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
                env=os.environ | {"TSO3_TEST_KILL": str(self.fatal)},
            )
        )

    def end(self):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.end()


@pytest.fixture(scope="module")
def spectra(tmp_path_factory):
    """Small frames of a spectrum, in three segments."""
    folder = tmp_path_factory.mktemp("spectra")
    return simulate("MIR_LRS-SLITLESS", folder, n_int=24, segments=(8, 9, 7), seed=3)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images in two segments."""
    return simulate("NRC_TSIMAGE", tmp_path_factory.mktemp("images"), n_int=20, segments=(9, 11), seed=3)


def reduced(visit, folder, **options):
    return tso3.run(visit.association, folder, overrides=visit.references, **options)


@pytest.fixture(scope="module")
def expected(spectra, images, tmp_path_factory):
    """What one process gives."""
    cases = {("spectra", preset): reduced(spectra, tmp_path_factory.mktemp("one"), preset=preset, workers=1)
             for preset in ("default", "archive")}  # fmt: skip
    return cases | {("images", "archive"): reduced(images, tmp_path_factory.mktemp("one"), preset="archive")}


def check_same(result, expected):
    assert result.products.keys() == expected.products.keys()
    for kind, paths in expected.products.items():
        assert [path.name for path in result.products[kind]] == [path.name for path in paths]
        for one, other in zip(result.products[kind], paths, strict=True):
            identical(one, other).check()
    assert result.exposures == expected.exposures


def check_nothing_else(folder, result):
    """No temporary file, no part, nothing hidden."""
    known = {path.name for paths in result.products.values() for path in paths}
    assert {path.name for path in folder.iterdir()} == known


class Noted(SilentProgress):
    """Notes what is shown."""

    def __init__(self):
        self.stages, self.messages, self.done, self.lock = [], [], [], threading.Lock()

    def start(self, stage, total):
        self.stages.append((stage, total))
        self.done.append(0)

    def advance(self, n=1):
        with self.lock:
            self.done[-1] += n

    def message(self, text):
        self.messages.append(text)


@pytest.mark.parametrize(("kind", "preset"), [("spectra", "archive"), ("images", "archive")])
def test_two_workers_give_the_products_of_one_process(running, expected, kind, preset, request, tmp_path, monkeypatch):
    visit = request.getfixturevalue(kind)
    monkeypatch.chdir(tmp_path)  # workers are elsewhere
    inputs = os.path.relpath(visit.association)
    shown = Noted()
    result = tso3.run(
        inputs, "out", preset=preset, overrides=visit.references, scheduler=running.address, progress=shown
    )
    check_same(result, expected[kind, preset])
    check_nothing_else(tmp_path / "out", result)
    assert shown.done == [total for _, total in shown.stages]
    assert not shown.messages


def test_a_killed_worker_costs_its_segment_only(running, spectra, expected, tmp_path):
    running.fatal.mkdir()
    shown = Noted()
    result = reduced(spectra, tmp_path, scheduler=running.address, block_size=1, progress=shown)
    assert not running.fatal.exists()  # it was killed
    check_same(result, expected["spectra", "default"])
    check_nothing_else(tmp_path, result)
    again = [text for text in shown.messages if "done again" in text]
    assert len(again) == 1
    assert "seg003" in again[0]
    assert all(text.startswith("rectified to columns") for text in shown.messages if text not in again)
    assert shown.done == [total for _, total in shown.stages] == [24, 24]


def test_an_error_of_a_worker_is_one_line_and_leaves_whole_products(running, spectra, tmp_path, capsys):
    (tmp_path / "jw01366011001_04103_00001-seg003_mirimage_o011_crfints.fits").mkdir()
    arguments = ["run", str(spectra.association), "-o", str(tmp_path), "--preset", "archive", "--quiet"]
    arguments += [f"--override-{kind}={path}" for kind, path in spectra.references.items()]
    assert main([*arguments, "--scheduler", running.address]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "seg003_mirimage_o011_crfints.fits: cannot be written: a folder has this name" in lines[0]
    until = time.monotonic() + 10  # the other worker learns of it at its next block
    while any(path.name.startswith(".") for path in tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(path.name.endswith("_crfints.fits") for path in tmp_path.iterdir())


def test_warnings_of_workers_are_shown_once(running, spectra, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(spectra.association.parent, folder)
    for path in folder.glob("*_calints.fits"):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"TARGNAME= '", b"TARGNAME= \xb0", 1))
    with pytest.warns(Tso3Warning, match="repaired in the copy") as told:
        result = tso3.run(
            folder / spectra.association.name,
            tmp_path / "out",
            preset="archive",
            overrides=spectra.references,
            scheduler=running.address,
        )
    texts = [str(warning.message) for warning in told]
    assert sum("repaired in the copy" in text for text in texts) == 3
    assert sorted(result.warnings) == sorted(set(texts))


def test_processes_of_this_machine_give_the_same(spectra, expected, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    (temporary / ".tso3-1-0123abcd-local-workers.parts" / "left by one that was killed").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    result = reduced(spectra, tmp_path / "out", cluster="local:2", max_memory="400MiB")
    check_same(result, expected["spectra", "default"])
    check_nothing_else(tmp_path / "out", result)
    assert not list(temporary.glob(".tso3*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "tcp://127.0.0.1:9"}, "tcp://127.0.0.1:9: no scheduler can be reached here .*; start one"),
        ({"scheduler": "nothing://here"}, "nothing://here: no scheduler can be reached here .*nothing"),
        ({"cluster": "local:0"}, "cluster: 'local:0' is not local:N"),
        ({"cluster": "many"}, "cluster: 'many' is not local:N"),
        ({"cluster": "local:2", "scheduler": "tcp://127.0.0.1:9"}, "cluster: was given together with a scheduler"),
    ],
)
def test_what_is_no_cluster_is_one_line(options, message, spectra, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_client, "_PATIENCE", 0.5)
    with pytest.raises(Tso3Error, match=message) as raised:
        reduced(spectra, tmp_path / "out", **options)
    assert isinstance(raised.value, (ClusterError, ParameterError))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


SAID = """
import sys
from tso3 import cluster_client
from tso3.cli import main

cluster_client._PATIENCE = 0.5
inputs = sys.argv[2:]
for address in sys.argv[1].split():
    assert main(["run", *inputs, "-q", "--scheduler", address]) == 2
    sys.stderr.flush()
"""
"""Calls the command with one address after the other."""


def said_by_a_process(script, *arguments, folder):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, cwd=folder, timeout=60
    )
    return done.stderr.splitlines()


@pytest.fixture
def strangers():
    """Two servers that are no scheduler: one that says nothing, one that speaks HTTP."""
    servers, kept = [], []

    def serve(server, answer):
        with suppress(OSError):
            while True:
                kept.append(server.accept()[0])
                kept[-1].sendall(answer)

    for answer in (b"", b"HTTP/1.0 400 Bad request\r\n\r\n"):
        servers.append(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=serve, args=(servers[-1], answer), daemon=True).start()
    yield [f"tcp://127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for each in [*servers, *kept]:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_the_command_tells_in_one_line_what_is_no_scheduler(spectra, strangers, tmp_path):
    known = {
        "foo": "missing port",
        "nothing://x": "unknown address scheme",
        "tls://127.0.0.1:9": "no TLS keys",
        "tcp://127.0.0.1:9": "no scheduler can be reached here",
        strangers[0]: "something answers here, but not as a Dask scheduler",
        strangers[1]: "something answers here, but not as a Dask scheduler",
    }
    started = time.monotonic()
    lines = said_by_a_process(SAID, " ".join(known), spectra.association, folder=tmp_path)
    assert len(lines) == len(known)
    for line, (address, text) in zip(lines, known.items(), strict=True):
        assert line.startswith(f"tso3: error: {address}: ")
        assert text in line
    assert time.monotonic() - started < 25  # a client that is not closed costs 20 s each
    assert not list(tmp_path.iterdir())


def test_no_scheduler_for_several_observations_is_one_line(spectra, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster_client, "_PATIENCE", 0.5)
    inputs = [str(spectra.association), str(images.association)]
    assert main(["run", *inputs, "-o", str(tmp_path), "-q", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("tso3: error: tcp://127.0.0.1:9: no scheduler")


def test_a_worker_in_place_of_the_scheduler_is_told(running):
    with cluster_client.connected(running.address) as client:
        worker = cluster_client.workers_of(client)[0]
    with (
        pytest.raises(ClusterError, match=f"{worker}: a Worker of Dask answers here"),
        cluster_client.connected(worker),
    ):
        pass


def test_a_client_that_fails_is_closed_at_once(running, monkeypatch):
    from distributed import Client

    made = []

    async def refused(client, timeout=None):
        made.append(client)
        raise ValueError("refused")

    monkeypatch.setattr(Client, "_ensure_connected", refused)
    with pytest.raises(ClusterError, match="refused"), cluster_client.connected(running.address):
        pass
    assert [client.status for client in made] == ["closed"]  # else its destructor waits and writes a traceback


def test_a_silent_worker_is_named(running, monkeypatch):
    with cluster_client.connected(running.address) as client:
        name, process = next(iter(client.run(os.getpid).items()))
    monkeypatch.setattr(cluster_client, "_PATIENCE", 1.0)
    os.kill(process, signal.SIGSTOP)
    try:
        expected = pytest.raises(ClusterError, match=f"no answer from the worker {name} in 1 s")
        with expected, cluster_client.connected(running.address):
            pass
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_scheduler_that_says_nothing_is_told_once():
    shown = Noted()

    class Silent:
        status = "running"
        scheduler = types.SimpleNamespace(address="tcp://here")

        def sync(self, function, callback_timeout):
            raise TimeoutError

    here = cluster.Cluster(Silent(), None, (None, "a"))
    told = here._look_after(shown, "")
    assert here._look_after(shown, told) == told
    assert shown.messages == ["tcp://here: the scheduler does not answer; waiting for it"]


def test_a_scheduler_that_was_lost_before_is_told(tmp_path):
    client = types.SimpleNamespace(scheduler=types.SimpleNamespace(address="tcp://here"), status="closed")
    with pytest.raises(ClusterError, match=r"^tcp://here: the connection to the scheduler was lost$"):
        list(cluster.Cluster(client, None, (tmp_path, "a")).run(print, [], "stage", SilentProgress()))


def test_a_worker_that_came_later_is_named_if_it_differs(running, spectra, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_client, "_check_workers", lambda client, address: None)
    monkeypatch.setattr(cluster, "facts", lambda: cluster_worker.facts() | {"numpy": "99.0"})
    with pytest.raises(ClusterError, match=r"^tcp://.*: the worker has numpy .* \(the run 99.0\); end it"):
        reduced(spectra, tmp_path / "out", preset="archive", scheduler=running.address)
    assert not (tmp_path / "out").exists()


def test_a_worker_without_tso3_is_told():
    class Failed:
        def result(self):
            raise ModuleNotFoundError("No module named 'tso3'")

    client = types.SimpleNamespace(scheduler=types.SimpleNamespace(address="tcp://here"))
    with pytest.raises(ClusterError, match=r"tcp://here: a worker cannot use tso3 \(No module named 'tso3'\)"):
        cluster.Cluster(client, None, (None, "a"))._result(Failed())


def test_another_processor_is_warned_of_once(running, spectra, tmp_path, monkeypatch):
    import llvmlite.binding

    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_name", lambda: "another")
    with pytest.warns(Tso3Warning) as told:
        result = reduced(spectra, tmp_path, preset="archive", scheduler=running.address)
    texts = [str(warning.message) for warning in told if "processor" in str(warning.message)]
    assert len(texts) == 1
    assert "than the run (another): numbers are those of one process to within rounding" in texts[0]
    assert texts[0] in result.warnings


def test_workers_that_ended_are_told_with_their_error(tmp_path):
    log = tmp_path / "log"
    log.write_text("1 - distributed.nanny - ERROR - out of\tsorts\n1 - distributed.nanny - INFO - Closing\n")
    assert cluster_start._last_error(log) == ": 1 - distributed.nanny - ERROR - out of sorts"
    log.write_text("Traceback:\nModuleNotFoundError: No module named 'x'\n1 - distributed.nanny - INFO - Closing\n")
    assert cluster_start._last_error(log) == ": ModuleNotFoundError: No module named 'x'"
    log.write_text("1 - distributed.nanny - INFO - Closing\n")
    assert cluster_start._last_error(log) == ""


def test_a_group_is_killed_though_its_leader_has_ended():
    started = subprocess.Popen(
        ["sh", "-c", "sleep 60 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    other = psutil.Process(int(started.stdout.readline()))
    assert started.wait() == 0
    cluster_start._kill(started)
    assert not other.is_running() or other.status() == psutil.STATUS_ZOMBIE
    started.stdout.close()


def test_an_empty_folder_of_a_run_that_failed_is_removed(spectra, tmp_path, monkeypatch):
    def fails(*arguments):
        raise OutputError("failed", "here")

    monkeypatch.setattr(pipeline, "run_lanes", fails)
    (tmp_path / "known").mkdir()
    for name in ("new", "known"):
        with pytest.raises(OutputError, match="here: failed"):
            reduced(spectra, tmp_path / name, preset="archive")
    assert [path.name for path in tmp_path.iterdir()] == ["known"]


def test_workers_with_another_version_are_refused(running, spectra, tmp_path, monkeypatch):
    monkeypatch.setattr(tso3, "__version__", "99.0")
    with pytest.raises(ClusterError, match=r"the worker tcp://.* has tso3 .* \(here 99.0\); install the same"):
        reduced(spectra, tmp_path, scheduler=running.address)


def test_a_missing_package_is_told(spectra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"needs the package distributed .*; install tso3\[distributed\]"):
        reduced(spectra, tmp_path, cluster="local:2")


@pytest.mark.parametrize("kind", [InputError, OutputError, ParameterError, ClusterError])
def test_errors_come_back_from_another_process_as_they_are(kind):
    error = pickle.loads(pickle.dumps(kind("found this", "a.fits")))
    assert type(error) is kind
    assert str(error) == "a.fits: found this"
    assert (error.found, error.where) == ("found this", "a.fits")


LOST = """
import sys
from tso3.cli import main

sys.exit(main(["run", *sys.argv[1:], "-q"]))
"""


def test_a_lost_scheduler_is_one_line(running, spectra, tmp_path):
    """The last one: no other test can use the cluster after it."""
    running.victim.write_text(str(running.processes[0].pid))
    overrides = [f"--override-{kind}={path}" for kind, path in spectra.references.items()]
    arguments = [spectra.association, "-o", tmp_path / "out", "--preset=archive", "--block-size=1", *overrides]
    lines = said_by_a_process(LOST, *arguments, "--scheduler", running.address, folder=tmp_path)
    assert lines == [f"tso3: error: {running.address}: the connection to the scheduler was lost"]
    assert not list((tmp_path / "out").glob(".*"))
