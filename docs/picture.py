"""Take the picture of the page from a real run: ``python docs/picture.py jetson/preview.png``.

The run is ``edgeseg run`` with the shipped model on the rendered street, and the page is what it serves.
It needs Chromium and the package selenium.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 300
RULE = "crowded: area(car) > 5% of roi(road) for 5 frames"


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_frames(address: str, running: subprocess.Popen[bytes]) -> None:
    """Wait until the run has segmented enough frames. Raises RuntimeError when it ended before."""
    while running.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}/api/state", timeout=5) as answer:
                if json.load(answer)["run"]["frames"] >= FRAMES:
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"edgeseg run ended with {running.returncode}")


def take(address: str, target: Path) -> None:
    """Open the page in Chromium and save what it shows."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1280,1750", "--hide-scrollbars"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options)
    try:
        browser.get(f"http://{address}/")
        time.sleep(20)  # its charts begin empty
        browser.save_screenshot(str(target))
    finally:
        browser.quit()


def main(target: Path) -> None:
    """Run the real program, and take the picture."""
    address = f"127.0.0.1:{free_port()}"
    words = [
        "run",
        str(ROOT / "edgeseg/models/street.edgeseg"),
        "--source",
        "demo://street?fps=10",
        "--sink",
        "null://",
    ]
    words += ["--preview", address, "--alarm", RULE, "--on-alarm", "log"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        running = subprocess.Popen([sys.executable, "-m", "edgeseg", *words], cwd=folder, env=environment)
        try:
            wait_for_frames(address, running)
            take(address, target)
        finally:
            running.terminate()
            running.wait()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/picture.py FILE.png")
    main(Path(sys.argv[1]).resolve())
