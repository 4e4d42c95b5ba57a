"""What /openapi.json says is what the server does: requests that schemathesis makes up get no 5xx and no answer that is not in the document."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import harness

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
# Per operation and phase; about 2,000 requests in all.
EXAMPLES = 3


class Document(unittest.TestCase):
    def test_made_up_requests(self):
        with tempfile.TemporaryDirectory() as data:
            # Everything has a price and the account has nothing: requests are checked to their end, and none is made.
            server = harness.Server(harness.binary(), data, ["--image-price", "1,1", "--video-price", "1,1,1"]).start()
            try:
                command = [harness.binary(), "keys", "create", "--account", "poor", "--credits", "0", "--data", data]
                said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
                key = harness.KEY.search(said)[0]
                command = [
                    Path(sys.executable).with_name("st"), "run", f"{server.url}/openapi.json", "--header", f"Authorization: Bearer {key}",
                    "--checks", CHECKS, "--max-examples", str(EXAMPLES), "--phases", "coverage,fuzzing", "--seed", "20261121",
                    "--continue-on-failure", "--no-color", "--request-timeout", "60",
                ]
                run = subprocess.run(command, capture_output=True, text=True, cwd=data)
                self.assertEqual(run.returncode, 0, f"{run.stdout[-6000:]}{run.stderr[-2000:]}")
            finally:
                code = server.stop()
            self.assertEqual(code, 0)


if __name__ == "__main__":
    unittest.main()
