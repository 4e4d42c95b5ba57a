"""Starts one server and runs the named suites against it: `python run.py test_xai_sdk.py ai_sdk.test.mjs ../../examples/xai_sdk_image.py`.

`test_*.py` are unittest modules, `*.test.mjs` are suites of `node --test`, anything else is an example: it must end with exit code 0.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness


def command(suite):
    """How a suite is run, and where."""
    path = Path(suite).resolve()
    if path.suffix == ".mjs":
        # Beside its node_modules, where scripts/clients.sh has put it.
        return (["node", "--test", path.name] if path.name.endswith(".test.mjs") else ["node", path.name]), path.parent
    if path.name.startswith("test_"):
        return [sys.executable, "-m", "unittest", path.stem], path.parent
    return (["bash", str(path)] if path.suffix == ".sh" else [sys.executable, str(path)]), None


def main(suites):
    failed = []
    with tempfile.TemporaryDirectory() as data:
        server = harness.Server(harness.binary(), data).start()
        environment = {
            **os.environ,
            "BOREALIS_URL": server.url,
            "BOREALIS_KEY": server.key,
            "PYTHONDONTWRITEBYTECODE": "1",
            # Examples name no address of their own.
            "XAI_API_KEY": server.key,
            "OPENAI_API_KEY": server.key,
        }
        try:
            for suite in suites:
                begin = time.monotonic()
                arguments, folder = command(suite)
                with tempfile.TemporaryDirectory() as scratch:
                    code = subprocess.run(arguments, cwd=folder or scratch, env=environment).returncode
                print(f"{'ok' if code == 0 else 'FAILED'}: {Path(suite).name} ({time.monotonic() - begin:.0f} s)", flush=True)
                if code:
                    failed.append(suite)
        finally:
            code = server.stop()
        if code != 0:
            failed.append(f"the server ended with exit code {code}")
        if failed:
            print(server.logged())
    if failed:
        sys.exit(f"failed: {', '.join(map(str, failed))}")


if __name__ == "__main__":
    main(sys.argv[1:])
